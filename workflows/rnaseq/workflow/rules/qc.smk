rule samtools_flagstat:
    input:
        "results/hisat2/{sample}-{unit}.bam",
    output:
        "results/qc/{sample}-{unit}.flagstat",
    log:
        "logs/flagstat/{sample}-{unit}.log",
    conda:
        "../envs/samtools.yaml"
    shell:
        "samtools flagstat {input} > {output} 2> {log}"


rule qc_summary:
    input:
        trimmed=expand("results/trimmed/{name}.json", name=names_of_units()),
        flagstat=expand("results/qc/{name}.flagstat", name=names_of_units()),
        counts=expand("results/counts/{name}.tsv.summary", name=names_of_units()),
    output:
        report("results/qc/summary.tsv", caption="../report/qc.rst", category="Quality control"),
    params:
        names=names_of_units(),
    log:
        "logs/qc-summary.log",
    script:
        "../scripts/qc_summary.py"
