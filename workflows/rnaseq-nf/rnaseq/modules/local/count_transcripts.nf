process COUNT_TRANSCRIPTS {
    tag "$meta.id"
    label 'process_single'
    container params.container

    input:
    tuple val(meta), path(bam)

    output:
    tuple val(meta), path('*.counts.tsv'), emit: counts

    script:
    def args = task.ext.args ?: ''
    def args2 = task.ext.args2 ?: ''
    def prefix = task.ext.prefix ?: "${meta.id}"
    """
    set -o pipefail
    samtools view -b -f 0x42 -F 0x904 ${args} -o kept.bam ${bam}
    samtools index kept.bam
    samtools idxstats kept.bam | transcript_tpm.awk ${args2} > ${prefix}.counts.tsv
    """
}
