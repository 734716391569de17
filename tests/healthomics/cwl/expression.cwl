# Parameter references only: no JavaScript engine is needed.
cwlVersion: v1.2
class: Workflow
inputs:
  text: {type: File, label: what is read, format: "http://example.org/plain"}
  lines: {type: int, default: 2}
outputs:
  top: {type: File, outputSource: head/top}
  name: {type: string, outputSource: head/name}
  settings: {type: Any, outputSource: head/settings}
steps:
  head:
    in: {text: text, lines: lines}
    out: [top, name, settings]
    run:
      class: CommandLineTool
      baseCommand: [head]
      inputs:
        lines: {type: int, inputBinding: {prefix: -n}}
        text: {type: File, inputBinding: {position: 1}}
      stdout: top.txt
      outputs:
        top: stdout
        name: {type: string, outputBinding: {outputEval: $(inputs.text.basename)}}
        settings: {type: Any, outputBinding: {outputEval: $(inputs.lines)}}
