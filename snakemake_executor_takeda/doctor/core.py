"""All that is looked at for a project: what each backend names for its targets, and what they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from snakemake_executor_takeda.doctor import identity, software, storage
from snakemake_executor_takeda.doctor.asked import Asked
from snakemake_executor_takeda.doctor.cloud import Cloud, Once
from snakemake_executor_takeda.doctor.findings import Checkup, Finding
from snakemake_executor_takeda.doctor.places import features_of, places_of
from snakemake_executor_takeda.doctor.rights import own_rights_checkup, rights_of

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.base import BackendFactory
    from snakemake_executor_takeda.doctor.project import Project


def checkups_of(project: Project, factories: Mapping[str, BackendFactory]) -> Iterator[Checkup]:
    """Nobody is asked here. What is looked at depends on the targets: without AWS, nothing of AWS."""
    yield from software.checkups(project)
    regions = {getattr(one.options, "region", None) for one in project.targets.values()}
    named = sorted(region for region in regions if region)
    if len(named) > 1:
        yield Checkup("Region", "the policy", lambda: judged_regions(project, named))
    cloud = Cloud(named[0] if named else None)
    caller = identity.caller_of(cloud)
    on_aws = [one for one in project.targets.values() if one.backend in ("batch", "healthomics")]
    prefix = project.storage.own_prefix
    needing = ", ".join(one.name for one in on_aws) or "the run's storage"
    credentials, clock = identity.checkups(caller, needing)
    asked = Asked(project, cloud, caller, credentials)
    if on_aws or prefix:
        yield from (credentials, clock)
        features = features_of(project.targets.values(), has_s3=prefix is not None)
        rights = Once(
            lambda: rights_of("controller", features, places_of(asked, project.targets.values()))
        )
        yield own_rights_checkup(cloud, caller, rights, features, (credentials,))
    if prefix and prefix.startswith("s3://") and "$" not in prefix:
        uses_omics = any(one.backend == "healthomics" for one in on_aws)
        yield from storage.checkups(
            cloud,
            prefix,
            project.where_storage_is_said,
            (credentials,),
            strict="HealthOmics" if uses_omics else "",
        )
    for backend in dict.fromkeys(one.backend for one in project.targets.values()):
        factory: Any = factories[backend]
        # Not of the protocol: a backend of somebody else's need not have it.
        bring = getattr(factory, "checkups", None)
        if bring is not None:
            mine = [one for one in project.targets.values() if one.backend == backend]
            yield from bring(mine, asked)


def judged_regions(project: Project, named: list[str]) -> Iterator[Finding]:
    places = "; ".join(
        f"{one.where}: {region}"
        for one in project.targets.values()
        if (region := getattr(one.options, "region", None))
    )
    yield Finding(
        f"the Batch targets are in {len(named)} Regions: {places}",
        "a run stops at its start: its targets are in one Region",
        f"write `region: {named[0]}` in each of them, or in none",
    )
