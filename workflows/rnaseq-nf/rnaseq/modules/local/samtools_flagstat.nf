process SAMTOOLS_FLAGSTAT {
    tag "$meta.id"
    label 'process_single'
    container params.container

    input:
    tuple val(meta), path(bam)

    output:
    tuple val(meta), path('*.flagstat'), emit: flagstat

    script:
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    samtools flagstat ${bam} > ${prefix}.flagstat
    """
}
