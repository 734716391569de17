#!/usr/bin/env nextflow
// Counts transcripts in samples of RNA: a small pipeline in the layout that nf-core's have.

include { RNASEQ } from './workflows/rnaseq'

workflow {
    RNASEQ(
        channel.fromPath(params.input, checkIfExists: true),
        channel.fromPath(params.reads, checkIfExists: true),
        channel.fromPath(params.transcripts, checkIfExists: true),
    )
}
