# Values of every simple type, in and out.
cwlVersion: v1.2
class: CommandLineTool
baseCommand: ["true"]
requirements:
  InitialWorkDirRequirement:
    listing:
      - entryname: cwl.output.json
        entry: |
          {"whole": $(inputs.whole), "large": $(inputs.large), "broken": $(inputs.broken),
           "text": "$(inputs.text)", "yes": $(inputs.yes), "colour": "$(inputs.colour)",
           "nothing": null, "numbers": $(inputs.numbers), "rows": $(inputs.rows)}
inputs:
  whole: int
  large: long
  broken: double
  text: string
  yes: boolean
  colour:
    type: {type: enum, symbols: [red, green, dark-blue]}
  numbers: int[]
  rows:
    type: {type: array, items: {type: array, items: float}}
  missing: int?
  given: {type: int, default: 7}
outputs:
  whole: int
  large: long
  broken: double
  text: string
  yes: boolean
  colour:
    type: {type: enum, symbols: [red, green, dark-blue]}
  nothing: int?
  numbers: int[]
  rows:
    type: {type: array, items: {type: array, items: float}}
