"""Loading a policy: what is understood, and what is said about what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from routing_models import MODELS, ROUTES, TARGETS, load

from snakemake_executor_takeda.routing.policy import load_policy
from snakemake_executor_takeda.routing.router import place
from snakemake_executor_takeda.values import TakedaError

MINIMAL = "version: 1\ntargets: {a: {backend: slurm}, b: {backend: slurm}}\n"
"""Two targets, default and routes to be added."""


def mistakes(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(TakedaError) as caught:
        load(tmp_path, text, environ)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_targets_keep_their_words(tmp_path: Path) -> None:
    policy = load(tmp_path, TARGETS + ROUTES)
    spot = policy.targets["batch-spot"]
    assert (spot.name, spot.backend, spot.capacity) == ("batch-spot", "batch", "spot")
    assert spot.instances == ("c7i", "m7i")
    assert spot.fallback == "batch-od"
    assert spot.options == MODELS["batch"].model_validate({"queue": "spot"})
    assert policy.targets["hpc-efa"].efa
    assert policy.default == ("batch-spot",)
    assert not policy.warnings


def test_routes_may_be_left_out_or_empty(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "default: a\n").routes == ()
    assert load(tmp_path, MINIMAL + "routes:\n  # none yet\ndefault: a\n").routes == ()


def test_input_sizes_are_asked_for_only_where_a_route_needs_them(tmp_path: Path) -> None:
    assert not load(tmp_path, MINIMAL + "default: a").needs_input_size
    text = MINIMAL + 'routes: [{when: {input_gb: ">5"}, to: b}]\ndefault: a'
    assert load(tmp_path, text).needs_input_size


def test_a_merged_mapping_gives_what_is_not_said(tmp_path: Path) -> None:
    text = """\
version: 1
targets:
  a: &common {backend: batch, queue: q, capacity: spot}
  b: {<<: *common, capacity: on-demand}
default: a
"""
    policy = load(tmp_path, text)
    assert policy.targets["b"].capacity == "on-demand"
    assert policy.targets["b"].options.queue == "q"


@pytest.mark.parametrize(
    ("written", "environ", "queue"),
    [
        ("${Q}", {"Q": "long"}, "long"),
        ("pre-${Q}-${R}", {"Q": "x", "R": "y"}, "pre-x-y"),
        ("${Q:-short}", {}, "short"),
        ("${Q:-short}", {"Q": ""}, "short"),
        ("${Q:-}x", {}, "x"),
        ("$Q and $${Q}", {"Q": "long"}, "$Q and ${Q}"),
        ("${Q}", {"Q": "${R}"}, "${R}"),
    ],
)
def test_variables_are_filled_in(
    tmp_path: Path, written: str, environ: dict[str, str], queue: str
) -> None:
    text = f'version: 1\ntargets: {{a: {{backend: batch, queue: "{written}"}}}}\ndefault: a'
    assert load(tmp_path, text, environ).targets["a"].options.queue == queue


def test_a_variable_without_quotes_may_be_a_number_or_a_boolean(tmp_path: Path) -> None:
    text = "version: ${V}\ntargets:\n  a:\n    backend: slurm\n    efa: ${E}\ndefault: a"
    assert load(tmp_path, text, {"V": "1", "E": "true"}).targets["a"].efa


def test_a_variables_value_is_not_shown(tmp_path: Path) -> None:
    text = "version: 1\ntargets:\n  a: {backend: slurm, capacity: '${SECRET}'}\ndefault: a"
    said = mistakes(tmp_path, text, SECRET="hunter2")
    assert "`capacity: ${SECRET}` must be spot or on-demand" in said
    assert "hunter2" not in said


ONE_MISTAKE = [
    # What stands under the two targets of MINIMAL, the line, and what must be said.
    ("default: aa", 3, "`default: aa` is no target. Did you mean a?"),
    ("", 1, "the policy lacks `default` (Name of the target"),
    ("defualt: a\ndefault: a", 3, "unknown word `defualt`. Did you mean default?"),
    ("default: a\ndefault: b", 4, "`default` is given twice (first in line 3)"),
    (
        "default: a\nroutes: [{when: {mpi: true}, to: bb}]",
        4,
        "`to: bb` is no target. Did you mean b?",
    ),
    ("default: a\nroutes: [{when: {mpi: true}, to: zzz}]", 4, "is no target. Targets: a, b."),
    (
        "default: a\nroutes: [{when: {mpi: true}, to: [a, 1]}]",
        4,
        "`to: [a, 1]`: must be the name of",
    ),
    ("default: a\nroutes: [{when: {mpi: true}, to: []}]", 4, "`to: []`: must be the name of"),
    ("default: a\nroutes: [{when: {mpi: true}, to: [a, b, a]}]", 4, "a is given twice: keep one"),
    (
        "default: a\nroutes:\n- when: {mpi: true}\n  to:\n  - a\n  - bb",
        8,
        "`to: bb` is no target. Did",
    ),
    ("default: [a, bb]", 3, "the policy: `default: bb` is no target. Did you mean b?"),
    (
        "default: a\nroutes: [{when: {mpi: true}, to: [a, b], choose: cheap}]",
        4,
        "must be first or cheapest or fastest. Did you mean cheapest?",
    ),
    ("default: a\nchoose: quickest", 4, "must be first or cheapest or fastest"),
    ("default: a\ntimezone: Europe/Berln", 4, "no such time zone. Did you mean Europe/Berlin?"),
    ("default: a\ntimezone: Berlin", 4, "Did you mean Europe/Berlin?"),
    ("default: a\ntimezone: 7", 4, "write a time zone as Europe/Berlin"),
    (
        "default: a\nroutes: [{when: {mpi: true, timezone: UTC}, to: b}]",
        4,
        "there is neither: add one, or remove it",
    ),
    (
        "default: a\nroutes: [{when: {time: '>60'}, to: b}]",
        4,
        "the run time in minutes is `runtime`",
    ),
    ("default: a\nroutes: [{when: {time: 25:00-26:00}, to: b}]", 4, "25:00 is no time of day"),
    ("default: a\nroutes: [{when: {time: 8:00-08:00}, to: b}]", 4, "begins as it ends"),
    ("default: a\nroutes: [{when: {weekday: mon-frid}, to: b}]", 4, "Did you mean fri"),
    ("default: a\nroutes: [{when: {weekday: 1}, to: b}]", 4, 'write days as "mon-fri"'),
    ("default: a\nroutes: [{when: {weekdays: mon}, to: b}]", 4, "Did you mean weekday?"),
    ("default: a\nroutes: [{when: {mpi: true}, to: b, locked: yes}]", 4, "must be true or false"),
    ("default: a\nlocked: true", 4, "must be a list of words"),
    ("default: a\nlocked: [retries]", 4, "no word that can be locked. Did you mean retry?"),
    ("default: a\ninclude: [{a: b}]", 4, "must be the path of a policy"),
    ("default: a\ninclude: zzz.yaml", 4, "no such file beside routing.yaml"),
    ("default: a\nroutes: [{when: {mpi: true}}]", 4, "route 1 lacks `to`"),
    ("default: a\nroutes: [{to: a}]", 4, "route 1 lacks `when`"),
    (
        "default: a\nroutes: [{wen: {mpi: true}, to: b}]",
        4,
        "unknown word `wen`. Did you mean when?",
    ),
    ("default: a\nroutes: [{when: {mpi: 1}, to: b}]", 4, "must be true or false, without quotes"),
    ("default: a\nshape_tolerance: 7", 4, "must be at most 1 (Jobs of one rule share an array"),
    ("default: a\nshape_tolerance: 10%", 4, "`shape_tolerance: 10%` must be a number (Jobs of"),
    ("default: a\nretry: {image: 2.5}", 4, "`image: 2.5` must be a whole number (Failed pulls"),
    ("default: a\nroutes: [{when: {}, to: b}]", 4, "name its target in `default`"),
    (
        "default: a\nroutes: [{when: {rule: x}, to: b, too: b}]",
        4,
        "unknown word `too`. Did you mean to?",
    ),
    ("default: a\nroutes: [x]", 4, "route 1: `x` must hold words"),
    ("default: a\nroutes: {x: 1}", 4, "`routes: {x: 1}` must be a list"),
    ("default: a\nroutes: [{when: {rul: x}, to: b}]", 4, "unknown word `rul`. Did you mean rule?"),
    ("default: a\nroutes: [{when: {ruel: x}, to: b}]", 4, "Did you mean rule?"),
    ("default: a\nroutes: [{when: {wildcard: {s: x}}, to: b}]", 4, "Did you mean wildcards?"),
    ("default: a\nroutes: [{when: {handof: true}, to: b}]", 4, "Did you mean handoff?"),
    ("default: a\nroutes: [{when: {attempts: 2}, to: b}]", 4, "Did you mean attempt?"),
    ("default: a\nroutes: [{when: {treads: 2}, to: b}]", 4, "Did you mean threads?"),
    ("default: a\nroutes: [{when: {MPI: true}, to: b}]", 4, "Did you mean mpi?"),
    ("default: a\nroutes: [{when: {mem: 5}, to: b}]", 4, "Use mem_mb, in MB"),
    ("default: a\nroutes: [{when: {backend: slurm}, to: b}]", 4, "overrides the routes by itself"),
    (
        "default: a\nroutes: [{when: {gpu_model: a100}, to: b}]",
        4,
        "neither a condition nor a number",
    ),
    ("default: a\nroutes: [{when: {mem_mb: '>=64GB'}, to: b}]", 4, "no units"),
    ("default: a\nroutes: [{when: {mem_mb: '=>64'}, to: b}]", 4, '">=64000"'),
    ("default: a\nroutes: [{when: {threads: '>4, <3'}, to: b}]", 4, "can never match"),
    ("default: a\nroutes: [{when: {threads: true}, to: b}]", 4, "write a number"),
    ("default: a\nroutes: [{when: {threads: [1]}, to: b}]", 4, "write a number"),
    ("default: a\nroutes: [{when: {threads: }, to: b}]", 4, "`threads` has no value"),
    ("default: a\nroutes: [{when: {mpi: srun}, to: b}]", 4, "`mpi: srun` must be true or false"),
    ("default: a\nroutes: [{when: {rule: [x, y]}, to: b}]", 4, "`rule: [x, y]` must be one text"),
    ("default: a\nroutes: [{when: {rule: ''}, to: b}]", 4, "must not be empty"),
    ("default: a\nroutes: [{when: {wildcards: x}, to: b}]", 4, "{word: value}"),
    ("default: a\nroutes: [{when: {wildcards: {}}, to: b}]", 4, "must not be empty"),
    ("default: a\nroutes: [{when: {handoff: true}, to: b}]", 4, "can never match: `handoff: true`"),
    (
        "default: a\nroutes:\n- {when: {rule: x}, to: a}\n- {when: {mpi: true, rule: x}, to: b}",
        6,
        "route 2 can never match: route 1 (line 5) takes all of its jobs",
    ),
]


@pytest.mark.parametrize(("rest", "line", "said"), ONE_MISTAKE, ids=lambda x: str(x)[:60])
def test_one_mistake_is_one_line(tmp_path: Path, rest: str, line: int, said: str) -> None:
    message = mistakes(tmp_path, MINIMAL + rest)
    assert message.startswith(f"routing.yaml:{line}: "), message
    assert said in message
    assert "\n" not in message


TARGET_MISTAKES = [
    ("{backend: slrum}", "unknown backend slrum. Did you mean slurm?"),
    ("{backend: k8s}", "unknown backend k8s. Backends: batch, healthomics, slurm."),
    ("{partition: x}", "target a lacks `backend`"),
    ("{backend: batch}", "target a lacks `queue` (Name of the job queue)"),
    ("{backend: batch, queue: q, capcity: spot}", "unknown word `capcity`. Did you mean capacity?"),
    ("{backend: slurm, partitoin: q}", "unknown word `partitoin`. Did you mean partition?"),
    ("{backend: slurm, queue: q}", "`queue` is a word of batch targets only: remove it"),
    ("{backend: slurm, capacity: Spot}", "must be spot or on-demand. Did you mean spot?"),
    ("{backend: slurm, instances: c7i}", "must be a list"),
    ("{backend: slurm, instances: [7]}", "target a, instances[0]: `7` must be one text"),
    ("{backend: slurm, efa: maybe}", "`efa: maybe` must be true or false"),
    ("{backend: slurm, efa: 1}", "`efa: 1` must be true or false"),
    (
        "{backend: slurm, limits: {mem: 5}}",
        "target a, limits: unknown word `mem`. Did you mean mem_mb?",
    ),
    (
        "{backend: slurm, limits: {mem_mb: 64GB}}",
        "must be a whole number (Memory of its largest node",
    ),
    ("{backend: slurm, limits: {gpu_model: [1]}}", "must be one text, or a list"),
    ("{backend: slurm, speed: 0}", "`speed: 0` must be more than 0 (Speed of its CPUs"),
    ("{backend: slurm, usd_per_cpu_hour: -1}", "must be at least 0"),
    ("{backend: slurm, locked: 1}", "`locked: 1` must be true or false"),
    (
        '{backend: healthomics, role_arn: r, output_uri: "s3://b", limits: {mem_mb: 5}}',
        "`limits` are about what a rule asks for itself",
    ),
    ("{backend: slurm, efa: true, '${X}': 1}", "variables stand in values"),
    ("{backend: slurm, partition: 7}", "in quotes"),
    ("{backend: slurm, fallback: a}", "fallbacks go in a circle (a → a): cut it"),
    ("{backend: slurm, fallback: bb}", "`fallback: bb` is no target. Did you mean b?"),
    ("{backend: slurm, fallback: b}", "circle (a → b → a)"),
    ("{backend: slurm, fallback: o}", "o cannot take its jobs"),
    ("{backend: healthomics, role_arn: r, output_uri: /x}", "`output_uri: /x` is not valid"),
    (
        "{backend: batch, queue: q, platform: fargate}",
        "must be EC2 or FARGATE. Did you mean FARGATE?",
    ),
    (
        "{backend: batch, queue: q, mounts: [{volum: v}]}",
        "target a, mounts[0]: unknown word `volum`. Did you mean volume?",
    ),
    (
        "{backend: batch, queue: q, platform: FARGATE, mounts: [{volume: v}]}",
        "target a: platform FARGATE takes no mounts.",
    ),
    ("slurm", "`a: slurm` must hold words with values"),
    ("", "`a: ` must hold words with values"),
]


@pytest.mark.parametrize(("target", "said"), TARGET_MISTAKES, ids=lambda x: str(x)[:60])
def test_mistakes_of_a_target(tmp_path: Path, target: str, said: str) -> None:
    text = f"""\
version: 1
targets:
  a: {target}
  b: {{backend: slurm, fallback: a}}
  o: {{backend: healthomics, role_arn: r, output_uri: "s3://x"}}
default: b
"""
    message = mistakes(tmp_path, text)
    assert said in message
    assert "routing.yaml:3: " in message


def test_odd_names_of_targets_are_refused(tmp_path: Path) -> None:
    text = (
        'version: 1\ntargets: {"a b\\u001b[31m": {backend: slurm}, x: {backend: slurm}}\ndefault: x'
    )
    message = mistakes(tmp_path, text)
    assert "a name is 1 to 63 letters" in message
    assert "\x1b" not in message


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
version: 2
targets:
  a: {backend: slrum}
  b: {backend: batch, queu: q}
  c: {backend: batch, queue: "${UNSET}"}
  d: {backend: slurm, capacity: spto}
routes:
  - {when: {rul: x}, to: a}
  - {when: {mpi: true}, to: e}
default: f
default: f
"""
    lines = mistakes(tmp_path, text).splitlines()
    assert lines[0] == "routing.yaml has 9 mistakes:"
    numbers = [int(re.match(r"  routing.yaml:(\d+): ", line)[1]) for line in lines[1:]]
    assert numbers == [1, 3, 4, 5, 6, 8, 9, 10, 11]
    assert "the environment variable UNSET is not set: export UNSET=…" in lines[4]


BAD_FILES = [
    ("", "the file is empty"),
    ("- 1", "a policy begins with `version: 1`"),
    ("just text", "a policy begins with `version: 1`"),
    ("version: 1\ntargets: {a: {queue: ${Q}}}", 'put variables in quotes: "${NAME}"'),
    ("version: 1\nroutes:\n  - {when: {rule: *_x}, to: a}", "must be in quotes"),
    (
        "version: 1\nroutes:\n  - {when: {mem_mb: >=6}, to: a}",
        'put comparisons in quotes: ">=64000"',
    ),
    ("version: 1\n\ttargets: 3", "indent with spaces, not tabs"),
    ("version: 1\n---\nversion: 1", "expected a single document"),
    (
        "version: !!python/object/apply:os.system ['true']",
        "the tag !!python/object/apply:os.system",
    ),
    ("version: !!python/name:os.system x", "is not allowed"),
    ("version: '${}'", "`${}` is no variable"),
    ("version: '${A-b}'", "`${A-b}` is no variable"),
    ("version: '${A'", "`${` is no variable"),
    ("[" * 5000, "nested too deep"),
    ("version: " + "[" * 50 + "]" * 50, "nested deeper than 20 levels"),
    ("a: &a [*a]", "nested deeper than 20 levels"),
    ("a: &a {<<: *a}", "contain themselves"),
    ("? [a]\n: 1", "must be plain text"),
    ("version: \x00", "not YAML"),
]


@pytest.mark.parametrize(("text", "said"), BAD_FILES, ids=lambda x: repr(x)[:40])
def test_files_that_are_no_policy(tmp_path: Path, text: str, said: str) -> None:
    message = mistakes(tmp_path, text)
    assert "routing.yaml" in message
    assert said in message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    with pytest.raises(TakedaError, match=r"p\.yaml: cannot be read: No such file"):
        load_policy(path, MODELS, {})
    path.write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(TakedaError, match=r"p\.yaml:2: not UTF-8"):
        load_policy(path, MODELS, {})
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(TakedaError, match="larger than 1,000,000 bytes"):
        load_policy(path, MODELS, {})


@pytest.mark.parametrize("form", ["[{nine}]", "{{<<: [{nine}]}}"], ids=["lists", "merges"])
def test_a_bomb_of_aliases_is_refused(tmp_path: Path, form: str) -> None:
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, 12):
        nine = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {form.format(nine=nine)}")
    assert "more than 50,000 values once its aliases" in mistakes(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("word", ["mem_gb", "gpuz", "nodse", "memory", "cpus", "walltime"])
def test_a_resource_that_looks_misspelt_is_a_hint_not_a_mistake(tmp_path: Path, word: str) -> None:
    policy = load(tmp_path, MINIMAL + f"routes: [{{when: {{{word}: 2}}, to: b}}]\ndefault: a")
    (warning,) = policy.warnings
    assert "routing.yaml:3: route 1: " in warning
    assert f"`{word}` is no resource of Snakemake's own. Did you mean" in warning


@pytest.mark.parametrize("word", ["licences", "vram_gb", "mem_mib", "gpus", "ntasks", "io_slots"])
def test_own_resources_are_conditions(tmp_path: Path, word: str) -> None:
    policy = load(tmp_path, MINIMAL + f"routes: [{{when: {{{word}: 2}}, to: b}}]\ndefault: a")
    assert policy.warnings == ()


@pytest.mark.parametrize("differs", ["capacity: spot", "instances: [g6]"])
def test_the_same_conditions_may_lead_to_targets_that_differ(tmp_path: Path, differs: str) -> None:
    """A rule that asks for the second by capacity or instance type passes the first route over."""
    text = f"""\
version: 1
targets: {{a: {{backend: slurm}}, b: {{backend: slurm, {differs}}}}}
routes:
  - {{when: {{gpu: ">0"}}, to: a}}
  - {{when: {{gpu: ">0"}}, to: b}}
default: a
"""
    assert len(load(tmp_path, text).routes) == 2


def test_a_default_of_healthomics_is_fine_for_a_pipeline_of_hand_offs(tmp_path: Path) -> None:
    from routing_models import job

    policy = load(tmp_path, TARGETS + "default: omics")
    assert place(job(resources={"handoff": "a.wdl"}), policy).target.name == "omics"
