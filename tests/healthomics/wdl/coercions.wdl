version 1.0

workflow coercions {
  input {
    String number
    Float whole
    Int from_text
    Boolean flag
    Array[String] mixed
    Map[String, String] words
  }
  call write { input: lines = [number, "~{whole}", "~{from_text}", "~{flag}"] }
  output {
    File out = write.out
    Array[String] strings = mixed
    Map[String, String] texts = words
    Float more = whole + 0.5
  }
}

task write {
  input {
    Array[String] lines
  }
  command <<<
    cat "~{write_lines(lines)}"
  >>>
  output {
    File out = stdout()
  }
}
