version 1.0

workflow nested_arrays {
  input {
    Array[Array[File]]+ groups
    Array[Array[Int]] matrix
    Array[Array[String]] single
  }
  scatter (group in groups) {
    call merge { input: files = group }
  }
  output {
    Array[File] merged = merge.out
    Array[Array[File]] back = groups
    Array[Array[Int]] table = matrix
    Array[Array[String]] words = single
  }
}

task merge {
  input {
    Array[File] files
  }
  command <<<
    cat ~{sep=" " files} > merged.txt
    mv merged.txt "~{length(files)}-~{basename(files[0])}"
  >>>
  output {
    File out = "~{length(files)}-~{basename(files[0])}"
  }
}
