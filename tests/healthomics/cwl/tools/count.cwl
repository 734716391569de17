cwlVersion: v1.2
class: CommandLineTool
baseCommand: [wc, -w]
hints:
  DockerRequirement: {dockerPull: "123456789012.dkr.ecr.us-east-1.amazonaws.com/tools:1"}
  ResourceRequirement: {coresMin: 1, ramMin: 64}
inputs:
  text: File
stdin: $(inputs.text.path)
stdout: $(inputs.text.nameroot).counts
outputs:
  counted: stdout
