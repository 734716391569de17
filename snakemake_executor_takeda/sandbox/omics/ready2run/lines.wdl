version 1.0

# The smallest Ready2Run stand-in: how many lines a text has.
workflow lines {
  input { File text }
  parameter_meta { text: "Any text file" }
  call count { input: text = text }
  output { File table = count.table }
}

task count {
  input { File text }
  command <<< wc -l < ~{text} | tr -d ' ' > lines.txt >>>
  output { File table = "lines.txt" }
  runtime { docker: "debian"  cpu: 1  memory: "1 GiB" }
}
