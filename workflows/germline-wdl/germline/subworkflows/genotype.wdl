version 1.1

import "../structs.wdl"
import "../tasks/reference.wdl" as references
import "../tasks/variants.wdl" as variants

## All samples called together: intervals side by side, then one file.
workflow genotype {
    input {
        Reference reference
        Array[File]+ bams
        Array[File]+ bam_indexes
        Map[String, Int] ploidy
        File? known_sites
        File? targets
        Int interval_bases
        Int min_quality
        Int? max_depth
        String container
    }

    call references.split_genome { input: fai = reference.fai, interval_bases, container }

    scatter (interval in split_genome.intervals) {
        call variants.call_interval {
            input: reference, bams, bam_indexes, interval, ploidy, targets, max_depth, container
        }
    }

    call variants.join_calls {
        input: reference, parts = call_interval.vcf, known_sites, min_quality, container
    }

    if (defined(known_sites)) {
        call variants.look_up_known {
            input: vcf = join_calls.vcf, known_sites = select_first([known_sites]), container
        }
    }

    output {
        File vcf = join_calls.vcf
        File vcf_index = join_calls.vcf_index
        File? known = look_up_known.table
    }
}
