"""What a run is asked for, and how a request is known again. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from snakemake_executor_takeda.backends.base import SubmissionError
from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
from snakemake_executor_takeda.backends.healthomics.registry import Registered
from snakemake_executor_takeda.values import FailureKind, JobSpec, TakedaError

MAX_PARAMETER_BYTES = 50_000
"""Of a run's parameters as JSON, by AWS's guide."""
RUN_TAG = "takeda:run"
RULE_TAG = "takeda:rule"
REQUEST_TAG = "takeda:request"
GENERATION_TAG = "takeda:generation"
_SHOWN_PARAMETERS = 3


@dataclass(frozen=True)
class RunRequest:
    """All that decides what a run computes and where its result belongs."""

    registered: Registered
    parameters: Mapping[str, Any]
    input_tags: Sequence[tuple[str, str]]
    """URI and ETag of each input whose ETag is known: the same name may hold other content."""
    job: JobSpec
    options: HealthOmicsOptions
    engine_settings: Mapping[str, Any] | None = None
    """What the target, the workflow and the rule ask of the engine, merged; None for nothing."""

    @cached_property
    def key(self) -> str:
        """The same for the same request, whoever makes it, when, and at which attempt."""
        facts = [
            self.registered.workflow_id,
            self.registered.version,
            dict(self.parameters),
            sorted(self.input_tags),
            self.options.output_uri,
            self.options.role_arn,
            self.engine_settings,
            self.job.rule,
            dict(self.job.wildcards),
        ]
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), default=str)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """By it the runs of a request are found in a listing."""
        return f"takeda-{tag_value(self.job.rule)[:80]}-{self.key[:16]}"

    def token(self, generation: int) -> str:
        """StartRun's requestId, and a batch's runSettingId: one for each generation."""
        return hashlib.sha256(f"{self.key}/{generation}".encode()).hexdigest()

    def tags(self, generation: int, run_tag: str) -> dict[str, str]:
        """What the run is found by on the bill, and verified by after an answer was lost."""
        return {
            **self.options.tags,
            RULE_TAG: tag_value(self.job.rule),
            RUN_TAG: run_tag,
            REQUEST_TAG: self.key,
            GENERATION_TAG: str(generation),
        }

    def common_arguments(self) -> dict[str, Any]:
        """StartRun's arguments that all runs of one rule on one target share."""
        options = self.options
        arguments = {
            "workflowId": self.registered.workflow_id,
            "workflowType": self.registered.workflow_type,
            "workflowVersionName": self.registered.version,
            "roleArn": options.role_arn,
            "outputUri": options.output_uri,
            # The documentation contradicts itself about the default.
            "storageType": options.storage_type,
            "storageCapacity": options.storage_capacity_gib,
            "logLevel": options.log_level,
            "retentionMode": options.retention_mode,
            "runGroupId": options.run_group_id,
            "priority": options.priority,
            "cacheId": options.cache_id,
            "cacheBehavior": options.cache_behavior,
            "engineSettings": self.engine_settings,
        }
        return {name: value for name, value in arguments.items() if value is not None}

    def arguments(self, generation: int, run_tag: str) -> dict[str, Any]:
        """StartRun's."""
        return {
            **self.common_arguments(),
            "name": self.run_name,
            "parameters": dict(self.parameters),
            "tags": self.tags(generation, run_tag),
            "requestId": self.token(generation),
        }


@dataclass(frozen=True)
class BatchRequest:
    """What a batch is asked for."""

    name: str
    arguments: Mapping[str, Any]
    """StartRunBatch's, but for `batchRunSettings`."""
    settings: Sequence[Mapping[str, Any]]
    """Of each run; in an order that depends on them only."""


def batch_request(asked: Sequence[tuple[RunRequest, int]], run_tag: str) -> BatchRequest:
    """For requests of one rule and workflow version, each with its generation."""
    first = asked[0][0]
    tokens = [request.token(generation) for request, generation in asked]
    batch_token = hashlib.sha256("/".join(sorted(tokens)).encode()).hexdigest()
    name = f"takeda-{tag_value(first.job.rule)[:40]}-{batch_token[:16]}"
    own = (REQUEST_TAG, GENERATION_TAG)
    common = {k: v for k, v in first.tags(0, run_tag).items() if k not in own}
    settings: list[dict[str, Any]] = [
        {
            "runSettingId": token,
            "name": request.run_name,
            "parameters": dict(request.parameters),
            "runTags": {REQUEST_TAG: request.key, GENERATION_TAG: str(generation)},
        }
        for (request, generation), token in zip(asked, tokens, strict=True)
    ]
    arguments = {
        "batchName": name,
        "requestId": batch_token,
        "tags": common,
        "defaultRunSetting": {**first.common_arguments(), "runTags": common},
    }
    settings.sort(key=lambda setting: str(setting["runSettingId"]))
    return BatchRequest(name, arguments, settings)


def merged_settings(
    of_target: Mapping[str, Any] | None, asked: Mapping[str, Any], where: str, target: str
) -> dict[str, Any] | None:
    """What the target says and what workflow and rule ask for, as one. None for nothing.

    The target's engine version comes before the one that fits the workflow. Raises TakedaError where
    they differ otherwise.
    """
    found = dict(of_target or {})
    for name, value in asked.items():
        if found.setdefault(name, value) != value and name != "engineVersion":
            raise TakedaError(
                f"{where}: engine setting {name}: the rule or its workflow asks for {value!r}, "
                f"target {target} says {found[name]!r}; leave out one of them"
            )
    return found or None


def check_size(parameters: Mapping[str, Any], where: str) -> None:
    """Raises SubmissionError that names the largest parameters and a way out."""
    sizes = {name: _size(value) for name, value in parameters.items()}
    total = _size(dict(parameters))
    if total <= MAX_PARAMETER_BYTES:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN_PARAMETERS]
    shown = ", ".join(f"`{name}` {sizes[name]:,}" for name in largest)
    raise SubmissionError(
        FailureKind.CONFIGURATION,
        f"{where}: the parameters are {total:,} bytes of JSON; HealthOmics takes "
        f"{MAX_PARAMETER_BYTES:,} (largest: {shown})",
        f"let a rule write what `{largest[0]}` lists to a text file, hand that over as one File input, and "
        "read it with read_lines(), read_tsv() or read_json() in a WDL, with splitText() or splitCsv() in "
        "Nextflow; or hand over a directory "
        "in place of its files, or start one run for a part of them each",
    )


def tag_value(text: str) -> str:
    """The text as a tag's value and a part of names."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:200] or "rule"


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")).encode())
