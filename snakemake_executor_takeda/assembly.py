"""Builds a run from flags and policy: which targets, which backends, what they share."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snakemake_interface_executor_plugins.settings import SharedFSUsage

from snakemake_executor_takeda.values import TakedaError, Target

if TYPE_CHECKING:
    from pydantic import BaseModel

    from snakemake_executor_takeda.backends.base import BackendFactory
    from snakemake_executor_takeda.reporting.costs import Prices
    from snakemake_executor_takeda.routing.policy import Policy
    from snakemake_executor_takeda.routing.prices import PriceBook
    from snakemake_executor_takeda.settings import ExecutorSettings

BACKENDS_GROUP = "snakemake_executor_takeda.backends"
T = TypeVar("T")


def new_run_id() -> str:
    """Sorts by time, and two runs of one second differ."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


class _Lazily(Mapping[str, T]):
    """Values that are made when they are asked for: a run loads the backends that it uses."""

    def __init__(self, makers: Mapping[str, Callable[[], T]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> T:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def check_on_interrupt(said: str) -> None:
    """Raises TakedaError for what --takeda-on-interrupt does not know."""
    if said not in ("cancel", "detach"):
        raise TakedaError(
            f"--takeda-on-interrupt {said}: say `cancel`, which ends all jobs, or `detach`, which leaves "
            "them running"
        )


def backend_factories() -> Mapping[str, BackendFactory]:
    """Every installed backend by name, ours and others'."""
    points = entry_points(group=BACKENDS_GROUP)
    return _Lazily({point.name: point.load for point in points})


def policy_of(
    settings: ExecutorSettings,
    factories: Mapping[str, BackendFactory],
    container_image: str | None = None,
) -> Policy:
    """The policy file's, or else one made from the four flags, with the table of prices; its Batch
    targets take over what was set for the aws-batch plugin, and Snakemake's own `--container-image`, if
    it was given."""
    from snakemake_executor_takeda.backends.batch import migrating
    from snakemake_executor_takeda.routing.market_prices import with_prices

    old = migrating.old_settings(os.environ, migrating.old_flags(), container_image)
    policy = _policy(settings, factories, queue=old.words.get("queue"))
    filled_in = migrating.filled_in(policy, old, is_own_file=bool(settings.routing))
    return with_prices(filled_in, cache(aws_region))


def prices_of(policy: Policy, say: Callable[[str], None]) -> Prices:
    """What the jobs of a run cost, by the policy and the tables of prices of its targets' Regions."""
    from snakemake_executor_takeda.reporting.costs import Prices
    from snakemake_executor_takeda.routing.prices import price_book

    region = cache(aws_region)

    def book_of(target: Target) -> PriceBook | None:
        here = getattr(target.options, "region", None) or region()
        return price_book(here) if here else None

    return Prices(policy.market, book_of, say)


def policy_facts(settings: ExecutorSettings, policy: Policy, *, has_s3: bool) -> dict[str, str]:
    """What it takes to read a run's policy again without Snakemake: its file, or what the flags named,
    and the regions. No secret: of the file only its path."""
    options = [target.options for target in policy.targets.values()]
    queues = [] if settings.routing else [one.queue for one in options if hasattr(one, "queue")]
    facts = {
        "routing": settings.routing,
        "batch_queue": next(iter(queues), None),
        "slurm_partition": settings.slurm_partition,
        "omics_role_arn": settings.omics_role_arn,
        "omics_output_uri": settings.omics_output_uri,
        "batch_region": next((r for one in options if (r := getattr(one, "region", None))), None),
        "region": aws_region() if has_s3 else None,
    }
    return {name: str(value) for name, value in facts.items() if value}


def policy_again(
    facts: Mapping[str, str],
    routing: str | None,
    workdir: Path,
    factories: Mapping[str, BackendFactory],
) -> Policy:
    """The policy of a run whose facts are these, or that of the file `routing`; its services are asked in
    the regions in which the run asked them. Raises TakedaError."""
    from snakemake_executor_takeda.settings import ExecutorSettings

    if region := facts.get("region"):
        os.environ["AWS_DEFAULT_REGION"] = region
    if not routing and "routing" in facts:
        routing = str(workdir / facts["routing"])
    flags = {} if routing else facts
    settings = ExecutorSettings(
        routing=routing,
        batch_queue=flags.get("batch_queue"),
        slurm_partition=flags.get("slurm_partition"),
        omics_role_arn=flags.get("omics_role_arn"),
        omics_output_uri=flags.get("omics_output_uri"),
    )
    policy = policy_of(settings, factories)
    if not (region := facts.get("batch_region")):
        return policy
    return replace(
        policy,
        targets={
            name: replace(one, options=one.options.having({"region": region}))
            if getattr(one.options, "region", region) is None
            else one
            for name, one in policy.targets.items()
        },
    )


def aws_region() -> str | None:
    """AWS's own setting, from the environment or a file."""
    import botocore.session

    region: str | None = botocore.session.get_session().get_config_variable("region")
    return region


def container_image_of(workflow: Any) -> str | None:
    """What `--container-image` says; None for Snakemake's default, which has no worker of ours in it."""
    from snakemake.common import get_container_image

    image = workflow.remote_execution_settings.container_image
    return None if image == get_container_image() else image


def _policy(
    settings: ExecutorSettings, factories: Mapping[str, BackendFactory], queue: str | None
) -> Policy:
    option_models = _Lazily({name: partial(_model_of, factories, name) for name in factories})
    if settings.routing:
        from snakemake_executor_takeda.routing.policy import load_policy

        path = Path(settings.routing)
        if not path.is_file():
            raise TakedaError(
                f"there is no routing policy {path} (--takeda-routing): name a YAML file, or leave the "
                "flag out and name targets with --takeda-batch-queue and the like."
            )
        return load_policy(path, option_models, os.environ)
    from snakemake_executor_takeda.routing.defaults import policy_from_settings

    return policy_from_settings(
        batch_queue=settings.batch_queue or queue,
        slurm_partition=settings.slurm_partition,
        omics_role_arn=settings.omics_role_arn,
        omics_output_uri=settings.omics_output_uri,
        option_models=option_models,
    )


def _model_of(factories: Mapping[str, BackendFactory], name: str) -> type[BaseModel]:
    return factories[name].options_model


def remote_prefix_of(workflow: Any, settings: ExecutorSettings, run_id: str) -> str | None:
    """Where the run keeps its objects in S3; None on a shared file system.

    Raises TakedaError where inputs and outputs are not shared and there is no S3 either.
    """
    storage = workflow.storage_settings
    if SharedFSUsage.INPUT_OUTPUT in storage.shared_fs_usage:
        return None
    prefix = settings.staging
    if not prefix and storage.default_storage_provider == "s3":
        prefix = f"{str(storage.default_storage_prefix).rstrip('/')}/.takeda"
    if not prefix or not prefix.startswith("s3://"):
        raise TakedaError(
            "without a shared file system for inputs and outputs the jobs need S3: set "
            "`default-storage-provider: s3` and `default-storage-prefix: s3://BUCKET/PREFIX` in the "
            "profile (or --takeda-staging s3://BUCKET/PREFIX for other storage)."
        )
    return f"{prefix.rstrip('/')}/{run_id}"


def reachable(names: Iterable[str], targets: Mapping[str, Target]) -> list[Target]:
    """These targets and every fallback that they lead to, each once."""
    found: dict[str, Target] = {}
    for name in names:
        step: str | None = name
        while step and step not in found:
            found[step] = targets[step]
            step = targets[step].fallback
    return list(found.values())
