version 1.1

import "../structs.wdl"

## Variants of all samples in one interval.
task call_interval {
    input {
        Reference reference
        Array[File]+ bams
        Array[File]+ bam_indexes
        String interval
        Map[String, Int] ploidy
        File? targets
        Int? max_depth
        String container
    }

    # Links bring each BAM file and its index together, and keep paths out of the VCF's header.
    command <<<
        set -euo pipefail
        ln -s '~{reference.fasta}' reference.fasta
        ln -s '~{reference.fai}' reference.fasta.fai
        xargs -d '\n' ln -s -t . < '~{write_lines(bams)}'
        xargs -d '\n' ln -s -t . < '~{write_lines(bam_indexes)}'
        sed 's|.*/||' '~{write_lines(bams)}' > bams.txt
        # Contig, first and last base, sex, copies.
        awk -v OFS='\t' '
            NR == FNR { copies[$1] = $2; next }
            $1 in copies { print $1, 1, $2, "F", copies[$1] }
            END { print "*", "*", "*", "F", 2 }
        ' '~{write_map(ploidy)}' reference.fasta.fai > ploidy.txt
        bcftools mpileup --no-version --output-type u --fasta-ref reference.fasta \
            --regions '~{interval}' ~{"--targets-file '" + targets + "'"} \
            --min-MQ 20 --max-depth ~{select_first([max_depth, 250])} \
            --annotate FORMAT/AD,FORMAT/DP --bam-list bams.txt |
        bcftools call --no-version --multiallelic-caller --variants-only \
            --ploidy-file ploidy.txt --output-type z --output part.vcf.gz
    >>>

    output {
        File vcf = "part.vcf.gz"
    }

    runtime {
        container: container
        cpu: 1
        memory: "2 GiB"
    }
}

## The intervals' variants in one indexed file: normalized, certain, and with the ids of known ones.
task join_calls {
    input {
        Reference reference
        Array[File] parts
        File? known_sites
        Int min_quality
        String container
    }

    command <<<
        set -euo pipefail
        ln -s '~{reference.fasta}' reference.fasta
        ln -s '~{reference.fai}' reference.fasta.fai
        bcftools concat --no-version --output-type u --file-list '~{write_lines(parts)}' |
        bcftools norm --no-version --output-type u --fasta-ref reference.fasta \
            --multiallelics -any |
        bcftools view --no-version --output-type z --min-ac 1 \
            --include 'QUAL >= ~{min_quality}' --output calls.vcf.gz
        bcftools index calls.vcf.gz
        if [ -n '~{known_sites}' ]; then
            bcftools view --no-version --output-type z --output known.vcf.gz '~{known_sites}'
            bcftools index known.vcf.gz
            bcftools annotate --no-version --annotations known.vcf.gz --columns ID \
                --output-type z --output named.vcf.gz calls.vcf.gz
            mv named.vcf.gz calls.vcf.gz
            bcftools index --force calls.vcf.gz
        fi
    >>>

    output {
        File vcf = "calls.vcf.gz"
        File vcf_index = "calls.vcf.gz.csi"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}

## Which of the known variants some sample has: id, contig, position, alleles, found or not.
task look_up_known {
    input {
        File vcf
        File known_sites
        String container
    }

    command <<<
        set -euo pipefail
        bcftools query --format '%ID\n' '~{vcf}' > called.txt
        bcftools query --format '%ID\t%CHROM\t%POS\t%REF\t%ALT\n' '~{known_sites}' > known.txt
        awk -F '\t' -v OFS='\t' '
            NR == FNR { called[$1]; next }
            { print $0, $1 in called ? "found" : "not found" }
        ' called.txt known.txt > known.tsv
    >>>

    output {
        File table = "known.tsv"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}
