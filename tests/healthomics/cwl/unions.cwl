# Unions, and values of any type.
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [echo]
inputs:
  number: {type: [int, string], inputBinding: {position: 1}}
  word: {type: [int, string], inputBinding: {position: 2}}
  one_or_more: {type: [File, 'File[]']}
  anything: Any
  file_or_text: {type: ['null', string, File]}
arguments: [{valueFrom: $(inputs.one_or_more.basename), position: 3}, {valueFrom: $(inputs.anything.a), position: 4}]
stdout: said.txt
outputs:
  said: {type: [File, 'File[]'], outputBinding: {glob: said.txt}}
