version 1.1

workflow maps {
  input {
    Map[String, Int] weights
    Map[Int, String] names = {1: "one"}
    Map[String, File] by_sample
    Map[String, Array[Float]] series
  }
  scatter (entry in as_pairs(by_sample)) {
    call tag { input: name = entry.left, text = entry.right }
  }
  output {
    Array[File] tagged = tag.out
    Map[String, Int] same = weights
    Map[Int, String] numbered = names
    Map[String, File] files = by_sample
    Map[String, Array[Float]] rows = series
  }
}

task tag {
  input {
    String name
    File text
  }
  command <<<
    sed 's/^/~{name}: /' "~{text}" > "~{name}.txt"
  >>>
  output {
    File out = "~{name}.txt"
  }
}
