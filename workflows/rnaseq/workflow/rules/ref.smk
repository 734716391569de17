rule get_genome:
    input:
        config["ref"]["genome"],
    output:
        "resources/genome.fasta",
    log:
        "logs/ref/get-genome.log",
    shell:
        "cp {input} {output} 2> {log}"


rule get_annotation:
    input:
        config["ref"]["annotation"],
    output:
        "resources/genome.gtf",
    log:
        "logs/ref/get-annotation.log",
    shell:
        "cp {input} {output} 2> {log}"


rule splice_sites:
    input:
        "resources/genome.gtf",
    output:
        "resources/genome.splice-sites.tsv",
    log:
        "logs/ref/splice-sites.log",
    script:
        "../scripts/splice_sites.py"


rule hisat2_index:
    input:
        "resources/genome.fasta",
    output:
        multiext("resources/hisat2/genome", *(f".{number}.ht2" for number in range(1, 9))),
    params:
        prefix=lambda wildcards, output: output[0].removesuffix(".1.ht2"),
    log:
        "logs/ref/hisat2-index.log",
    conda:
        "../envs/hisat2.yaml"
    threads: 8
    resources:
        mem_mb=12000,
        runtime=180,
    shell:
        "hisat2-build -p {threads} {input} {params.prefix} > {log} 2>&1"
