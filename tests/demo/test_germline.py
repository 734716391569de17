"""The germline pipeline: what it simulates, and one result from a plain run and from a hand-off."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "workflows" / "germline-wdl"
RESULTS = ("accuracy.json", "calls.vcf.gz")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


family = script("simulate_family")
calls = script("judge_calls")


@pytest.mark.parametrize("seed", range(5))
def test_no_variant_has_another_notation_or_a_neighbour(seed: int) -> None:
    rng = random.Random(seed)
    genomes = {name: family.sequence(rng, 8000) for name in ("chr1", "chr2")}
    variants = family.draw_variants(rng, genomes, 200)
    assert {len(one.ref) - len(one.alt) > 0 for one in variants} == {True, False}
    for one in variants:
        start = one.position - 1
        assert genomes[one.contig][start : start + len(one.ref)] == one.ref
        if len(one.ref) == len(one.alt):
            assert len(one.ref) == 1 and one.ref != one.alt
        else:
            longer = max(one.ref, one.alt, key=len)
            assert one.ref[0] == one.alt[0] != longer[-1], "it could be written further left"
    for before, after in itertools.pairwise(variants):
        assert before.contig != after.contig or after.position - before.position > 50


def test_the_child_has_one_haplotype_of_each_parent() -> None:
    rng = random.Random(1)
    genomes = {"chr1": family.sequence(rng, 8000), "chrM": family.sequence(rng, 3000)}
    people = family.inherit(rng, family.draw_variants(rng, genomes, 200))
    of_mother, of_father = people["child"]
    assert of_mother in people["mother"] and of_father in people["father"]
    everyones = {one for both in people.values() for haplotype in both for one in haplotype}
    kinds = {family.genotype(one, people["mother"]) for one in everyones}
    assert kinds == {"0/0", "0/1", "1/1", "0", "1"}, "the mitochondrion has one copy"
    changed = family.apply(genomes["chr1"], "chr1", of_mother)
    mine = [one for one in of_mother if one.contig == "chr1"]
    assert len(changed) - 8000 == sum(len(one.alt) - len(one.ref) for one in mine)


def test_calls_are_judged_by_site_and_genotype() -> None:
    one, other, third = ("c", 1, "A", "T"), ("c", 5, "A", "AT"), ("c", 9, "G", "C")
    truth = {"a": {one: "0/1", other: "1/1"}, "b": {one: "0/1"}}
    called = {"a": {one: "1/1", other: "1/1", third: "0/1"}}
    assert calls.judge(truth, called) == {
        "true": 3,
        "found": 2,
        "missed": 1,
        "false": 1,
        "right_genotype": 1,
    }
    table = "k1\tc\t1\tA\tT\tfound\nk2\tc\t5\tA\tAT\tnot found\nk3\tc\t9\tG\tC\tfound\n"
    assert calls.known_variants(table, truth) == {
        "known_in_family": 2,
        "known_found": 1,
        "known_in_nobody": 1,
        "known_found_in_nobody": 1,
    }


def test_genotypes_are_read_without_phase_and_order(tmp_path: Path) -> None:
    vcf = tmp_path / "x.vcf"
    vcf.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
        "c\t7\t.\tA\tT\t9\t.\t.\tDP:GT\t3:1|0\t4:0/0\nm\t2\t.\tG\tC\t9\t.\t.\tGT\t1\t.\n"
    )
    assert calls.read_vcf(vcf) == {
        "a": {("c", 7, "A", "T"): "0/1", ("m", 2, "G", "C"): "1"},
        "b": {},
    }


@pytest.mark.sandbox
def test_a_hand_off_calls_what_a_plain_run_calls(
    tmp_path: Path, root: Path, environment: dict[str, str], sandbox_env: dict[str, str]
) -> None:
    for part in ("workflows/germline-wdl", "profiles/sandbox"):
        shutil.copytree(root / part, tmp_path / part)
    snakefile = tmp_path / "workflows/germline-wdl/Snakefile"

    def snakemake(folder: str, *words: str) -> Path:
        (tmp_path / folder).mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "-s", str(snakefile), *words],
            cwd=tmp_path / folder,
            env=environment | sandbox_env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert "known variants found: 44 of 44" in done.stderr
        return tmp_path / folder / "results"

    plain = snakemake("plain", "-c2")
    handed = snakemake(
        "handed",
        *("--profile", str(tmp_path / "profiles/sandbox"), "--takeda-poll-seconds", "0.5"),
        *("--default-storage-prefix", "s3://takeda-sandbox/germline"),
    )
    assert {name: (plain / name).read_bytes() for name in RESULTS} == {
        name: (handed / name).read_bytes() for name in RESULTS
    }
    counts = json.loads((handed / "accuracy.json").read_text())
    assert counts["right_genotype"] == counts["true"] > 80
    assert counts["false"] == counts["known_found_in_nobody"] == 0
    events = (tmp_path / "handed/.snakemake/takeda/events.jsonl").read_text().splitlines()
    placed = [one for one in map(json.loads, events) if one["event"] == "placed"]
    assert [(one["rule"], one["backend"]) for one in placed] == [("call_germline", "healthomics")]
