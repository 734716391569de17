"""A profile for what there is: targets and routes for each queue, partition and role that was named. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from snakemake_executor_takeda.initializing.finding import Found
from snakemake_executor_takeda.initializing.slots import PARTITIONS, QUEUES

SPOT, ON_DEMAND = "spot", "on-demand"
LONG_MIN = 720
"""Jobs that may take longer go On-Demand: all that they have done is lost with a Spot machine."""
_TARGETS = {
    "spot_queue": ("batch-spot", SPOT),
    "queue": ("batch-od", ON_DEMAND),
    "fargate_spot_queue": ("fargate-spot", SPOT),
    "fargate_queue": ("fargate", ON_DEMAND),
    "spot_partition": ("hpc-spot", SPOT),
    "partition": ("hpc", None),
    "efa_partition": ("hpc-efa", None),
}
_FALLBACKS = {
    "batch-spot": ("batch-od",),
    "fargate-spot": ("fargate",),
    "hpc-spot": ("hpc", "batch-od"),
}


def needs_s3(values: Mapping[str, str]) -> bool:
    """Whether a target has no file system with this machine; a bucket that is named is used, too."""
    return any(values.get(name) for name in (*QUEUES, "omics_role", "bucket"))


def composed(values: Mapping[str, str], found: Found) -> dict[str, str]:
    """File → text. There is a queue or a partition among the values, and a bucket where one is needed."""
    return {
        "routing.yaml": _text(
            policy_of(values, found),
            "Where jobs go; `takeda policy check` reads it as a run does. The first route that fits counts.",
        ),
        "config.yaml": _text(
            config_of(values, found), "Flags of Snakemake. README.md beside this file."
        ),
    }


def policy_of(values: Mapping[str, str], found: Found) -> dict[str, Any]:
    targets = {
        name: _target(slot, capacity, values, found)
        for slot, (name, capacity) in _TARGETS.items()
        if values.get(slot)
    }
    for spot, others in _FALLBACKS.items():
        if spot in targets and (fallback := next((o for o in others if o in targets), None)):
            targets[spot]["fallback"] = fallback
    if values.get("omics_role"):
        targets["omics"] = {
            "backend": "healthomics",
            "role_arn": values["omics_role"],
            "output_uri": f"s3://{values['bucket']}/{values['project']}/omics",
        }
    default = next(name for name in _order(targets))
    retry: dict[str, Any] = {"out_of_memory": _Line(factor=2, times=1, up_to_mb=500_000)}
    if targets[default].get("capacity") == SPOT:
        retry = {"interruptions": 2, **retry, "total": 12}
    routes = list(_routes(targets, default))
    return {
        "version": 1,
        "targets": targets,
        **({"routes": routes} if routes else {}),
        "default": default,
        "retry": retry,
    }


def _order(targets: Mapping[str, Any]) -> Iterator[str]:
    """Spot before On-Demand, Batch before Slurm; HealthOmics takes no ordinary job."""
    return (name for name, _ in _TARGETS.values() if name in targets)


def _routes(targets: Mapping[str, Any], default: str) -> Iterator[dict[str, Any]]:
    def first(*names: str) -> str | None:
        return next((name for name in names if name in targets), None)

    def route(to: str, **when: object) -> dict[str, Any]:
        return _Line(when=when, to=to)

    if "omics" in targets:
        yield route("omics", handoff=True)
    cluster = first("hpc-efa", "hpc", "hpc-spot")
    if cluster and cluster != default:
        yield route(cluster, mpi=True)
    wide = cluster or first("batch-od")
    if wide and wide != default:
        yield route(wide, nodes=">1")
    lasting = targets[default].get("fallback")
    if lasting:
        yield route(lasting, runtime=f">{LONG_MIN}")
        yield route(lasting, attempt=">2")


def _target(
    slot: str, capacity: str | None, values: Mapping[str, str], found: Found
) -> dict[str, Any]:
    one = found.named(slot, values[slot])
    words: dict[str, Any]
    if slot in PARTITIONS:
        words = {"backend": "slurm", "partition": one.value}
        if slot == "efa_partition":
            words["efa"] = True
        if values.get("scratch"):
            words["scratch"] = values["scratch"]
    else:
        words = {"backend": "batch", "queue": one.value}
        if slot.startswith("fargate"):
            words["platform"] = "FARGATE"
            words["execution_role_arn"] = values["execution_role"]
        for word, name in (("image", "image"), ("job_role_arn", "job_role")):
            if values.get(name):
                words[word] = values[name]
        if values.get("region"):
            words["region"] = values["region"]
    if capacity:
        words["capacity"] = capacity
    if one.instances:
        words["instances"] = list(one.instances)
    return words


def config_of(values: Mapping[str, str], found: Found) -> dict[str, Any]:
    storage = (
        {
            "default-storage-provider": "s3",
            "default-storage-prefix": f"s3://{values['bucket']}/{values['project']}",
            "shared-fs-usage": "none",
        }
        if needs_s3(values)
        # Files that another node wrote may be seen late.
        else {"latency-wait": 60}
    )
    most = [
        count
        for slot in QUEUES
        if values.get(slot) and (count := found.named(slot, values[slot]).max_vcpus)
    ]
    return {
        "executor": "takeda",
        "takeda-routing": "routing.yaml",
        **storage,
        "jobs": 10_000 if needs_s3(values) else 2_000,
        "max-jobs-per-timespan": "100000/1s",
        "rerun-incomplete": True,
        "retries": 2,
        # A rule that asks for more than a queue has would wait for ever.
        **({"max-threads": min(most)} if most and min(most) < 96 else {}),
        "default-resources": {"mem_mb": 4000, "runtime": 240, "disk_mb": 20_000},
    }


class _Line(dict[str, Any]):
    """A mapping that stands on one line."""


class _Dumper(yaml.SafeDumper):
    """Lists of plain values on one line; no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list_node(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    is_short = not any(isinstance(one, dict) for one in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=is_short)


_Dumper.add_representer(list, _list_node)
_Dumper.add_representer(
    _Line, lambda dumper, one: dumper.represent_mapping("tag:yaml.org,2002:map", one, True)
)


def _text(document: Mapping[str, Any], comment: str) -> str:
    text: str = yaml.dump(
        _escaped(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6
    )
    return f"# {comment}\n{text}"


def _escaped(value: Any) -> Any:
    """With `${` as itself, and no variable."""
    if isinstance(value, dict):
        return type(value)({name: _escaped(one) for name, one in value.items()})
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return value.replace("${", "$${") if isinstance(value, str) else value
