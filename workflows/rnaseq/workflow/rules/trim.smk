rule fastp_pe:
    input:
        unpack(get_fastq),
    output:
        r1=temp("results/trimmed/{sample}-{unit}_R1.fastq.gz"),
        r2=temp("results/trimmed/{sample}-{unit}_R2.fastq.gz"),
        json="results/trimmed/{sample}-{unit}.json",
        html=report(
            "results/trimmed/{sample}-{unit}.html",
            caption="../report/fastp.rst",
            category="Quality control",
        ),
    params:
        config["params"]["fastp"],
    log:
        "logs/trimmed/{sample}-{unit}.log",
    conda:
        "../envs/fastp.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=60,
    shell:
        "fastp {params} --thread {threads} --in1 {input.r1} --in2 {input.r2} "
        "--out1 {output.r1} --out2 {output.r2} --json {output.json} --html {output.html} 2> {log}"
