rule hisat2_align:
    input:
        unpack(get_reads),
        idx=rules.hisat2_index.output,
        sites="resources/genome.splice-sites.tsv",
    output:
        bam="results/hisat2/{sample}-{unit}.bam",
        summary="results/hisat2/{sample}-{unit}.summary.txt",
    params:
        prefix=lambda wildcards, input: input.idx[0].removesuffix(".1.ht2"),
        extra=config["params"]["hisat2"],
    log:
        "logs/hisat2/{sample}-{unit}.log",
    conda:
        "../envs/hisat2.yaml"
    threads: 12
    resources:
        mem_mb=twice_each_time(8000),
        runtime=240,
    shell:
        "(hisat2 -p {threads} -x {params.prefix} {params.extra} "
        "--known-splicesite-infile {input.sites} --summary-file {output.summary} --new-summary "
        "-1 {input.r1} -2 {input.r2} | samtools sort --no-PG -o {output.bam} -) 2> {log}"


rule feature_counts:
    input:
        bam="results/hisat2/{sample}-{unit}.bam",
        gtf="resources/genome.gtf",
    output:
        counts="results/counts/{sample}-{unit}.tsv",
        summary="results/counts/{sample}-{unit}.tsv.summary",
    params:
        config["params"]["featurecounts"],
    log:
        "logs/featurecounts/{sample}-{unit}.log",
    conda:
        "../envs/subread.yaml"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        "featureCounts -T {threads} -p {params} -a {input.gtf} -o {output.counts} {input.bam} 2> {log}"
