# A workflow in a workflow, a step that may not run, and defaults that are files of the package.
cwlVersion: v1.2
class: Workflow
requirements:
  SubworkflowFeatureRequirement: {}
  MultipleInputFeatureRequirement: {}
inputs:
  texts: File[]
  header:
    type: File
    default: {class: File, location: tools/header.txt}
outputs:
  table: {type: File, outputSource: top/joined}
steps:
  inner:
    run: words.cwl
    in: {texts: texts}
    out: [table]
  top:
    run: tools/join.cwl
    in:
      parts: {source: [header, inner/table], linkMerge: merge_flattened}
    out: [joined]
