version 1.1

## Cut a genome into regions of equal size, in samtools' notation (counted from 1, ends included).
task split_genome {
    input {
        File reference
        Int regions
        String container
    }

    command <<<
        set -euo pipefail
        ln -s '~{reference}' reference.fasta
        samtools faidx reference.fasta
        awk -v regions=~{regions} '
            { step = int(($2 + regions - 1) / regions)
              for (start = 1; start <= $2; start += step) {
                  end = start + step - 1
                  printf "%s:%d-%d\n", $1, start, end < $2 ? end : $2 } }
        ' reference.fasta.fai > regions.txt
    >>>

    output {
        Array[String] names = read_lines("regions.txt")
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}

## SNPs of all isolates in one region. Genotypes from too few reads are set to missing.
task call_region {
    input {
        File reference
        Array[File] bams
        Array[File] indexes
        String region
        Int min_depth
        String container
    }

    # Links bring each BAM file and its index together, and keep paths out of the VCF's header.
    command <<<
        set -euo pipefail
        ln -s '~{reference}' reference.fasta
        xargs -d '\n' ln -s -t . < '~{write_lines(bams)}'
        xargs -d '\n' ln -s -t . < '~{write_lines(indexes)}'
        sed 's|.*/||' '~{write_lines(bams)}' > bams.txt
        bcftools mpileup --no-version --output-type u --fasta-ref reference.fasta \
            --regions '~{region}' --skip-indels --min-MQ 20 --max-depth 1000 \
            --annotate FORMAT/AD,FORMAT/DP --bam-list bams.txt |
        bcftools call --no-version --output-type u --multiallelic-caller --variants-only --ploidy 1 |
        bcftools filter --no-version --output-type z --set-GTs . \
            --exclude 'FORMAT/DP < ~{min_depth}' --output part.vcf.gz
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

## The regions' SNPs in one indexed file, without the uncertain ones.
task join_and_filter {
    input {
        Array[File] parts
        Int min_quality
        String container
    }

    command <<<
        set -euo pipefail
        bcftools concat --no-version --output-type u --file-list '~{write_lines(parts)}' |
        bcftools view --no-version --output-type z --types snps --min-ac 1 \
            --include 'QUAL >= ~{min_quality}' --output snps.vcf.gz
        bcftools index --csi snps.vcf.gz
    >>>

    output {
        File vcf = "snps.vcf.gz"
        File vcf_index = "snps.vcf.gz.csi"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}
