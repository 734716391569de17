"""The process of one run: inputs from S3, the workflow by its engine, outputs to S3, then a report.

Run as `python -m … RUN_DIR`; reads `request.json` there and leaves `result.json`. What it prints is
the engine's log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.sandbox.omics import nextflow
from snakemake_executor_takeda.sandbox.omics.mishaps import REASONS
from snakemake_executor_takeda.sandbox.wdl_run import TASK_RECORD, WorkflowFailed, run_workflow
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from snakemake_executor_takeda.backends.healthomics.wdl import Workflow

REQUEST = "request.json"
RESULT = "result.json"
EXPORTED = "exported.txt"
"""The URI of each object that was, or was about to be, exported: a line each."""
RUN = "run"
"""Where miniwdl or cwltool works, below the run's directory."""
OUT = "out"
"""Where it gathers the outputs, below that."""


class RunFailed(Exception):
    """A run that ends FAILED, in HealthOmics' words."""

    def __init__(self, failure_reason: str, message: str) -> None:
        super().__init__(message)
        self.failure_reason = failure_reason


def main(directory: Path) -> int:
    request = json.loads((directory / REQUEST).read_text())
    storage = Storage(directory)
    result: dict[str, Any] = {}
    try:
        _fail_if_asked(request, "import")
        if request["engine"] == "NEXTFLOW":
            result["engineVersion"] = nextflow.version()
            _run_nextflow(directory, request, storage)
        elif request["engine"] == "CWL":
            _run_cwl(directory, request, storage)
        else:
            _run_wdl(directory, request, storage)
    except RunFailed as failure:
        print(f"{failure.failure_reason}: {failure}", file=sys.stderr)
        result |= {"failureReason": failure.failure_reason, "statusMessage": str(failure)}
    except KeyboardInterrupt:
        return 130
    result["resourceDigests"] = storage.digests
    _report(directory, result)
    return 1 if "failureReason" in result else 0


class Storage:
    """S3 as a run has it: read-only copies of its inputs, and what it exports."""

    def __init__(self, directory: Path) -> None:
        self._s3: S3Client = aws.client("s3")
        self._inputs = directory / "inputs"
        self._exported = directory / EXPORTED
        self._copies: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        """URI → ETag of every input, as GetRun's resourceDigests has them."""

    def fetch(self, uri: str, *, directory: bool = False) -> str:
        """The path of a local copy. Raises RunFailed."""
        if uri not in self._copies:
            place = self._inputs / str(len(self._copies))
            place.mkdir(parents=True)
            self._copies[uri] = self._fetch(uri, place, directory)
        return self._copies[uri]

    def exists(self, uri: str) -> bool:
        """Whether it is one object, not a prefix of others."""
        from botocore.exceptions import ClientError

        bucket, key = aws.split_s3_uri(uri)
        try:
            self._s3.head_object(Bucket=bucket, Key=key)
        except ClientError:
            return False
        return True

    def _fetch(self, uri: str, place: Path, directory: bool) -> str:
        from botocore.exceptions import ClientError

        if not uri.startswith("s3://"):
            raise RunFailed("IMPORT_FAILED", f"{uri} is not an S3 URI")
        try:
            bucket, key = aws.split_s3_uri(uri)
        except TakedaError as error:
            raise RunFailed("INVALID_URI_INPUT", str(error)) from error
        try:
            if not directory:
                target = place / key.rpartition("/")[2]
                self._download(bucket, key, target)
                return str(target)
            top = place / key.rstrip("/").rpartition("/")[2]
            self.fetch_tree(uri, top)
        except ClientError as error:
            if aws.http_status(error) == 404:
                raise RunFailed("INPUT_URI_NOT_FOUND", f"{uri} does not exist") from error
            raise RunFailed("IMPORT_FAILED", f"{uri}: {aws.error_message(error)}") from error
        if not top.is_dir():
            raise RunFailed("INPUT_URI_NOT_FOUND", f"nothing lies below {uri}")
        return str(top)

    def fetch_tree(self, uri: str, top: Path) -> int:
        """Bring all objects below a URI; how many there were. Raises ClientError."""
        bucket, key = aws.split_s3_uri(uri)
        prefix, count = key.rstrip("/") + "/", 0
        for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix
        ):
            for item in page.get("Contents", []):
                target = (top / item["Key"][len(prefix) :]).resolve()
                if target.is_relative_to(top.resolve()) and not item["Key"].endswith("/"):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._download(bucket, item["Key"], target)
                    count += 1
        return count

    def _download(self, bucket: str, key: str, target: Path) -> None:
        self._s3.download_file(bucket, key, str(target))
        target.chmod(0o444)
        etag = self._s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
        self.digests[f"s3://{bucket}/{key}"] = f"etag:{etag}"

    def check_unmodified(self) -> None:
        """Raises RunFailed where an input is not what it was when the run began."""
        from botocore.exceptions import ClientError

        for uri, digest in self.digests.items():
            bucket, key = aws.split_s3_uri(uri)
            try:
                etag = self._s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
            except ClientError:
                etag = "gone"
            if digest != f"etag:{etag}":
                raise RunFailed(
                    "MODIFIED_INPUT_RESOURCE", f"{uri} was modified after the run had started"
                )

    def fetch_cached(self, uri: str, below: str, path: Path) -> bool:
        """As `caching.Fetch`."""
        from botocore.exceptions import ClientError

        path.parent.mkdir(parents=True, exist_ok=True)
        bucket, key = aws.split_s3_uri(aws.join_s3_uri(uri, below))
        try:
            self._s3.download_file(bucket, key, str(path))
        except ClientError as error:
            if aws.http_status(error) != 404:
                raise
            return self._fetch_cached_tree(f"s3://{bucket}/{key}", path)
        return True

    def _fetch_cached_tree(self, uri: str, path: Path) -> bool:
        known = dict(self.digests)
        found = self.fetch_tree(uri, path)
        self.digests = known  # a cache's files are no inputs
        return found > 0

    def export(self, path: Path, uri: str) -> None:
        """Upload one file. Raises RunFailed."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import ClientError

        with self._exported.open("a") as stream:
            stream.write(f"{uri}\n")
        bucket, key = aws.split_s3_uri(uri)
        try:
            self._s3.upload_file(str(path), bucket, key)
        except (ClientError, S3UploadFailedError) as error:
            raise RunFailed("EXPORT_FAILED", str(error)) from error


def _run_wdl(directory: Path, request: Mapping[str, Any], storage: Storage) -> None:
    from snakemake_executor_takeda.backends.healthomics import wdl

    try:
        workflow = wdl.load(Path(request["definition"]))
        parameters = _localise(storage, workflow, request["parameters"])
        _fail_if_asked(request, "task", _first_call(workflow), directory)
        produced = run_workflow(
            workflow,
            parameters,
            directory / RUN,
            runner=request["runner"],
            verbose=True,
            cache=_cache(request, workflow, directory, storage),
        )
    except TakedaError as error:
        raise RunFailed("WORKFLOW_RUN_FAILED", str(error)) from error
    except WorkflowFailed as failure:
        for line in failure.log_tail:
            print(f"{failure.task}: {line}", file=sys.stderr)
        raise RunFailed(_task_reason(failure.exit_code), str(failure)) from failure
    _fail_if_asked(request, "export")
    storage.check_unmodified()
    _export_wdl(storage, produced, directory, request["run_output_uri"])


def _cache(
    request: Mapping[str, Any], workflow: Workflow, directory: Path, storage: Storage
) -> Any:
    if request.get("cache") is None:
        return None

    from snakemake_executor_takeda.sandbox.omics.caching import RunCache

    def make(cfg: Any, logger: Any) -> RunCache:
        return RunCache(
            cfg,
            logger,
            document=workflow.document,
            entries=request["cache"],
            directory=directory,
            fetch=storage.fetch_cached,
        )

    return make


def _task_reason(exit_code: int | None) -> str:
    if exit_code is None:
        return "WORKFLOW_RUN_FAILED"
    return "OUT_OF_MEMORY_ERROR" if exit_code == 137 else "RUN_TASK_FAILED"


def _localise(
    storage: Storage, workflow: Workflow, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters with each S3 URI of a file replaced by a read-only local copy."""
    import WDL

    target = workflow.document.workflow
    try:
        values = WDL.values_from_json(
            dict(parameters), target.available_inputs, target.required_inputs
        )
    except WDL.Error.InputError as error:
        raise RunFailed("WORKFLOW_RUN_FAILED", f"{workflow.name}: {error}") from error

    def fetch(value: Any) -> str:
        return storage.fetch(str(value.value), directory=isinstance(value, WDL.Value.Directory))

    return dict(WDL.values_to_json(WDL.Value.rewrite_env_paths(values, fetch)))


def _export_wdl(storage: Storage, produced: Mapping[str, Any], directory: Path, base: str) -> None:
    """Upload what miniwdl gathered below `out/` to `out/` of the run, and list it."""
    out = directory / RUN / OUT

    def upload(path: Path) -> str:
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                name = file.relative_to(out).as_posix()
                storage.export(file, aws.join_s3_uri(base, "out", name))
        return aws.join_s3_uri(base, "out", path.relative_to(out).as_posix())

    def rewrite(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(f"{out}/"):
            return upload(Path(value))
        if isinstance(value, list):
            return [rewrite(item) for item in value]
        if isinstance(value, dict):
            return {key: rewrite(item) for key, item in value.items()}
        return value

    listing = directory / "outputs.json"
    listing.write_text(json.dumps(rewrite(dict(produced)), indent=2))
    storage.export(listing, aws.join_s3_uri(base, "logs", "outputs.json"))


def _run_cwl(directory: Path, request: Mapping[str, Any], storage: Storage) -> None:
    from snakemake_executor_takeda.backends.healthomics import cwl
    from snakemake_executor_takeda.sandbox import cwl_run

    def localise(value: Any) -> Any:
        if isinstance(value, list):
            return [localise(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: localise(item) for key, item in value.items()}
        if value.get("class") in ("File", "Directory") and "location" in value:
            whole = value["class"] == "Directory"
            found["location"] = storage.fetch(str(value["location"]), directory=whole)
        return found

    try:
        file, fragment = cwl.split(request["definition"])
        workflow = cwl.load(Path(file), fragment)
        parameters = localise(request["parameters"])
        _fail_if_asked(request, "task", workflow.name, directory)
        produced = cwl_run.run_workflow(
            workflow, parameters, directory / RUN, runner=request["runner"], verbose=True
        )
    except TakedaError as error:
        raise RunFailed("WORKFLOW_RUN_FAILED", str(error)) from error
    except WorkflowFailed as failure:
        for line in failure.log_tail:
            print(f"{failure.task}: {line}", file=sys.stderr)
        raise RunFailed(_task_reason(failure.exit_code), str(failure)) from failure
    _fail_if_asked(request, "export")
    storage.check_unmodified()
    _export_cwl(storage, produced, directory, request["run_output_uri"])


def _export_cwl(storage: Storage, produced: Mapping[str, Any], directory: Path, base: str) -> None:
    """Upload what cwltool gathered, and list it as HealthOmics does: by output name, files as objects."""
    out = (directory / RUN / OUT).resolve()
    for file in _files(out):
        storage.export(file, aws.join_s3_uri(base, "out", file.relative_to(out).as_posix()))

    def rewrite(value: Any) -> Any:
        if isinstance(value, list):
            return [rewrite(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: rewrite(item) for key, item in value.items()}
        if value.get("class") in ("File", "Directory"):
            name = Path(value["location"]).resolve().relative_to(out).as_posix()
            found["location"] = aws.join_s3_uri(base, "out", name)
        return found

    listing = directory / "outputs.json"
    listing.write_text(json.dumps(rewrite(dict(produced)), indent=2))
    storage.export(listing, aws.join_s3_uri(base, "logs", "outputs.json"))


def _run_nextflow(directory: Path, request: Mapping[str, Any], storage: Storage) -> None:
    def localise(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("s3://"):
            return storage.fetch(value, directory=not storage.exists(value))
        if isinstance(value, list):
            return [localise(item) for item in value]
        if isinstance(value, dict):
            return {key: localise(item) for key, item in value.items()}
        return value

    main_file = Path(request["definition"])
    parameters = localise(request["parameters"])
    (directory / "params.json").write_text(json.dumps(parameters))
    _fail_if_asked(request, "task", "main", directory)
    settings = request.get("engine_settings") or {}
    docker = request["runner"] == "docker"
    sys.stdout.flush()
    done = subprocess.run(
        nextflow.command(main_file, directory, docker=docker, settings=settings),
        cwd=directory,
        check=False,
    )
    if done.returncode:
        raise _nextflow_failure(directory, done.returncode)
    _fail_if_asked(request, "export")
    storage.check_unmodified()
    exports = directory / "exports"
    for file in _files(exports):
        name = file.relative_to(exports).as_posix()
        storage.export(file, aws.join_s3_uri(request["run_output_uri"], name))


def _nextflow_failure(directory: Path, code: int) -> RunFailed:
    for _, task in nextflow.found_tasks(directory):
        if task.get("exit_code") and not task.get("cancelled"):
            said = f"{task['name']}: the command failed with exit status {task['exit_code']}"
            return RunFailed(_task_reason(task["exit_code"]), said)
    try:
        with (directory / "engine.log").open(errors="replace") as stream:
            tail = " ".join(line.strip() for line in deque(stream, 20))
    except OSError:
        tail = ""
    return RunFailed(
        "WORKFLOW_RUN_FAILED", f"nextflow ended with exit status {code}: {tail}"[:4000]
    )


def _files(top: Path) -> Iterable[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file())


def _fail_if_asked(
    request: Mapping[str, Any], phase: str, task: str = "", directory: Path | None = None
) -> None:
    """Fail as a fault on purpose says, where this is the phase that its reason belongs to."""
    word = request.get("failure")
    if word is None or REASONS[word].phase != phase:
        return
    reason = REASONS[word]
    says = reason.says.format(task=task, region=request.get("region", ""))
    if directory is not None:
        place = directory / RUN / f"call-{task}"
        place.mkdir(parents=True)
        now = time.time()
        record = {
            "name": f"call-{task}",
            "started": now,
            "ended": now,
            "exit_code": reason.exit_code or 1,
            "failure_reason": word,
            "failure_message": says,
        }
        (place / TASK_RECORD).write_text(json.dumps(record))
        if reason.exit_code is not None:
            (place / "stderr.txt").write_text(f"{says} (a fault on purpose)\n")
    raise RunFailed(word, says)


def _first_call(workflow: Workflow) -> str:
    """The name of the first call of a workflow, however deep; its own where there is none."""
    import WDL

    nodes = list(workflow.document.workflow.body)
    while nodes:
        node = nodes.pop(0)
        if isinstance(node, WDL.Tree.Call):
            return str(node.name)
        nodes = [*getattr(node, "body", []), *nodes]
    return workflow.name


def _report(directory: Path, result: Mapping[str, Any]) -> None:
    draft = directory / f"{RESULT}.tmp"
    draft.write_text(json.dumps(result))
    draft.replace(directory / RESULT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
