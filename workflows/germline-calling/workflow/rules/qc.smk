rule samtools_stats:
    input:
        "results/dedup/{sample}-{unit}.bam",
    output:
        "results/qc/samtools-stats/{sample}-{unit}.txt",
    log:
        "logs/samtools-stats/{sample}-{unit}.log",
    conda:
        "../envs/samtools.yaml"
    shell:
        "samtools stats {input} > {output} 2> {log}"


rule qc_summary:
    input:
        expand("results/qc/samtools-stats/{name}.txt", name=["-".join(unit) for unit in UNITS]),
    output:
        "results/qc/summary.tsv",
    log:
        "logs/qc-summary.log",
    script:
        "../scripts/qc_summary.py"
