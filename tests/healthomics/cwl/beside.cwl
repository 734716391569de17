# Files beside files, in and out.
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c]
arguments:
  - cat "$0" "$0.idx" "\$(dirname "$0")/\$(basename "$0" .fa).dict" > out.fa; echo index > out.fa.idx
  - $(inputs.reference.path)
inputs:
  reference:
    type: File
    secondaryFiles: [.idx, ^.dict, .extra?]
outputs:
  made:
    type: File
    secondaryFiles: [{pattern: .idx, required: true}]
    outputBinding: {glob: out.fa}
