rule receptor_topology:
    input:
        config["receptor"],
    output:
        gro="results/receptor/receptor.gro",
        top="results/receptor/receptor.top",
    log:
        "logs/receptor-topology.log",
    container:
        "docker://quay.io/biocontainers/gromacs:2022.5"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "gmx -nobackup pdb2gmx -f {input} -o {output.gro} -p {output.top} "
        "-i $(dirname {output.top})/posre.itp -ff amber99sb-ildn -water tip3p -ignh -merge all "
        "> {log} 2>&1"


rule complex:
    input:
        ligand="results/hits/{rank}.pdbqt",
        gro="results/receptor/receptor.gro",
        top="results/receptor/receptor.top",
    output:
        gro="results/md/{rank}/complex.gro",
        top="results/md/{rank}/complex.top",
    resources:
        mem_mb=1000,
        runtime=10,
    script:
        "../scripts/complex.py"


rule solvate:
    input:
        gro="results/md/{rank}/complex.gro",
        top="results/md/{rank}/complex.top",
    output:
        gro="results/md/{rank}/solvated.gro",
        top="results/md/{rank}/solvated.top",
    log:
        "logs/solvate/{rank}.log",
    container:
        "docker://quay.io/biocontainers/gromacs:2022.5"
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        """
        (
        cp {input.top} {output.top}
        gmx -nobackup editconf -f {input.gro} -o {output.gro} -bt cubic -d 0.5
        gmx -nobackup solvate -cp {output.gro} -cs spc216.gro -p {output.top} -o {output.gro}
        ) > {log} 2>&1
        """


rule minimise:
    input:
        mdp=config["md"]["minimise"],
        gro="results/md/{rank}/solvated.gro",
        top="results/md/{rank}/solvated.top",
    output:
        gro="results/md/{rank}/minimised.gro",
    log:
        "logs/minimise/{rank}.log",
    container:
        "docker://quay.io/biocontainers/gromacs:2022.5"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=60,
    shell:
        """
        work=$(mktemp -d)
        (
        gmx -nobackup grompp -f {input.mdp} -c {input.gro} -p {input.top} -o "$work/run.tpr" \
            -po "$work/out.mdp" -maxwarn 2
        gmx -nobackup mdrun -deffnm "$work/run" -c {output.gro} -ntmpi 1 -ntomp {threads}
        ) > {log} 2>&1
        rm -r "$work"
        """


rule md_setup:
    input:
        mdp=config["md"]["production"],
        gro="results/md/{rank}/minimised.gro",
        top="results/md/{rank}/solvated.top",
    output:
        "results/md/{rank}/production.tpr",
    params:
        steps=config["md"]["steps"],
    log:
        "logs/md-setup/{rank}.log",
    container:
        "docker://quay.io/biocontainers/gromacs:2022.5"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        """
        work=$(mktemp -d)
        (
        sed 's/^nsteps.*/nsteps = {params.steps}/' {input.mdp} > "$work/production.mdp"
        gmx -nobackup grompp -f "$work/production.mdp" -c {input.gro} -p {input.top} -o {output} \
            -po "$work/out.mdp" -maxwarn 2
        ) > {log} 2>&1
        rm -r "$work"
        """


# One simulation of many ranks for each hit: the part that wants nodes close to each other.
rule md_production:
    input:
        "results/md/{rank}/production.tpr",
    output:
        energies="results/md/{rank}/production.edr",
        checkpoint="results/md/{rank}/production.cpt",
        log="results/md/{rank}/production.log",
        trajectory="results/md/{rank}/production.xtc",
        gro="results/md/{rank}/production.gro",
    log:
        "logs/md-production/{rank}.log",
    threads: 1
    resources:
        mpi="mpirun",
        nodes=config["md"]["nodes"],
        tasks=config["md"]["tasks"],
        mem_mb=8000,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    shell:
        "{resources.mpi} -n {resources.tasks} gmx_mpi -nobackup mdrun -s {input} -ntomp {threads} "
        "-e {output.energies} -x {output.trajectory} -c {output.gro} "
        "-cpo {output.checkpoint} -g {output.log} > {log} 2>&1"


rule interaction_energy:
    input:
        "results/md/{rank}/production.edr",
    output:
        "results/md/{rank}/interaction.xvg",
    log:
        "logs/interaction-energy/{rank}.log",
    container:
        "docker://quay.io/biocontainers/gromacs:2022.5"
    resources:
        mem_mb=1000,
        runtime=10,
    shell:
        "printf 'Coul-SR:Protein-LIG\\nLJ-SR:Protein-LIG\\n\\n' | "
        "gmx -nobackup energy -f {input} -o {output} > {log} 2>&1"


rule rank_by_energy:
    input:
        docking="results/docking.tsv",
        energies=expand("results/md/{rank}/interaction.xvg", rank=RANKS),
    output:
        "results/ranking.tsv",
    resources:
        mem_mb=1000,
        runtime=10,
    script:
        "../scripts/rank_by_energy.py"
