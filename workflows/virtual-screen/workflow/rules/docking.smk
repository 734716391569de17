rule prepare_receptor:
    input:
        config["receptor"],
    output:
        "results/receptor/receptor.pdbqt",
    log:
        "logs/prepare-receptor.log",
    container:
        "docker://quay.io/biocontainers/openbabel:3.1.1"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "obabel -ipdb {input} -opdbqt -O {output} -xr -p 7.4 > {log} 2>&1"


# As many jobs as the library has chunks.
rule dock:
    input:
        receptor="results/receptor/receptor.pdbqt",
        ligands="results/ligands/{scatteritem}.pdbqt",
    output:
        "results/docked/{scatteritem}.pdbqt",
    params:
        center="--center_x {} --center_y {} --center_z {}".format(*config["docking"]["center"]),
        size="--size_x {} --size_y {} --size_z {}".format(*config["docking"]["size"]),
        exhaustiveness=config["docking"]["exhaustiveness"],
        seed=config["docking"]["seed"],
    log:
        "logs/dock/{scatteritem}.log",
    container:
        "docker://quay.io/biocontainers/autodock-vina:1.2.3"
    group:
        "screen"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 1500 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    shell:
        """
        work=$(mktemp -d)
        csplit --quiet --elide-empty-files --prefix "$work/ligand" --suffix-format %04d.pdbqt \
            {input.ligands} '/^MODEL/' '{{*}}'
        sed -i '/^MODEL/d; /^ENDMDL/d' "$work"/ligand*.pdbqt
        vina --receptor {input.receptor} --batch "$work"/ligand*.pdbqt --dir "$work" \
            {params.center} {params.size} --exhaustiveness {params.exhaustiveness} \
            --num_modes 1 --seed {params.seed} --cpu {threads} > {log} 2>&1
        cat "$work"/*_out.pdbqt > {output}
        rm -r "$work"
        """


rule rank_by_score:
    input:
        gather.library("results/docked/{scatteritem}.pdbqt"),
    output:
        table="results/docking.tsv",
        hits=expand("results/hits/{rank}.pdbqt", rank=RANKS),
    resources:
        mem_mb=lambda wildcards, input, attempt: max(1000, 2 * input.size_mb) * attempt,
        runtime=20,
    script:
        "../scripts/rank_by_score.py"
