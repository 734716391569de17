version 1.0

task count {
  input {
    File text
    Boolean upper
  }
  command <<<
    set -euo pipefail
    tr -cs 'A-Za-z' '\n' < ~{text} \
      | ~{if upper then "tr a-z A-Z" else "cat"} \
      | LC_ALL=C sort | uniq -c | awk '{print $1, $2}' > "~{basename(text)}.counts"
  >>>
  output {
    File counts = "~{basename(text)}.counts"
  }
  runtime {
    cpu: 1
    docker: "ubuntu:22.04"
  }
}
