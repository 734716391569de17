cwlVersion: v1.2
class: CommandLineTool
baseCommand: [cat]
inputs:
  parts: {type: 'File[]', inputBinding: {position: 1}}
  label: string?
stdout: table.txt
outputs:
  joined: stdout
