version 1.0

struct Summary {
  Int total
  Float mean
  Array[String] names
  Map[String, Boolean] flags
  Pair[Int, Int]? range
}

workflow values_only {
  input {
    Array[Int]+ numbers
    Map[String, Boolean] flags = {}
  }
  call add { input: numbers = numbers }
  output {
    Int total = add.total
    Summary summary = object {
      total: add.total,
      mean: add.total / 2.0,
      names: ["a", "b"],
      flags: flags,
      range: (numbers[0], add.total)
    }
  }
}

task add {
  input {
    Array[Int] numbers
  }
  command <<<
    echo $((~{sep=" + " numbers}))
  >>>
  output {
    Int total = read_int(stdout())
  }
}
