version 1.0

import "tasks/count.wdl" as counting

workflow words {
  input {
    Array[File]+ texts
    String label
    Int least = 1
    Boolean upper = false
    Float? share
  }
  parameter_meta {
    texts: "text files, one count each"
    least: {description: "drop words seen fewer times"}
  }
  scatter (text in texts) {
    call counting.count { input: text = text, upper = upper }
  }
  call merge { input: counts = count.counts, least = least, label = label, share = share }
  call digest { input: table = merge.table }
  output {
    File table = merge.table
    Array[File] counts = count.counts
    File digest_file = digest.out
    Int words = merge.words
  }
}

task merge {
  input {
    Array[File] counts
    Int least
    String label
    Float? share
  }
  command <<<
    set -euo pipefail
    printf '# %s %s\n' '~{label}' '~{default="-" share}' > table.txt
    cat ~{sep=" " counts} \
      | awk '{n[$2] += $1} END {for (w in n) if (n[w] >= ~{least}) print n[w], w}' \
      | LC_ALL=C sort -k1,1nr -k2,2 >> table.txt
    wc -l < table.txt
  >>>
  output {
    File table = "table.txt"
    Int words = read_int(stdout()) - 1
  }
  runtime {
    cpu: 1
    memory: "256 MB"
    docker: "ubuntu:22.04"
  }
}

task digest {
  input {
    File table
  }
  command <<<
    cksum < ~{table} > digest.txt
  >>>
  output {
    File out = "digest.txt"
  }
  runtime {
    docker: "ubuntu:22.04"
  }
}
