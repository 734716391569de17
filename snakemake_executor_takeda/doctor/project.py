"""What the doctor is asked about: the policy, and what the profile says of storage."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.doctor.largest import Largest, largest_of
from snakemake_executor_takeda.quiet_snakemake import quiet, reason
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy
    from snakemake_executor_takeda.settings import ExecutorSettings
    from snakemake_executor_takeda.values import Target


class UsedWrongly(Exception):
    """Something that is named is not there."""


@dataclass(frozen=True)
class Storage:
    """Where a run's files are, as flags and profile say."""

    provider: str | None = None
    """`s3`, or another; None for a file system."""
    prefix: str | None = None
    """`s3://bucket/prefix`."""
    staging: str | None = None
    """--takeda-staging."""
    shares_files: bool = True
    """Whether `shared-fs-usage` has inputs and outputs on a file system that all nodes see."""

    @property
    def own_prefix(self) -> str | None:
        """Where a run keeps what its jobs need; None without S3."""
        if self.staging:
            return self.staging.rstrip("/")
        if self.provider == "s3" and self.prefix and not self.shares_files:
            return f"{self.prefix.rstrip('/')}/.takeda"
        return None


@dataclass(frozen=True)
class Flags:
    """What Snakemake makes of the profile."""

    settings: ExecutorSettings
    storage: Storage
    profile: str | None
    """As it was named; None where there is none, so that little is known of storage."""
    container_image: str | None = None


@dataclass(frozen=True)
class Project:
    """All that is known before anybody is asked."""

    policy: Policy
    targets: Mapping[str, Target]
    """Those that are looked at."""
    storage: Storage
    profile: str | None
    workdir: Path
    largest: Mapping[str, Largest] = field(default_factory=dict)
    """By target."""

    @property
    def where_storage_is_said(self) -> str:
        return f"{self.profile}/config.yaml" if self.profile else "the profile's config.yaml"


def flags_of(profile: str | None, routing: Path | None) -> Flags:
    """What `snakemake --profile PROFILE` would be told; without one $SNAKEMAKE_PROFILE and the workflow's
    own profile count, as there. Raises UsedWrongly."""
    if routing is not None and not routing.is_file():
        raise UsedWrongly(f"there is no routing policy {routing}: name a YAML file")
    try:
        args, used = _parsed(["--profile", profile] if profile else [])
    except ModuleNotFoundError as error:
        if profile:
            raise UsedWrongly(
                f"only Snakemake can read a profile, and it is not installed here ({error}): "
                "pip install snakemake, or name the policy with --routing"
            ) from None
        args, used = None, None
    return _flags(args, used, routing)


def _parsed(argv: Sequence[str]) -> tuple[Any, str | None]:
    from snakemake.cli import parse_args

    with quiet() as said:
        try:
            _, args = parse_args(list(argv))
        except SystemExit:
            raise UsedWrongly(
                f"Snakemake does not take the profile: {reason(said.getvalue())}"
            ) from None
    used = re.search(r"^Using (?:profiles? |workflow specific profile )(.+?)(?: and workflow.*)? for setting",
                     said.getvalue(), re.MULTILINE)  # fmt: skip
    return args, used[1] if used else None


def _flags(args: Any, profile: str | None, routing: Path | None) -> Flags:
    from snakemake_executor_takeda.settings import ExecutorSettings

    if args is None:
        return Flags(ExecutorSettings(routing=str(routing) if routing else None), Storage(), None)
    from snakemake.common import get_container_image
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
    from snakemake_interface_executor_plugins.settings import SharedFSUsage

    settings = ExecutorPluginRegistry().get_plugin("takeda").get_settings(args)
    if routing is not None:
        settings = replace(settings, routing=str(routing))
    storage = Storage(
        args.default_storage_provider,
        args.default_storage_prefix,
        settings.staging,
        SharedFSUsage.INPUT_OUTPUT in args.shared_fs_usage,
    )
    image = args.container_image
    is_own = image and image != get_container_image()
    return Flags(settings, storage, profile, str(image) if is_own else None)


def project_of(
    flags: Flags, only: Sequence[str] = (), wanted: Mapping[str, int | float | str] | None = None
) -> Project:
    """The policy, and those of its targets that are named in `only`, or all. `wanted` is the largest job
    as the user describes it. Raises TakedaError for a policy with mistakes, UsedWrongly for a target that
    is not there."""
    from snakemake_executor_takeda.assembly import backend_factories, policy_of
    from snakemake_executor_takeda.nearest import nearest
    from snakemake_executor_takeda.routing.source import Place, Problems

    try:
        policy = policy_of(flags.settings, backend_factories(), flags.container_image)
    except TakedaError as error:
        if not flags.settings.routing and str(error).startswith("no target is named"):
            raise UsedWrongly(
                "nothing tells which policy to look at: name it with --profile DIR or --routing FILE, or "
                "set SNAKEMAKE_PROFILE"
            ) from None
        raise
    problems = Problems(policy.source)
    for target in policy.targets.values():
        # Of those backends whose options can tell without asking a service.
        for text in getattr(target.options, "wrong_here", tuple)():
            file_name, _, line = target.source.rpartition(":")
            problems.add(
                Place(file_name, int(line or 0)), f"target {target.name}: {text.rstrip('.')}."
            )
    problems.raise_any()
    for name in only:
        if name not in policy.targets:
            near = nearest(name, policy.targets)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(policy.targets)}"
            raise UsedWrongly(f"--target {name}: {policy.source} has no such target: {hint}")
    targets = {name: one for name, one in policy.targets.items() if not only or name in only}
    return Project(
        policy=policy,
        targets=targets,
        storage=flags.storage,
        profile=flags.profile,
        workdir=Path.cwd(),
        largest={name: largest_of(one, policy, wanted or {}) for name, one in targets.items()},
    )
