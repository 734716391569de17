version 1.0

import "lib/per_sample.wdl" as samples

workflow subworkflow_inputs {
  input {
    File text
  }
  call samples.per_sample as sample { input: text = text }
  call samples.per_sample as open
  output {
    File split_words = sample.split_words
    Int number = open.number
  }
}
