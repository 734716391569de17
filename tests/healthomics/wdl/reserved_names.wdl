version 1.0

workflow reserved_names {
  input {
    File index
    Int count
    String lambda
    Array[String] items
  }
  call use { input: index = index, count = count, lambda = lambda, items = items }
  output {
    File sort = use.out
    Int size = count
    String keys = lambda
  }
}

task use {
  input {
    File index
    Int count
    String lambda
    Array[String] items
  }
  command <<<
    echo "~{count} ~{lambda} ~{sep=":" items}"
    head -n 1 "~{index}"
  >>>
  output {
    File out = stdout()
  }
}
