"""The policy of a run without a policy file: made from the targets named by flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from snakemake_executor_takeda.routing.conditions import (
    Condition,
    When,
    conditions_of,
)
from snakemake_executor_takeda.routing.policy import HEALTHOMICS, Policy, Route
from snakemake_executor_takeda.values import JobSpec, TakedaError, Target

BATCH = "batch"
SLURM = "slurm"
ANY_PARTITION = "auto"
"""`--takeda-slurm-partition auto`: the backend chooses the partition of each job."""

_FLAGS: Mapping[tuple[str, str], str] = {
    (BATCH, "queue"): "--takeda-batch-queue",
    (SLURM, "partition"): "--takeda-slurm-partition",
    (HEALTHOMICS, "role_arn"): "--takeda-omics-role-arn",
    (HEALTHOMICS, "output_uri"): "--takeda-omics-output-uri",
}
_REMEDIES: Mapping[str, str] = {
    BATCH: "Name a Batch queue with --takeda-batch-queue, or a Slurm partition with "
    "--takeda-slurm-partition",
    SLURM: "Name a Slurm partition with --takeda-slurm-partition ('default' for the cluster's own, "
    "'auto' for the smallest that fits)",
    HEALTHOMICS: "Name a role and a place for the results with --takeda-omics-role-arn and "
    "--takeda-omics-output-uri",
}


def policy_from_settings(
    *,
    batch_queue: str | None = None,
    slurm_partition: str | None = None,
    omics_role_arn: str | None = None,
    omics_output_uri: str | None = None,
    option_models: Mapping[str, type[BaseModel]],
) -> Policy:
    """Hand-offs → HealthOmics, MPI and several nodes → Slurm (Batch, where no partition is named), the
    rest → Batch (Slurm, where no Batch queue is named). The targets are called after their backends.

    A flag left empty counts as not given, as does an empty environment variable. Raises TakedaError
    where no target is named, or one only by half.
    """
    own_words: dict[str, dict[str, Any]] = {}
    if batch_queue:
        own_words[BATCH] = {"queue": batch_queue}
    if slurm_partition:
        is_any = slurm_partition == ANY_PARTITION
        own_words[SLURM] = {} if is_any else {"partition": slurm_partition}
    if omics_role_arn or omics_output_uri:
        _check_both(omics_role_arn, omics_output_uri)
        own_words[HEALTHOMICS] = {"role_arn": omics_role_arn, "output_uri": omics_output_uri}
    if not own_words:
        raise TakedaError(
            "no target is named, so no job can run. Give a routing policy with --takeda-routing, or "
            "at least one of --takeda-batch-queue, --takeda-slurm-partition, and "
            "--takeda-omics-role-arn with --takeda-omics-output-uri."
        )
    targets = {
        backend: Target(backend, backend, options=_options(backend, words, option_models))
        for backend, words in own_words.items()
    }
    return Policy(
        targets=targets,
        routes=tuple(_routes(targets)),
        default=tuple(name for name in (BATCH, SLURM) if name in targets)[:1],
        source="the --takeda-* flags (no --takeda-routing is given)",
        remedy=lambda backend: _REMEDIES.get(backend, f"Backends are {', '.join(_REMEDIES)}"),
    )


def _check_both(role_arn: str | None, output_uri: str | None) -> None:
    flags = {"--takeda-omics-role-arn": role_arn, "--takeda-omics-output-uri": output_uri}
    for flag, value in flags.items():
        if not value:
            other = next(name for name in flags if name != flag)
            raise TakedaError(f"{other} needs {flag} beside it: HealthOmics runs need both.")


def _options(
    backend: str, words: Mapping[str, Any], option_models: Mapping[str, type[BaseModel]]
) -> BaseModel:
    model = option_models.get(backend)
    if model is None:
        raise TakedaError(
            f"the backend {backend} is not installed; there are: {', '.join(option_models)}."
        )
    try:
        return model.model_validate(words)
    except ValidationError as error:
        texts = []
        for detail in error.errors(include_url=False):
            word = str(detail["loc"][0]) if detail["loc"] else ""
            flag = _FLAGS.get((backend, word), word)
            texts.append(f"{flag}: {detail['msg'].removeprefix('Value error, ').rstrip('.')}.")
        raise TakedaError("\n".join(texts)) from None


def _routes(targets: Mapping[str, Target]) -> Iterator[Route]:
    def route(name: str, backend: str, conditions: tuple[Condition, ...]) -> Route:
        to = (backend,) if backend in targets else ()
        return Route(f"built-in route for {name}", conditions, to, needs=backend)

    yield route("hand-offs", HEALTHOMICS, conditions_of(When.model_validate({"handoff": True})))
    # A cluster starts ranks at once where Batch starts instances; without one, Batch does it as well.
    parallel = SLURM if SLURM in targets else BATCH
    yield route("MPI", parallel, conditions_of(When.model_validate({"mpi": True})))
    yield route("several nodes", parallel, conditions_of(When.model_validate({"nodes": ">1"})))
    if SLURM in targets:
        yield route("Slurm pipelines", SLURM, (_NAMES_A_PARTITION,))


def _partition(job: JobSpec) -> str:
    return str(job.resources.get("slurm_partition") or "")


# A pipeline written for Slurm says by this where its rule belongs. With a policy file it says nothing:
# profiles set slurm_partition for all jobs, and the file is the user's own word on them.
_NAMES_A_PARTITION = Condition(
    "slurm_partition",
    "set",
    value=lambda job, _: _partition(job) or None,
    passes=bool,
    told=lambda _, partition: f"the rule sets slurm_partition={partition}",
    told_not=lambda _: "the rule sets no slurm_partition",
)
