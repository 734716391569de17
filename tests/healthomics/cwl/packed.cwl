# Several processes in one file; `main` is what runs.
cwlVersion: v1.0
$graph:
  - id: upper
    class: CommandLineTool
    baseCommand: [tr, a-z, A-Z]
    inputs: {text: File}
    stdin: $(inputs.text.path)
    stdout: upper.txt
    outputs: {made: stdout}
  - id: main
    class: Workflow
    inputs: {text: File}
    outputs: {made: {type: File, outputSource: step/made}}
    steps:
      step: {run: '#upper', in: {text: text}, out: [made]}
