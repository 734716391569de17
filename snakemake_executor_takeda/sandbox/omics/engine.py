"""The process of one run: inputs from S3, the workflow by miniwdl, outputs to S3, then a report.

Run as `python -m … RUN_DIR`; reads `request.json` there and leaves `result.json`. What it prints is
the engine's log.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.backends.healthomics import wdl
from snakemake_executor_takeda.sandbox.wdl_run import WorkflowFailed, run_workflow
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REQUEST = "request.json"
RESULT = "result.json"
RUN = "run"
"""Where miniwdl works, below the run's directory."""


class RunFailed(Exception):
    """A run that ends FAILED, in HealthOmics' words."""

    def __init__(self, failure_reason: str, message: str) -> None:
        super().__init__(message)
        self.failure_reason = failure_reason


def main(directory: Path) -> int:
    request = json.loads((directory / REQUEST).read_text())
    try:
        _run(directory, request)
    except RunFailed as failure:
        print(f"{failure.failure_reason}: {failure}", file=sys.stderr)
        _report(directory, {"failureReason": failure.failure_reason, "statusMessage": str(failure)})
        return 1
    except KeyboardInterrupt:
        return 130
    _report(directory, {})
    return 0


def _run(directory: Path, request: Mapping[str, Any]) -> None:
    s3 = aws.client("s3")
    try:
        workflow = wdl.load(Path(request["definition"]))
        parameters = _localise(s3, workflow, request["parameters"], directory / "inputs")
        produced = run_workflow(
            workflow,
            parameters,
            directory / RUN,
            runner=request["runner"],
            verbose=True,
        )
    except TakedaError as error:
        raise RunFailed("WORKFLOW_RUN_FAILED", str(error)) from error
    except WorkflowFailed as failure:
        for line in failure.log_tail:
            print(f"{failure.task}: {line}", file=sys.stderr)
        raise RunFailed(_task_reason(failure), str(failure)) from failure
    _export(s3, produced, directory / RUN / "out", request["run_output_uri"])


def _task_reason(failure: WorkflowFailed) -> str:
    if failure.exit_code is None:
        return "WORKFLOW_RUN_FAILED"
    return "OUT_OF_MEMORY_ERROR" if failure.exit_code == 137 else "RUN_TASK_FAILED"


def _localise(
    s3: S3Client, workflow: wdl.Workflow, parameters: Mapping[str, Any], inputs: Path
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
    copies: dict[str, str] = {}

    def fetch(value: Any) -> str:
        uri = str(value.value)
        if uri not in copies:
            place = inputs / str(len(copies))
            place.mkdir(parents=True)
            copies[uri] = _fetch(s3, uri, place, isinstance(value, WDL.Value.Directory))
        return copies[uri]

    return dict(WDL.values_to_json(WDL.Value.rewrite_env_paths(values, fetch)))


def _fetch(s3: S3Client, uri: str, place: Path, directory: bool) -> str:
    from botocore.exceptions import ClientError

    if not uri.startswith("s3://"):
        raise RunFailed("IMPORT_FAILED", f"{uri} is not an S3 URI")
    bucket, key = aws.split_s3_uri(uri)
    try:
        if not directory:
            target = place / key.rpartition("/")[2]
            s3.download_file(bucket, key, str(target))
            target.chmod(0o444)
            return str(target)
        top = place / key.rstrip("/").rpartition("/")[2]
        prefix = key.rstrip("/") + "/"
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", []):
                target = (top / item["Key"][len(prefix) :]).resolve()
                if not target.is_relative_to(top.resolve()) or item["Key"].endswith("/"):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, item["Key"], str(target))
    except ClientError as error:
        if aws.http_status(error) == 404:
            raise RunFailed("INPUT_URI_NOT_FOUND", f"{uri} does not exist") from error
        raise RunFailed("IMPORT_FAILED", f"{uri}: {aws.error_message(error)}") from error
    if not top.is_dir():
        raise RunFailed("INPUT_URI_NOT_FOUND", f"nothing lies below {uri}")
    return str(top)


def _export(s3: S3Client, produced: Mapping[str, Any], out: Path, base: str) -> None:
    """Upload what miniwdl gathered below `out/` to `out/` of the run, and list it."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError

    def upload(path: Path) -> str:
        uri = aws.join_s3_uri(base, "out", path.relative_to(out).as_posix())
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                name = file.relative_to(out).as_posix()
                bucket, key = aws.split_s3_uri(aws.join_s3_uri(base, "out", name))
                s3.upload_file(str(file), bucket, key)
        return uri

    def rewrite(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(f"{out}/"):
            return upload(Path(value))
        if isinstance(value, list):
            return [rewrite(item) for item in value]
        if isinstance(value, dict):
            return {key: rewrite(item) for key, item in value.items()}
        return value

    try:
        listing = json.dumps(rewrite(dict(produced)), indent=2)
        bucket, key = aws.split_s3_uri(aws.join_s3_uri(base, "logs", "outputs.json"))
        s3.put_object(Bucket=bucket, Key=key, Body=listing.encode())
    except (ClientError, S3UploadFailedError) as error:
        raise RunFailed("EXPORT_FAILED", str(error)) from error


def _report(directory: Path, result: Mapping[str, Any]) -> None:
    draft = directory / f"{RESULT}.tmp"
    draft.write_text(json.dumps(result))
    draft.replace(directory / RESULT)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
