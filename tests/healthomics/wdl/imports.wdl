version 1.0

import "lib/per_sample.wdl" as samples
import "lib/deep/words.wdl" as words

workflow imports {
  input {
    Array[File] texts
  }
  scatter (text in texts) {
    call samples.per_sample { input: text = text }
  }
  call words.split as once_more { input: text = texts[0], least = 2 }
  output {
    Array[Int] numbers = per_sample.number
    Array[File] splits = per_sample.split_words
    File longer = once_more.out
  }
}
