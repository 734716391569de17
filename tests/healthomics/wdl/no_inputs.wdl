version 1.0

workflow no_inputs {
  call roll
  output {
    File dice = roll.out
    Map[String, Int] sides = {"coin": 2, "die": 6}
  }
}

task roll {
  command <<<
    seq 1 6 | tr '\n' ' '
  >>>
  output {
    File out = stdout()
  }
}
