"""Names of the account's things as this project uses them: what stands for the placeholders of a policy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor.images import parsed

if TYPE_CHECKING:
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.values import Target


def places_of(asked: Asked, targets: Iterable[Target]) -> dict[str, Sequence[str]]:
    """Placeholder → values. Raises TakedaError or NotTold where nobody knows who asks."""
    caller = asked.caller()
    options = [target.options for target in targets]
    bucket, prefix = _bucket(asked.project.storage.own_prefix)
    if not bucket:
        uris = [one.output_uri for one in options if hasattr(one, "output_uri")]
        bucket, prefix = _bucket(uris[0] if uris else None)
    names = {
        "JobQueues": [one.queue for one in options if hasattr(one, "queue")],
        "JobDefinition": _said(options, "job_definition"),
        "JobLogGroup": _said(options, "log_group"),
        "JobRole": _said(options, "job_role_arn"),
        "ExecutionRole": _said(options, "execution_role_arn"),
        "OmicsRole": _said(options, "role_arn"),
        "EventQueue": _said(options, "event_queue"),
        "Repositories": [
            parsed(image).repository for image in _said(options, "image") if ".dkr.ecr." in image
        ],
    }
    found: dict[str, Sequence[str]] = {
        "Partition": [caller.partition],
        "Account": [caller.account],
        "Region": [asked.cloud.region],
    }
    if bucket:
        found |= {"Bucket": [bucket], "Prefix": [prefix]}
    for name, values in names.items():
        # Of an ARN what is behind the account: `role/takeda-job` → the name.
        plain = [v if name in ("JobLogGroup", "Repositories") else _name(v) for v in values]
        if plain:
            found[name] = list(dict.fromkeys(plain))
    return found


def features_of(targets: Iterable[Target], *, has_s3: bool) -> list[str]:
    """The features of infrastructure/iam/actions.yaml that a project uses."""
    found = ["s3"] if has_s3 else []
    for target in targets:
        options = target.options
        if target.backend in ("batch", "healthomics"):
            found.append(target.backend)
        found += [
            feature
            for word, feature in (
                ("job_definition", "job_definition"),
                ("event_queue", "event_queue"),
                ("execution_role_arn", "execution_role"),
                ("batch", "healthomics_batch"),
            )
            if getattr(options, word, None)
        ]
    return list(dict.fromkeys(found))


def _said(options: Iterable[object], word: str) -> list[str]:
    return [value for one in options if (value := getattr(one, word, None))]


def _name(value: str) -> str:
    """Of an ARN, a URL or a name; of a definition without its revision."""
    if value.startswith("arn:") or "://" in value:
        value = value.rpartition("/" if "/" in value else ":")[2]
    return value.partition(":")[0]


def _bucket(uri: str | None) -> tuple[str, str]:
    """Bucket, and the begin of all keys that a run has: what is below `.takeda` is below it, too."""
    if not uri:
        return "", ""
    bucket, key = aws.split_s3_uri(uri)
    key = key.removesuffix("/.takeda").removesuffix(".takeda").strip("/")
    return bucket, f"{key}/" if key else ""
