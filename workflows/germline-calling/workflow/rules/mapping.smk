rule trim_reads_se:
    input:
        unpack(get_fastq),
    output:
        temp("results/trimmed/{sample}-{unit}.fastq.gz"),
    params:
        config["params"]["fastp"],
    log:
        "logs/fastp/{sample}-{unit}.log",
    conda:
        "../envs/fastp.yaml"
    threads: 4
    shell:
        "fastp {params} --thread {threads} --in1 {input.r1} --out1 {output} "
        "--json /dev/null --html /dev/null 2> {log}"


rule trim_reads_pe:
    input:
        unpack(get_fastq),
    output:
        r1=temp("results/trimmed/{sample}-{unit}.1.fastq.gz"),
        r2=temp("results/trimmed/{sample}-{unit}.2.fastq.gz"),
    params:
        config["params"]["fastp"],
    log:
        "logs/fastp/{sample}-{unit}.log",
    conda:
        "../envs/fastp.yaml"
    threads: 4
    shell:
        "fastp {params} --thread {threads} --in1 {input.r1} --in2 {input.r2} "
        "--out1 {output.r1} --out2 {output.r2} --json /dev/null --html /dev/null 2> {log}"


rule map_reads:
    input:
        reads=get_trimmed_reads,
        ref="resources/genome.fasta",
        idx=rules.bwa_index.output,
    output:
        temp("results/mapped/{sample}-{unit}.bam"),
    params:
        read_group=get_read_group,
    log:
        "logs/bwa_mem/{sample}-{unit}.log",
    conda:
        "../envs/bwa.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, attempt: 14000 * attempt,
        runtime=240,
    shell:
        "(bwa mem -t {threads} -R '{params.read_group}' {input.ref} {input.reads} | "
        "samtools fixmate -m --no-PG - - | samtools sort --no-PG -o {output} -) 2> {log}"


rule mark_duplicates:
    input:
        "results/mapped/{sample}-{unit}.bam",
    output:
        bam="results/dedup/{sample}-{unit}.bam",
        metrics="results/qc/dedup/{sample}-{unit}.metrics.txt",
    log:
        "logs/dedup/{sample}-{unit}.log",
    conda:
        "../envs/samtools.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    shell:
        "samtools markdup -r --no-PG -f {output.metrics} {input} {output.bam} 2> {log}"


rule samtools_index:
    input:
        "{prefix}.bam",
    output:
        "{prefix}.bam.bai",
    log:
        "logs/samtools/index/{prefix}.log",
    conda:
        "../envs/samtools.yaml"
    shell:
        "samtools index {input} {output} 2> {log}"
