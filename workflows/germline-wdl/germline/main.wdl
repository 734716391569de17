version 1.1

import "structs.wdl"
import "subworkflows/align_sample.wdl" as alignment
import "subworkflows/genotype.wdl" as genotyping
import "tasks/reference.wdl" as references

## Germline variants of a cohort: every sample's lanes are aligned and merged, then all samples are
## called together, interval by interval.
workflow germline {
    input {
        File reference
        Array[Sample]+ samples
        Map[String, Int] ploidy = {}
        File? known_sites
        File? targets
        Int interval_bases = 5000
        Int min_quality = 30
        Int? max_depth
        Boolean keep_bams = false
        String container
    }

    call references.index_reference { input: fasta = reference, container }

    Reference indexed = Reference {
        fasta: index_reference.indexed,
        fai: index_reference.fai,
        bwa: index_reference.bwa
    }

    scatter (sample in samples) {
        call alignment.align_sample {
            input: reference = indexed, sample, container
        }
    }

    call genotyping.genotype {
        input:
            reference = indexed,
            bams = align_sample.bam,
            bam_indexes = align_sample.bam_index,
            ploidy,
            known_sites,
            targets,
            interval_bases,
            min_quality,
            max_depth,
            container
    }

    if (keep_bams) {
        Array[File] kept_bams = align_sample.bam
        Array[File] kept_indexes = align_sample.bam_index
    }

    output {
        File vcf = genotype.vcf
        File vcf_index = genotype.vcf_index
        File? known = genotype.known
        Array[File] coverage = align_sample.coverage
        Map[String, Float] mean_depth = as_map(zip(align_sample.name, align_sample.mean_depth))
        Array[File]? bams = kept_bams
        Array[File]? bam_indexes = kept_indexes
    }

    meta {
        description: "Joint germline calling of small variants from reads, with bwa and bcftools"
    }

    parameter_meta {
        reference: "FASTA of the reference genome, not compressed"
        samples: "Each sample's name and read groups: an id, and gzipped FASTQ files of one lane"
        ploidy: "Copies of a contig in a cell, for contigs that have other than two"
        known_sites: "VCF of known variants: calls get their ids, and a table tells which were found"
        targets: "BED of what to call; without it, the whole genome"
        interval_bases: "Bases of the genome that one task calls"
        min_quality: "Least QUAL (Phred) of a site"
        max_depth: "Reads of one sample at a position that are looked at; 250 by default"
        keep_bams: "Hand the alignments out, too"
        container: "Image with bwa, samtools, bcftools and awk; HealthOmics needs one in ECR"
    }
}
