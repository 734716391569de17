version 1.0

workflow optionals {
  input {
    File text
    File? mask
    String? label
    Int? least
    Array[File]? extra
  }
  call describe { input: text = text, mask = mask, label = label, least = least, extra = extra }
  output {
    File report = describe.out
    File? masked = describe.masked
    Int? floor = least
    String? named = label
  }
}

task describe {
  input {
    File text
    File? mask
    String label = "none"
    Int? least
    Array[File]? extra
  }
  Array[File] more = select_first([extra, []])
  command <<<
    echo "label ~{label} least ~{default="unset" least} extra ~{length(more)}"
    cat "~{text}"
    ~{if defined(mask) then "cp '" + mask + "' masked.txt" else ""}
  >>>
  output {
    File out = stdout()
    File? masked = "masked.txt"
  }
}
