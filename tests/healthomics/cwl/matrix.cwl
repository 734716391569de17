# A scatter over two lists, lists of lists of files, and names with dashes.
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, StepInputExpressionRequirement: {}}
inputs:
  - {id: the-texts, type: 'File[]'}
  - {id: min-length, type: 'int[]', doc: lengths}
outputs:
  - {id: all-parts, type: {type: array, items: {type: array, items: File}}, outputSource: cut/part}
steps:
  - id: cut
    scatter: [text, length]
    scatterMethod: nested_crossproduct
    in:
      - {id: text, source: the-texts}
      - {id: length, source: min-length}
    out: [part]
    run:
      class: CommandLineTool
      baseCommand: [head]
      inputs:
        length: {type: int, inputBinding: {prefix: -c}}
        text: {type: File, inputBinding: {position: 1}}
      stdout: $(inputs.text.nameroot).part
      outputs: {part: stdout}
