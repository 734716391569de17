version 1.0

import "lib/sample.wdl"

workflow structs {
  input {
    Sample sample
    Array[Sample] others = []
    Region? target
  }
  call show { input: sample = sample }
  output {
    File shown = show.out
    Sample same = sample
    Region first = sample.regions[0]
    Region? aim = target
    Int number = length(others)
  }
}

task show {
  input {
    Sample sample
  }
  command <<<
    echo "~{sample.id} ~{length(sample.regions)} ~{sample.regions[0].chromosome}"
    cat "~{sample.text}"
  >>>
  output {
    File out = stdout()
  }
}
