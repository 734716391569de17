# All samples together, each contig by itself; then all contigs.
rule call_variants:
    input:
        bams=get_bams(),
        bais=[f"{bam}.bai" for bam in get_bams()],
        ref="resources/genome.fasta",
        idx="resources/genome.fasta.fai",
    output:
        vcf=temp("results/called/all.{contig}.vcf.gz"),
    params:
        mpileup=config["params"]["mpileup"],
        call=config["params"]["call"],
    log:
        "logs/call/{contig}.log",
    conda:
        "../envs/bcftools.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * 2 ** (attempt - 1),
        runtime=720,
    shell:
        "(bcftools mpileup {params.mpileup} --annotate AD,DP --regions {wildcards.contig} "
        "--fasta-ref {input.ref} --no-version -Ou {input.bams} | "
        "bcftools call {params.call} --no-version -Oz -o {output.vcf}) 2> {log}"


rule merge_variants:
    input:
        vcfs=lambda wildcards: expand("results/called/all.{contig}.vcf.gz", contig=get_contigs()),
    output:
        vcf="results/called/all.vcf.gz",
    log:
        "logs/merge-called.log",
    conda:
        "../envs/bcftools.yaml"
    shell:
        "bcftools concat --no-version -Oz -o {output.vcf} {input.vcfs} 2> {log}"
