version 1.1

import "../structs.wdl"
import "../tasks/reads.wdl" as reads

## One sample's lanes, aligned side by side and merged.
workflow align_sample {
    input {
        Reference reference
        Sample sample
        String container
    }

    scatter (group in sample.read_groups) {
        call reads.align_read_group {
            input: reference, sample_name = sample.name, group, container
        }
    }

    call reads.merge_read_groups {
        input: sample_name = sample.name, bams = align_read_group.bam, container
    }

    output {
        String name = sample.name
        File bam = merge_read_groups.bam
        File bam_index = merge_read_groups.bam_index
        File coverage = merge_read_groups.coverage
        Float mean_depth = merge_read_groups.mean_depth
    }
}
