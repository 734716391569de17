version 1.1

## One isolate's genome: the reference with its SNPs, `N` where it is not known.
task write_genome {
    input {
        File reference
        File bam
        File vcf
        File vcf_index
        Int min_depth
        String container
    }

    command <<<
        set -euo pipefail
        ln -s '~{vcf}' snps.vcf.gz
        ln -s '~{vcf_index}' snps.vcf.gz.csi
        sample=$(samtools view --header-only '~{bam}' |
            awk -F '\t' '/^@RG/ { for (i = 2; i <= NF; i++) if ($i ~ /^SM:/) print substr($i, 4) }' |
            sort -u)
        samtools depth -a '~{bam}' |
        awk -v OFS='\t' '$3 < ~{min_depth} { print $1, $2 - 1, $2 }' > unknown.bed
        bcftools consensus --sample "$sample" --fasta-ref '~{reference}' \
            --mask unknown.bed --mask-with N --missing N snps.vcf.gz |
        sed "s/^>.*/>$sample/" > genome.fasta
    >>>

    output {
        File fasta = "genome.fasta"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}

## The genomes, all of one length since only substitutions are called, as a PHYLIP alignment.
task align_genomes {
    input {
        Array[File] genomes
        String container
    }

    command <<<
        set -euo pipefail
        xargs -d '\n' cat < '~{write_lines(genomes)}' |
        awk '
            /^>/ { names[++count] = substr($0, 2); next }
            { genome[count] = genome[count] $0 }
            END {
                print count, length(genome[1])
                for (i = 1; i <= count; i++) print names[i], genome[i] }
        ' > alignment.phy
    >>>

    output {
        File alignment = "alignment.phy"
    }

    runtime {
        container: container
        cpu: 1
        memory: "1 GiB"
    }
}
