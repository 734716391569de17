version 1.0

task split {
  input {
    File text
    Int least = 1
    String? suffix
  }
  command <<<
    tr ' ' '\n' < "~{text}" | awk 'length($0) >= ~{least} {print $0 "~{default="" suffix}"}'
  >>>
  output {
    File out = stdout()
  }
}

task count {
  input {
    File text
    Boolean unique = false
  }
  command <<<
    sort ~{if unique then "-u" else ""} "~{text}" | wc -l
  >>>
  output {
    Int lines = read_int(stdout())
  }
}
