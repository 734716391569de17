"""The JSON Schema that editors use: current, and of one mind with the loader."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from routing_models import MODELS, ROUTES, TARGETS

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.routing.schema import SHIPPED, policy_schema, schema_text

REPOSITORY = Path(__file__).parents[2]
PROFILES = sorted(REPOSITORY.glob("profiles/*/routing.yaml"))


def test_the_shipped_schema_is_current() -> None:
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    assert SHIPPED.read_text(encoding="utf-8") == schema_text(models), (
        f"run: python -m snakemake_executor_takeda.routing.schema > {SHIPPED.name}, in {SHIPPED.parent}"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(policy_schema(MODELS))


def test_a_good_policy_passes() -> None:
    jsonschema.validate(yaml.safe_load(TARGETS + ROUTES), policy_schema(MODELS))


GOOD = [
    "version: 1\ninclude: site.yaml\n",
    "version: 1\ninclude: [site.yaml]\ntargets: {a: {instances: [c7i], limits: {mem_mb: 5}}}",
    "version: 1\ntargets: {a: {backend: slurm}}\ndefault: [a]\nchoose: cheapest\nlocked: [retry]",
    """
version: 1
targets: {a: {backend: slurm, locked: true, usd_per_cpu_hour: 0.1, speed: 2}}
routes:
  - {when: {time: "20:00-06:00", weekday: [sat, sun], timezone: UTC}, to: [a], choose: first}
  - {when: {weekday: "mon-fri, sun"}, to: a, locked: true}
default: a
""",
]


@pytest.mark.parametrize("text", GOOD)
def test_what_the_loader_takes_passes(text: str) -> None:
    jsonschema.validate(yaml.safe_load(text), policy_schema(MODELS))


A = "version: 1\ntargets: {a: {backend: slurm}}\ndefault: a\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (A.replace("1", "2", 1), "1 was expected"),
        (A.replace("default: a", ""), "'default' is a required property"),
        (A.replace("slurm", "slrum"), "'slrum' is not one of"),
        (A.replace("slurm", "slurm, queue: q"), "'queue' was unexpected"),
        (A.replace("slurm", "batch"), "'queue' is a required property"),
        (A.replace("slurm", "batch, queue: q, mounts: [{volum: v}]"), "'volum' was unexpected"),
        (A.replace("slurm", "slurm, capacity: spto"), "'spto' is not one of"),
        (A + "routes: [{when: {}, to: a}]", "non-empty"),
        (A + "routes: [{when: {mpi: srun}, to: a}]", "'srun' is not of type 'boolean'"),
        (A + "routes: [{when: {mem_mb: much}, to: a}]", "'much' does not match"),
        (A + "routes: [{when: {mpi: true}, too: a}]", "'too' was unexpected"),
        (A + "routes: [{when: {mpi: true}, to: []}]", "should be non-empty"),
        (A + "routes: [{when: {mpi: true}, to: a, choose: x}]", "'x' is not one of"),
        (A + "routes: [{when: {time: '20'}, to: a}]", "'20' does not match"),
        (A + "routes: [{when: {weekday: 1}, to: a}]", "1 is not valid under any"),
        (A + "locked: [retries]", "'retries' is not one of"),
        (A.replace("backend: slurm", "partition: x"), "'backend' is a required property"),
        (A.replace("slurm", "slurm, limits: {mem: 5}"), "'mem' was unexpected"),
    ],
    ids=lambda x: str(x)[-40:],
)
def test_a_bad_policy_does_not(text: str, said: str) -> None:
    with pytest.raises(jsonschema.ValidationError, match=said):
        jsonschema.validate(yaml.safe_load(text), policy_schema(MODELS))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_policies_of_the_profiles(path: Path) -> None:
    """As they are written, before their variables are put in."""
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), policy_schema(models))
