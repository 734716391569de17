# A scatter and a gather over files; types by their short words.
cwlVersion: v1.2
class: Workflow
label: Counts words
requirements:
  ScatterFeatureRequirement: {}
inputs:
  texts: File[]
  label: string?
outputs:
  counts:
    type: File[]
    outputSource: count/counted
  table:
    type: File
    outputSource: join/joined
steps:
  count:
    run: tools/count.cwl
    scatter: text
    in: {text: texts}
    out: [counted]
  join:
    run: tools/join.cwl
    in: {parts: count/counted, label: label}
    out: [joined]
