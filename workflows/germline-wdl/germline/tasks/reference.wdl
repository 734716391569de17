version 1.1

## What bwa and samtools need beside a genome.
task index_reference {
    input {
        File fasta
        String container
    }

    command <<<
        set -euo pipefail
        cp '~{fasta}' reference.fasta
        samtools faidx reference.fasta
        bwa index reference.fasta
    >>>

    output {
        File indexed = "reference.fasta"
        File fai = "reference.fasta.fai"
        Array[File] bwa = [
            "reference.fasta.amb",
            "reference.fasta.ann",
            "reference.fasta.bwt",
            "reference.fasta.pac",
            "reference.fasta.sa"
        ]
    }

    runtime {
        container: container
        cpu: 1
        memory: "2 GiB"
    }
}

## Intervals of equal size in samtools' notation (counted from 1, ends included), none across contigs.
task split_genome {
    input {
        File fai
        Int interval_bases
        String container
    }

    command <<<
        set -euo pipefail
        awk -v step=~{interval_bases} '
            { for (start = 1; start <= $2; start += step) {
                  end = start + step - 1
                  printf "%s:%d-%d\n", $1, start, end < $2 ? end : $2 } }
        ' '~{fai}' > intervals.txt
    >>>

    output {
        Array[String] intervals = read_lines("intervals.txt")
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}
