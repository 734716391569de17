# Many files, each with one beside it.
cwlVersion: v1.1
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs:
  bams: {type: 'File[]', secondaryFiles: .bai}
outputs:
  sizes: {type: 'File[]', outputSource: size/sized}
steps:
  size:
    scatter: bam
    in: {bam: bams}
    out: [sized]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'cat "$0" "$0.bai"']
      inputs:
        bam: {type: File, secondaryFiles: .bai, inputBinding: {position: 1}}
      stdout: $(inputs.bam.basename).sum
      outputs: {sized: stdout}
