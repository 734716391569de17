version 1.0

import "deep/words.wdl" as words

workflow per_sample {
  input {
    File text
  }
  call words.split { input: text = text }
  call words.count { input: text = split.out }
  output {
    File split_words = split.out
    Int number = count.lines
  }
}
