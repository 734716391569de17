version 1.0

workflow pairs {
  input {
    Pair[File, File] reads
    Pair[String, Int] tag
    Array[Pair[String, File]] labelled
  }
  call interleave { input: first = reads.left, second = reads.right, tag = tag.left }
  scatter (one in labelled) {
    call size { input: name = one.left, text = one.right }
  }
  output {
    File both = interleave.out
    Pair[File, File] ends = (interleave.out, reads.right)
    Pair[String, Int] same = (tag.left, tag.right + 1)
    Array[Pair[String, Int]] sizes = zip(size.label, size.bytes)
  }
}

task interleave {
  input {
    File first
    File second
    String tag
  }
  command <<<
    echo "~{tag}" > both.txt
    paste -d '\n' "~{first}" "~{second}" >> both.txt
  >>>
  output {
    File out = "both.txt"
  }
}

task size {
  input {
    String name
    File text
  }
  command <<<
    wc -c < "~{text}"
  >>>
  output {
    Int bytes = read_int(stdout())
    String label = name
  }
}
