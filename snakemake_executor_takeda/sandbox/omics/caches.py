"""The operations about run caches, and the entries that runs make and find in them.

An entry is a record of ours (`cacheentry`, below its cache) and the outputs of one task in S3, under
`{location}/{uuid of the cache}/{run}/{task}/{uuid of the entry}/`, as HealthOmics documents it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.sandbox.omics.answers import invalid, missing
from snakemake_executor_takeda.sandbox.omics.base import Base
from snakemake_executor_takeda.sandbox.omics.storage import bucket_exists, sandbox_s3
from snakemake_executor_takeda.sandbox.omics.store import Record, Store
from snakemake_executor_takeda.sandbox.services import Context, Handler

MADE = "cache-made.jsonl"
"""What a run's engine leaves in the run's directory: an object a line for each task it could cache."""
ON_FAILURE = "CACHE_ON_FAILURE"


class RunCaches:
    def __init__(self, base: Base) -> None:
        self._context = base.context
        self._store = base.store
        self._answers = base.answers
        self._requests = base.requests
        self.handlers: Mapping[str, Handler] = {
            "CreateRunCache": self._create,
            "GetRunCache": self._get,
            "ListRunCaches": self._list,
            "UpdateRunCache": self._update,
            "DeleteRunCache": self._delete,
        }

    def check(self, params: Mapping[str, Any]) -> None:
        """What a run may say of caches. Raises ServiceError."""
        if cache_id := params.get("cacheId"):
            cache = self._need(cache_id)
            if cache["status"] != "ACTIVE":
                raise missing(f"an ACTIVE run cache {cache_id}")
            if params.get("workflowType") == "READY2RUN":
                raise invalid("Ready2Run workflows do not use a run cache")
        elif params.get("cacheBehavior"):
            raise invalid("cacheBehavior needs a cacheId")

    def behaviour(self, params: Mapping[str, Any]) -> str | None:
        """The run's own, else its cache's."""
        if not params.get("cacheId"):
            return None
        cache = self._need(params["cacheId"])
        return str(params.get("cacheBehavior") or cache["cacheBehavior"])

    def _create(self, params: dict[str, Any]) -> Mapping[str, Any]:
        location = params["cacheS3Location"]
        if not bucket_exists(self._context, location):
            raise invalid(f"the bucket of cacheS3Location {location} does not exist")

        def create() -> str:
            cache_id = self._store.new_id("cache")
            body: Record = {
                name: params[name] for name in ("name", "description", "tags") if name in params
            }
            body |= {
                "id": cache_id,
                "arn": self._answers.arn(f"runCache/{cache_id}"),
                "status": "ACTIVE",
                "cacheBehavior": params.get("cacheBehavior", ON_FAILURE),
                "cacheS3Uri": location,
                "cacheBucketOwnerId": params.get("cacheBucketOwnerId", self._context.account_id),
                "creationTime": time.time(),
                "_uuid": str(uuid.uuid4()),
            }
            self._store.insert("cache", cache_id, body)
            return cache_id

        key = self._requests.once("CreateRunCache", params, create)
        return self._answers.view("CreateRunCache", self._need(key))

    def _need(self, cache_id: str) -> Record:
        return self._answers.need("cache", cache_id, f"run cache {cache_id}")

    def _get(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._answers.view("GetRunCache", self._need(params["id"]))

    def _list(self, params: dict[str, Any]) -> Mapping[str, Any]:
        return self._answers.page("ListRunCaches", params, self._store.numbered("cache"))

    def _update(self, params: dict[str, Any]) -> None:
        self._need(params["id"])
        wanted = ("name", "description", "cacheBehavior")
        self._store.update(
            "cache", params["id"], **{name: params[name] for name in wanted if name in params}
        )

    def _delete(self, params: dict[str, Any]) -> None:
        """The entries are gone with it; their data stays in S3."""
        cache_id = params["id"]
        self._need(cache_id)
        for entry in self._store.records("cacheentry", cache_id):
            self._store.delete("cacheentry", entry["_key"])
        self._store.delete("cache", cache_id)


def entries(store: Store, cache_id: str) -> dict[str, Record]:
    """A cache's entries by the fingerprint of task and inputs."""
    return {entry["fingerprint"]: entry for entry in store.records("cacheentry", cache_id)}


def keep(context: Context, store: Store, run: Mapping[str, Any], directory: Path) -> None:
    """Bring what the run's engine made to its cache: each task once, whatever came first stays."""
    cache = store.get("cache", run.get("cacheId", ""))
    try:
        lines = (directory / MADE).read_text().splitlines()
    except FileNotFoundError:
        return
    if cache is None:
        return
    from snakemake_executor_takeda.backends.aws import join_s3_uri, split_s3_uri

    s3 = sandbox_s3(context)
    tasks = {task["_place"]: task for task in store.records("task", run["id"])}
    for line in lines:
        made = json.loads(line)
        key, task = f"{cache['id']}/{made['fingerprint']}", tasks.get(made["place"])
        if task is None or store.get("cacheentry", key) is not None:
            continue
        name = str(uuid.uuid4())
        uri = join_s3_uri(cache["cacheS3Uri"], cache["_uuid"], run["id"], task["taskId"], name)
        bucket, prefix = split_s3_uri(uri)
        for below, path in made["files"].items():
            for file in _files(Path(path)):
                inside = file.relative_to(path).as_posix() if Path(path).is_dir() else ""
                s3.upload_file(str(file), bucket, "/".join(filter(None, (prefix, below, inside))))
        manifest = {"version": "1.0", "items": sorted(made["files"])}
        s3.put_object(
            Bucket=bucket, Key=f"{prefix}/{name}.json", Body=json.dumps(manifest).encode()
        )
        entry = {
            "fingerprint": made["fingerprint"],
            "uri": uri,
            "outputs": made["outputs"],
            "files": sorted(made["files"]),
            "cpus": task["cpus"],
            "memory": task["memory"],
            "_key": key,
        }
        store.insert("cacheentry", key, entry, parent=cache["id"])
        store.update("task", f"{run['id']}/{task['taskId']}", cacheS3Uri=uri)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.is_file())
    return [path]
