rule vcf_to_tsv:
    input:
        "results/filtered/all.vcf.gz",
    output:
        "results/tables/calls.tsv.gz",
    log:
        "logs/vcf-to-tsv.log",
    conda:
        "../envs/bcftools.yaml"
    shell:
        "(bcftools query --print-header --format '%CHROM\\t%POS\\t%REF\\t%ALT\\t%QUAL[\\t%GT][\\t%DP]\\n' "
        "{input} | gzip -n > {output}) 2> {log}"


rule stats_report:
    input:
        calls="results/tables/calls.tsv.gz",
        qc="results/qc/summary.tsv",
    output:
        report("results/report.html", caption="../report/stats.rst", category="Calls"),
    params:
        samples=SAMPLES,
    log:
        "logs/stats-report.log",
    script:
        "../scripts/stats_report.py"
