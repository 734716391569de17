version 1.1

workflow nested_allowed {
  meta {
    description: "Inputs of calls may be set"
    allowNestedInputs: true
  }
  input {
    String word
  }
  call repeat { input: word = word }
  output {
    File out = repeat.out
  }
}

task repeat {
  input {
    String word
    Int times = 1
    Array[String] others = []
  }
  command <<<
    for i in $(seq ~{times}); do echo ~{word} ~{sep(",", others)}; done
  >>>
  output {
    File out = stdout()
  }
}
