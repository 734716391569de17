rule get_genome:
    input:
        config["ref"]["genome"],
    output:
        "resources/genome.fasta",
    log:
        "logs/get-genome.log",
    shell:
        "cp {input} {output} 2> {log}"


checkpoint genome_faidx:
    input:
        "resources/genome.fasta",
    output:
        "resources/genome.fasta.fai",
    log:
        "logs/genome-faidx.log",
    conda:
        "../envs/samtools.yaml"
    shell:
        "samtools faidx {input} 2> {log}"


rule bwa_index:
    input:
        "resources/genome.fasta",
    output:
        multiext("resources/genome.fasta", ".amb", ".ann", ".bwt", ".pac", ".sa"),
    log:
        "logs/bwa_index.log",
    conda:
        "../envs/bwa.yaml"
    resources:
        mem_mb=8000,
        runtime=120,
    shell:
        "bwa index {input} 2> {log}"
