rule count_matrix:
    input:
        expand("results/counts/{name}.tsv", name=names_of_units()),
    output:
        "results/counts/all.tsv",
    params:
        samples=[sample for sample, _ in UNITS],
    log:
        "logs/count-matrix.log",
    script:
        "../scripts/count_matrix.py"


rule diffexp:
    input:
        "results/counts/all.tsv",
    output:
        report(
            "results/diffexp/{contrast}.diffexp.tsv",
            caption="../report/diffexp.rst",
            category="Differential expression",
        ),
    params:
        contrast=lambda wildcards: config["diffexp"]["contrasts"][wildcards.contrast],
        conditions=CONDITIONS,
    log:
        "logs/diffexp/{contrast}.log",
    resources:
        mem_mb=twice_each_time(2000),
    script:
        "../scripts/diffexp.py"
