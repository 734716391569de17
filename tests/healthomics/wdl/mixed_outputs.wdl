version 1.0

struct Result {
  String name
  File text
  Array[File] parts
  Float? score
}

workflow mixed_outputs {
  input {
    File text
  }
  call parts { input: text = text }
  output {
    Result result = object { name: "r", text: text, parts: parts.out, score: 0.1 }
    Map[String, Result] by_name = { "one": object { name: "n", text: text, parts: [] } }
    Array[Pair[String, File]] listed = [("a", text), ("b", parts.out[0])]
  }
}

task parts {
  input {
    File text
  }
  command <<<
    split -l 1 "~{text}" part-
  >>>
  output {
    Array[File] out = glob("part-*")
  }
}
