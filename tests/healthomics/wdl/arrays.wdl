version 1.0

workflow arrays {
  input {
    Array[File]+ texts
    Array[Int] lengths
    Array[String] names = []
    Array[Float]+ rates
  }
  scatter (text in texts) {
    call count { input: text = text }
  }
  call join { input: parts = count.out, lengths = lengths, names = names }
  output {
    Array[File] counts = count.out
    File all = join.out
    Array[Int] doubled = join.doubled
    Array[Float] same = rates
    Array[String] both = names
  }
}

task count {
  input {
    File text
  }
  command <<<
    wc -w < "~{text}" > "~{basename(text)}.count"
  >>>
  output {
    File out = "~{basename(text)}.count"
  }
}

task join {
  input {
    Array[File] parts
    Array[Int] lengths
    Array[String] names
  }
  command <<<
    cat ~{sep=" " parts} > all.txt
    cat "~{write_lines(names)}" >> all.txt
    for n in ~{sep=" " lengths}; do echo $((n * 2)); done > doubled.txt
  >>>
  output {
    File out = "all.txt"
    Array[Int] doubled = read_lines("doubled.txt")
  }
}
