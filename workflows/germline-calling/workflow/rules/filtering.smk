rule select_calls:
    input:
        vcf="results/called/all.vcf.gz",
    output:
        vcf=temp("results/filtered/all.{vartype}.vcf.gz"),
    params:
        vartype=lambda wildcards: wildcards.vartype.replace("snvs", "snps"),
    log:
        "logs/select/{vartype}.log",
    conda:
        "../envs/bcftools.yaml"
    shell:
        "bcftools view --types {params.vartype} --no-version -Oz -o {output.vcf} {input.vcf} 2> {log}"


rule hard_filter_calls:
    input:
        vcf="results/filtered/all.{vartype}.vcf.gz",
    output:
        vcf="results/filtered/all.{vartype}.hardfiltered.vcf.gz",
        csi="results/filtered/all.{vartype}.hardfiltered.vcf.gz.csi",
    params:
        exclude=lambda wildcards: config["filtering"]["hard"][wildcards.vartype],
    log:
        "logs/filter/{vartype}.log",
    conda:
        "../envs/bcftools.yaml"
    shell:
        "(bcftools filter --soft-filter {wildcards.vartype}-hard-filter --exclude '{params.exclude}' "
        "--no-version -Oz -o {output.vcf} {input.vcf} && bcftools index {output.vcf}) 2> {log}"


rule merge_calls:
    input:
        vcfs=expand("results/filtered/all.{vartype}.hardfiltered.vcf.gz", vartype=["snvs", "indels"]),
        csis=expand("results/filtered/all.{vartype}.hardfiltered.vcf.gz.csi", vartype=["snvs", "indels"]),
    output:
        vcf=report("results/filtered/all.vcf.gz", caption="../report/vcf.rst", category="Calls"),
    log:
        "logs/merge-filtered.log",
    conda:
        "../envs/bcftools.yaml"
    shell:
        "(bcftools concat --allow-overlaps --no-version {input.vcfs} | "
        "bcftools view --apply-filters PASS --no-version -Oz -o {output.vcf}) 2> {log}"
