process BWA_MEM {
    tag "$meta.id"
    label 'process_low'
    container params.container

    input:
    tuple val(meta), path(reads)
    path index

    output:
    tuple val(meta), path('*.bam'), emit: bam

    script:
    def args = task.ext.args ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    set -o pipefail
    bwa mem ${args} -t ${task.cpus} -R '@RG\\tID:${meta.id}\\tSM:${meta.id}' index/transcripts ${reads} \\
        | samtools sort -@ ${task.cpus} -o ${prefix}.bam -
    """
}
