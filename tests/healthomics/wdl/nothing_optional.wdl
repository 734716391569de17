version 1.0

workflow nothing_optional {
  input {
    String word = "nobody"
    File? text
  }
  call maybe { input: text = text }
  output {
    File? copy = maybe.out
    String said = word
    Array[String] words = [word, "x y"]
  }
}

task maybe {
  input {
    File? text
  }
  command <<<
    ~{if defined(text) then "cp '" + text + "' copy.txt" else "true"}
  >>>
  output {
    File? out = "copy.txt"
  }
}
