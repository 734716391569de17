"""Compares measured TPM with the shares that were simulated."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

MILLION = 1_000_000


def read_table(path: Path) -> dict[str, dict[str, float]]:
    """By sample and transcript."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    samples = [name for name in rows[0] if name != "transcript"]
    return {one: {row["transcript"]: float(row[one]) for row in rows} for one in samples}


def judge(
    truth: dict[str, dict[str, float]], tpm: dict[str, dict[str, float]]
) -> dict[str, float | int]:
    """The largest and the mean difference of shares; a transcript that is missing was not found."""
    errors = [
        abs(tpm.get(sample, {}).get(name, 0.0) / MILLION - share)
        for sample, of_sample in truth.items()
        for name, share in of_sample.items()
    ]
    return {
        "samples": len(truth),
        "transcripts": len(next(iter(truth.values()))),
        "largest_error": round(max(errors), 6),
        "mean_error": round(sum(errors) / len(errors), 6),
    }


def main(job: Any) -> None:
    found = judge(read_table(Path(job.input.truth)), read_table(Path(job.input.tpm)))
    print(f"largest error of a transcript's share: {found['largest_error']}")
    if found["largest_error"] > job.params.largest_error:
        raise SystemExit(f"more than the {job.params.largest_error} that config.yaml allows")
    Path(job.output.accuracy).write_text(json.dumps(found, indent=2) + "\n")
    shutil.copyfile(job.input.tpm, job.output.tpm)


if "snakemake" in globals():
    main(globals()["snakemake"])
