version 1.0

workflow conditional {
  input {
    File text
    Boolean sort
    Array[Boolean] each
  }
  if (sort) {
    call order { input: text = text }
  }
  scatter (one in each) {
    if (one) {
      call order as again { input: text = text }
    }
  }
  output {
    File result = select_first([order.out, text])
    File? ordered = order.out
    Array[File?] several = again.out
    Array[Boolean] asked = each
  }
}

task order {
  input {
    File text
  }
  command <<<
    sort "~{text}" > ordered.txt
  >>>
  output {
    File out = "ordered.txt"
  }
}
