// One sample at a time: reads → a sorted BAM, its statistics, and the counts of each transcript.

include { BWA_MEM           } from '../../modules/local/bwa_mem'
include { COUNT_TRANSCRIPTS } from '../../modules/local/count_transcripts'
include { SAMTOOLS_FLAGSTAT } from '../../modules/local/samtools_flagstat'

workflow QUANTIFY {
    take:
    samples // [meta, [reads]]
    index   // a directory

    main:
    BWA_MEM(samples, index)
    SAMTOOLS_FLAGSTAT(BWA_MEM.out.bam)
    COUNT_TRANSCRIPTS(BWA_MEM.out.bam)

    emit:
    counts = COUNT_TRANSCRIPTS.out.counts
    flagstat = SAMTOOLS_FLAGSTAT.out.flagstat
}
