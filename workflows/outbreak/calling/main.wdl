version 1.1

import "tasks/variants.wdl" as variants
import "tasks/consensus.wdl" as consensus

## Joint SNP calling of haploid isolates against one reference, and their consensus genomes.
##
## Regions of the genome are called in parallel over all isolates, joined and filtered; then every
## isolate's genome is written with its own SNPs, and `N` where too few reads say what it is.
workflow outbreak_calling {
    input {
        File reference
        Array[File] bams
        Array[File] indexes
        Int min_quality = 30
        Int min_depth = 5
        Int regions = 4
        String container
    }

    call variants.split_genome { input: reference, regions, container }

    scatter (region in split_genome.names) {
        call variants.call_region { input: reference, bams, indexes, region, min_depth, container }
    }

    call variants.join_and_filter { input: parts = call_region.vcf, min_quality, container }

    scatter (index in range(length(bams))) {
        call consensus.write_genome {
            input:
                reference,
                bam = bams[index],
                vcf = join_and_filter.vcf,
                vcf_index = join_and_filter.vcf_index,
                min_depth,
                container
        }
    }

    call consensus.align_genomes { input: genomes = write_genome.fasta, container }

    output {
        File vcf = join_and_filter.vcf
        File vcf_index = join_and_filter.vcf_index
        File alignment = align_genomes.alignment
    }

    meta {
        description: "Joint SNP calling of haploid isolates, and an alignment of their genomes"
    }

    parameter_meta {
        reference: "FASTA of the reference genome, not compressed"
        bams: "One sorted BAM file per isolate, with the isolate's name as the sample of its read group"
        indexes: "The .bai files of the BAM files, named like them"
        min_quality: "Least QUAL (Phred) of a site"
        min_depth: "Fewer reads than this at a position: the isolate's base is unknown"
        regions: "Number of parts of the genome to call in parallel"
        container: "Image with bcftools, samtools and awk; HealthOmics needs one in ECR"
    }
}
