"""AWS HealthOmics: may it be used, its role, the place for results, run group and cache, and its quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from snakemake_executor_takeda.backends import aws
from snakemake_executor_takeda.doctor import quotas, storage
from snakemake_executor_takeda.doctor.asked import alike
from snakemake_executor_takeda.doctor.cloud import Cloud, Once, asking
from snakemake_executor_takeda.doctor.findings import Checkup, Finding
from snakemake_executor_takeda.doctor.images import look_at_image
from snakemake_executor_takeda.doctor.places import places_of
from snakemake_executor_takeda.doctor.rights import Right, rights_of, role_checkups

if TYPE_CHECKING:
    from snakemake_executor_takeda.backends.healthomics.options import HealthOmicsOptions
    from snakemake_executor_takeda.doctor.asked import Asked
    from snakemake_executor_takeda.values import Target

OMICS = "omics.amazonaws.com"
_ACTIVE = ("STARTING", "RUNNING", "STOPPING")


def checkups(targets: Sequence[Target], asked: Asked) -> Iterator[Checkup]:
    cloud, first = asked.cloud, (asked.credentials,)
    service = Checkup("service", "HealthOmics", partial(_service, cloud), first, vital=True)
    yield service
    own = asked.project.storage.own_prefix
    known = {aws.split_s3_uri(own)[0]} if own else set()
    for names, target in alike(targets, "role_arn"):
        yield from role_checkups(
            cloud,
            asked.caller,
            about=names,
            arn=target.options.role_arn,
            where=target.where,
            word="role_arn",
            service=OMICS,
            rights=Once(partial(_rights, target, asked)),
            kind="healthomics",
            after=first,
        )
    for target in targets:
        options: HealthOmicsOptions = target.options
        for word, uri in (
            ("output_uri", options.output_uri),
            ("definition_uri", options.definition_uri),
        ):
            if uri and (bucket := aws.split_s3_uri(uri)[0]) not in known:
                known.add(bucket)
                yield from storage.checkups(
                    cloud,
                    uri,
                    f"{target.where}: `{word}`",
                    first,
                    writes=False,
                    strict="HealthOmics",
                )
        for mapping in options.container_registry_map.imageMappings:
            image = mapping.destinationImage
            word = f"{target.where}: `destinationImage`"
            yield Checkup("image", target.name, partial(_image, cloud, image, word), first)
    for names, target in alike(targets, "run_group_id"):
        yield Checkup("run group", names, partial(_run_group, cloud, target), (service,))
    for names, target in alike(targets, "cache_id"):
        yield Checkup("run cache", names, partial(_run_cache, cloud, target), (service,))
    for kind in dict.fromkeys(target.options.storage_type for target in targets):
        yield Checkup(
            "active runs", f"HealthOmics, {kind}", partial(_runs, cloud, kind), (service,)
        )


def _service(cloud: Cloud) -> Iterator[Finding]:
    with asking("omics", "omics:ListWorkflows", needed=True):
        cloud.client("omics").list_workflows(type="PRIVATE", maxResults=1)
    return iter(())


def _rights(target: Target, asked: Asked) -> list[Right]:
    """On the bucket of the run, which its inputs come from, or that of `output_uri`."""
    return rights_of("healthomics", ["healthomics"], places_of(asked, [target]))


def _run_group(cloud: Cloud, target: Target) -> Iterator[Finding]:
    run_group_id = target.options.run_group_id
    from botocore.exceptions import ClientError

    try:
        with asking("omics", "omics:GetRunGroup"):
            cloud.client("omics").get_run_group(id=run_group_id)
    except ClientError as error:
        if aws.http_status(error) != 404:
            raise
        yield _gone(target, "run group", "run_group_id", run_group_id, "list-run-groups")


def _run_cache(cloud: Cloud, target: Target) -> Iterator[Finding]:
    cache_id = target.options.cache_id
    from botocore.exceptions import ClientError

    try:
        with asking("omics", "omics:GetRunCache"):
            cloud.client("omics").get_run_cache(id=cache_id)
    except ClientError as error:
        if aws.http_status(error) != 404:
            raise
        yield _gone(target, "run cache", "cache_id", cache_id, "list-run-caches")


def _gone(target: Target, what: str, word: str, value: str, listing: str) -> Finding:
    return Finding(
        f"{target.where}: there is no {what} {value}",
        "HealthOmics refuses every run",
        f"correct `{word}` (aws omics {listing} shows them), or leave it out",
    )


def _image(cloud: Cloud, image: str, word: str) -> Iterator[Finding]:
    return look_at_image(image, word, Cloud, is_emulated=cloud.is_emulated("omics"))


def _runs(cloud: Cloud, kind: str) -> Iterator[Finding]:
    quota = quotas.Quota("omics", *quotas.ACTIVE_RUNS[kind])
    value = quotas.value_of(cloud, quota)
    with asking("omics", "omics:ListRuns"):
        pages = cloud.client("omics").get_paginator("list_runs")
        used = sum(
            one.get("storageType", kind) == kind
            for status in _ACTIVE
            for page in pages.paginate(status=status)
            for one in page["items"]
        )
    return quotas.judged_use(quota, value, used, "further runs wait as PENDING")
