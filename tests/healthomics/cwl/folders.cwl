# Directories in and out, and an array of one.
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'mkdir made one two; cp -R "$0"/. made; echo 1 > one/x; echo 2 > two/x']
inputs:
  folder: {type: Directory, inputBinding: {position: 1}}
outputs:
  made: {type: Directory, outputBinding: {glob: made}}
  several: {type: 'Directory[]', outputBinding: {glob: [one, two]}}
