"""Stand-ins for Ready2Run workflows: ids that exist, and tiny workflows of the sandbox's own.

They are not the publishers' pipelines: their parameters and outputs are those of the files in
`ready2run/`.
"""

from __future__ import annotations

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from snakemake_executor_takeda.sandbox.omics.store import Store

WORKFLOWS: Final = {
    "9500764": (
        "GATK-BP Germline fq2vcf for 30x genome",
        "germline.wdl",
        {"fastq_1": False, "fastq_2": False, "sample": True},
    ),
    "1000001": ("Sandbox line count", "lines.wdl", {"text": False}),
}
"""Id → name, file, and its parameters with whether they are optional: no WDL is parsed when the
sandbox starts."""

VERSION: Final = "1.0.0"


def provide(store: Store, folder: Path, arn: Callable[[str], str]) -> None:
    """Have a record for each; their files lie below `folder`."""
    source = Path(__file__).with_name("ready2run")
    for workflow_id, (name, file, parameters) in WORKFLOWS.items():
        if store.get("ready2run", workflow_id) is not None:
            continue
        place = folder / "ready2run" / workflow_id
        (place / "files").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, place / "files" / file)
        template = {one: {"optional": optional} for one, optional in parameters.items()}
        body: dict[str, Any] = {
            "arn": arn(f"workflow/{workflow_id}"),
            "id": workflow_id,
            "uuid": str(uuid.uuid4()),
            "name": name,
            "type": "READY2RUN",
            "status": "ACTIVE",
            "engine": "WDL",
            "main": file,
            "description": "A stand-in: this sandbox runs a tiny workflow of its own instead.",
            "digest": hashlib.sha256((source / file).read_bytes()).hexdigest(),
            "creationTime": time.time(),
            "parameterTemplate": template,
            "_key": workflow_id,
            "_place": str(place),
            "_checks_parameters": True,
        }
        store.insert("ready2run", workflow_id, body)
        named = {
            "workflowId": workflow_id,
            "versionName": VERSION,
            "_key": f"{workflow_id}/{VERSION}",
        }
        store.insert("version", f"{workflow_id}/{VERSION}", body | named, parent=workflow_id)
