# What may be missing, on both sides.
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'cat "$@" > there.txt', sh]
inputs:
  given: {type: File?, inputBinding: {position: 1}}
  missing: {type: File?, inputBinding: {position: 2}}
  many: {type: 'File[]?', inputBinding: {position: 3}}
outputs:
  there: {type: File?, outputBinding: {glob: there.txt}}
  absent: {type: File?, outputBinding: {glob: absent.txt}}
  none: {type: 'File[]', outputBinding: {glob: '*.none'}}
