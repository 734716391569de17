version development

workflow directories {
  input {
    Directory folder
    Array[Directory] more = []
    String suffix = "copy"
  }
  call copy { input: folder = folder, suffix = suffix }
  output {
    Directory copied = copy.out
    File listing = copy.listing
    Int others = length(more)
  }
}

task copy {
  input {
    Directory folder
    String suffix
  }
  command <<<
    mkdir result result/deeper
    for f in $(cd "~{folder}" && ls); do cp "~{folder}/$f" "result/$f.~{suffix}"; done
    echo deep > result/deeper/file
    find result -type f | sort
  >>>
  output {
    Directory out = "result"
    File listing = stdout()
  }
}
