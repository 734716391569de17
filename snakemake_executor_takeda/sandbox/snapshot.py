"""Saves what moto's S3 holds to a folder and brings it back, times and ETags included.

`index.json` names the buckets and their objects; `objects/<sha256>` holds each content once.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.services import ACCOUNT_ID


def save(folder: Path) -> None:
    """Write the newest version of every object. An earlier snapshot stays whole until the end."""
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    kept: set[str] = set()
    buckets = []
    for bucket in _backend().buckets.values():
        entries = []
        for key in list(bucket.keys.values()):
            if not hasattr(key, "value"):
                continue  # a delete marker
            content = key.value
            digest = hashlib.sha256(content).hexdigest()
            path = objects / digest
            if not path.exists():
                part = objects / f"{digest}.part"
                part.write_bytes(content)
                part.replace(path)
            kept.add(digest)
            entries.append(
                {
                    "key": key.name,
                    "content": digest,
                    "etag": key._etag,
                    # moto's times are naive and UTC
                    "last_modified": key.last_modified.replace(tzinfo=UTC).timestamp(),
                    "metadata": dict(key.metadata),
                }
            )
        buckets.append({"name": bucket.name, "region": bucket.region_name, "objects": entries})
    part = folder / "index.json.part"
    part.write_text(json.dumps({"buckets": buckets}))
    part.replace(folder / "index.json")
    for path in objects.iterdir():
        if path.name not in kept:
            path.unlink()


def restore(folder: Path) -> None:
    """Bring back what `save` wrote; nothing where there is none."""
    index = folder / "index.json"
    if not index.exists():
        return
    backend = _backend()
    for bucket in json.loads(index.read_text())["buckets"]:
        backend.create_bucket(bucket["name"], bucket["region"])
        for entry in bucket["objects"]:
            content = (folder / "objects" / entry["content"]).read_bytes()
            key = backend.put_object(
                bucket["name"], entry["key"], content, etag=entry["etag"], disable_notification=True
            )
            key.set_metadata(entry["metadata"])
            # Snakemake compares these: without them a restart would make every job run again
            when = datetime.fromtimestamp(entry["last_modified"], UTC)
            key.last_modified = when.replace(tzinfo=None)


def _backend() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends[ACCOUNT_ID]["aws"]
