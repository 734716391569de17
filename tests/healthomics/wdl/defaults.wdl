version 1.0

workflow defaults {
  input {
    File text
    Int first = 1
    Int last = first + 1
    String mark = "line ~{first}"
  }
  call cut { input: text = text, first = first, last = last, mark = mark }
  output {
    File part = cut.out
    Int lines = last - first + 1
  }
}

task cut {
  input {
    File text
    Int first
    Int last
    String mark
  }
  command <<<
    echo "~{mark}"
    sed -n '~{first},~{last}p' "~{text}"
  >>>
  output {
    File out = stdout()
  }
}
