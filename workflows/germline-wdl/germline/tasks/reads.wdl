version 1.1

import "../structs.wdl"

## One lane's reads, aligned and sorted.
task align_read_group {
    input {
        Reference reference
        String sample_name
        ReadGroup group
        Int threads = 1
        String container
    }

    # Programs note their command lines in the header; without them equal reads give equal files. A
    # fixed -K keeps alignments the same for any number of threads.
    command <<<
        set -euo pipefail
        ln -s '~{reference.fasta}' reference.fasta
        xargs -d '\n' ln -s -t . < '~{write_lines(reference.bwa)}'
        bwa mem -v 1 -t ~{threads} -K 10000000 \
            -R '@RG\tID:~{sample_name}.~{group.id}\tSM:~{sample_name}\tLB:~{sample_name}' \
            reference.fasta '~{group.reads_1}' ~{"'" + group.reads_2 + "'"} |
        grep -v '^@PG' |
        samtools sort --no-PG -o lane.bam -
    >>>

    output {
        File bam = "lane.bam"
    }

    runtime {
        container: container
        cpu: threads
        memory: "2 GiB"
    }
}

## A sample's lanes in one indexed file, and how well they cover the genome.
task merge_read_groups {
    input {
        String sample_name
        Array[File]+ bams
        String container
    }

    command <<<
        set -euo pipefail
        samtools merge --no-PG -c -b '~{write_lines(bams)}' '~{sample_name}.bam'
        samtools index '~{sample_name}.bam'
        samtools coverage '~{sample_name}.bam' > '~{sample_name}.coverage.tsv'
        awk -F '\t' '!/^#/ { bases += $3; depth += $3 * $7 } END { printf "%.2f\n", depth / bases }' \
            '~{sample_name}.coverage.tsv' > mean_depth.txt
    >>>

    output {
        File bam = "~{sample_name}.bam"
        File bam_index = "~{sample_name}.bam.bai"
        File coverage = "~{sample_name}.coverage.tsv"
        Float mean_depth = read_float("mean_depth.txt")
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}
