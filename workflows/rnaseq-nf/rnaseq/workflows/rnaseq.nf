// Samples of a sheet, their reads, the transcripts → counts and TPM of all samples, and statistics.

include { QUANTIFY     } from '../subworkflows/local/quantify'
include { BWA_INDEX    } from '../modules/local/bwa_index'
include { MERGE_COUNTS } from '../modules/local/merge_counts'

workflow RNASEQ {
    take:
    sheet       // a CSV: sample, condition, fastq_1, fastq_2 (names of files)
    reads       // all the samples' reads
    transcripts // a FASTA

    main:
    named = reads.map { file -> [file.name, file] }
    rows = sheet.splitCsv(header: true)
    first = rows
        .map { row -> [row.fastq_1, [id: row.sample, condition: row.condition]] }
        .join(named, failOnMismatch: false)
        .map { name, meta, file -> [meta, file] }
    second = rows
        .map { row -> [row.fastq_2, [id: row.sample, condition: row.condition]] }
        .join(named, failOnMismatch: false)
        .map { name, meta, file -> [meta, file] }
    samples = first
        .join(second, failOnMismatch: true)
        .map { meta, one, other -> [meta, [one, other]] }

    BWA_INDEX(transcripts)
    QUANTIFY(samples, BWA_INDEX.out.index.first())
    // In the order of their names, so that the tables do not depend on which was ready first.
    MERGE_COUNTS(
        QUANTIFY.out.counts
            .map { meta, counts -> counts }
            .toSortedList { one, other -> one.name <=> other.name }
    )

    emit:
    counts = MERGE_COUNTS.out.counts
    tpm = MERGE_COUNTS.out.tpm
}
