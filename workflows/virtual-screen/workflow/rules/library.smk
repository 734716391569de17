rule enumerate_library:
    input:
        config["building_blocks"],
    output:
        scatter.library("results/library/{scatteritem}.smi"),
    params:
        n_ligands=config["n_ligands"],
    resources:
        mem_mb=1000,
        runtime=10,
    script:
        "../scripts/enumerate_library.py"


rule prepare_ligands:
    input:
        "results/library/{scatteritem}.smi",
    output:
        "results/ligands/{scatteritem}.pdbqt",
    log:
        "logs/prepare-ligands/{scatteritem}.log",
    container:
        "docker://quay.io/biocontainers/openbabel:3.1.1"
    group:
        "screen"
    resources:
        mem_mb=1000,
        runtime=20,
    shell:
        "(obabel -ismi {input} -osdf --gen3d | obabel -isdf -opdbqt --partialcharge gasteiger "
        "-O {output}) > {log} 2>&1"
