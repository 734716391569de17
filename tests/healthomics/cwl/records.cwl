# Records with files, of a type that another file defines; an array of them, and one coming out.
cwlVersion: v1.2
class: CommandLineTool
requirements:
  SchemaDefRequirement:
    types: [{$import: types.yml}]
baseCommand: [sh, -c, 'cat "$@" > all.txt', sh]
inputs:
  samples:
    type:
      type: array
      items: types.yml#sample
      inputBinding: {position: 1, valueFrom: "$(self.reads)"}
  one: types.yml#sample
arguments: [$(inputs.one.reads)]
outputs:
  pair:
    type:
      type: record
      fields:
        all: {type: File, outputBinding: {glob: all.txt}}
        id: {type: string, outputBinding: {outputEval: $(inputs.one.id)}}
