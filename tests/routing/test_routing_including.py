"""A policy that builds on others: who comes first, what is locked, and where mistakes are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from routing_models import MODELS, job

from snakemake_executor_takeda.routing.policy import Policy, load_policy
from snakemake_executor_takeda.routing.router import PlacementError, fallback_of, place
from snakemake_executor_takeda.values import TakedaError

SITE = """\
version: 1
targets:
  spot: {backend: batch, queue: s, capacity: spot, instances: [c7i], fallback: od}
  od: {backend: batch, queue: o, capacity: on-demand, instances: [c7i]}
  hpc: {backend: slurm, partition: site}
routes:
  - {when: {mpi: true}, to: hpc}
  - {when: {rule: "x_*"}, to: od}
default: spot
retry: {lost: 1, image: 2}
timezone: Asia/Tokyo
"""


def load_files(tmp_path: Path, environ: dict[str, str] | None = None, **files: str) -> Policy:
    """`routing` is the policy itself."""
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_policy(tmp_path / "routing.yaml", MODELS, environ or {})


def mistakes(tmp_path: Path, **files: str) -> list[str]:
    with pytest.raises(TakedaError) as caught:
        load_files(tmp_path, **files)
    lines = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    return [line.strip() for line in lines[1:]] or lines


def on(include: str, rest: str = "") -> str:
    return f"version: 1\ninclude: {include}\n{rest}"


def test_a_project_that_says_nothing_is_the_sites(tmp_path: Path) -> None:
    policy = load_files(tmp_path, site=SITE, routing=on("site.yaml"))
    assert list(policy.targets) == ["spot", "od", "hpc"]
    assert (policy.default, policy.timezone) == (("spot",), "Asia/Tokyo")
    assert policy.routes[0].label == f"route 1 ({tmp_path}/site.yaml:7)"
    assert policy.targets["od"].source == f"{tmp_path}/site.yaml:4"
    assert [path.name for path in policy.files] == ["routing.yaml", "site.yaml"]
    assert policy.source == str(tmp_path / "routing.yaml")


def test_the_projects_words_come_first(tmp_path: Path) -> None:
    project = on(
        "[site.yaml]",
        """\
targets:
  spot: {instances: [m7i], fallback: null}
  mine: {backend: slurm}
routes:
  - {when: {rule: "x_*"}, to: mine}
default: hpc
retry: {lost: 5}
""",
    )
    policy = load_files(tmp_path, site=SITE, routing=project)
    spot = policy.targets["spot"]
    assert (spot.instances, spot.capacity, spot.fallback) == (("m7i",), "spot", None)
    assert spot.options.queue == "s"
    assert (policy.default, spot.retry.lost, spot.retry.image) == (("hpc",), 5, 2)
    placement = place(job("x_1"), policy)
    assert placement.target.name == "mine"
    assert placement.reasons[0].startswith(f"route 1 ({tmp_path}/routing.yaml:7) matched: ")
    # A route of the site still takes what no route of the project does.
    assert place(job(shape={"mpi": "srun"}), policy).target.name == "hpc"


def test_a_later_file_comes_before_an_earlier_one_and_each_is_read_once(tmp_path: Path) -> None:
    base = "version: 1\ntargets: {a: {backend: slurm, partition: base}}\nroutes: [{when: {rule: base}, to: a}]\n"
    one = on("base.yaml", "routes: [{when: {rule: '*'}, to: a}]\ndefault: a\n")
    two = on(
        "[base.yaml]",
        "targets: {a: {partition: two}}\nroutes: [{when: {rule: 'b*'}, to: a}]\n",
    )
    policy = load_files(tmp_path, base=base, one=one, two=two, routing=on("[one.yaml, two.yaml]"))
    assert policy.targets["a"].options.partition == "two"
    assert [route.label.partition("/")[2].rpartition("/")[2] for route in policy.routes] == [
        "two.yaml:4)",
        "one.yaml:3)",
        "base.yaml:3)",
    ]
    assert len(policy.files) == 4


def test_paths_are_relative_to_the_file_and_may_hold_variables(tmp_path: Path) -> None:
    folder = tmp_path / "site" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "site" / "all.yaml").write_text(SITE, encoding="utf-8")
    (folder / "more.yaml").write_text(on("../all.yaml"), encoding="utf-8")
    routing = on('["${SITE:-site/deep}/more.yaml"]')
    assert load_files(tmp_path, routing=routing).default == ("spot",)
    assert load_files(tmp_path, {"SITE": str(folder)}, routing=routing).default == ("spot",)


def test_mistakes_name_the_file_in_which_they_are(tmp_path: Path) -> None:
    site = SITE.replace("slurm", "slrum").replace("rule:", "rul:").replace("lost: 1", "losst: 1")
    project = on("site.yaml", "targets: {spot: {capacity: spto}}\ndefault: hcp\n")
    assert mistakes(tmp_path, site=site, routing=project) == [
        "routing.yaml:3: target spot: `capacity: spto` must be spot or on-demand. Did you mean spot?",
        "routing.yaml:4: the policy: `default: hcp` is no target. Did you mean hpc?",
        "site.yaml:5: target hpc: unknown backend slrum. Did you mean slurm?",
        "site.yaml:8: route 2: unknown word `rul`. Did you mean rule?",
        "site.yaml:10: the policy, retry: unknown word `losst`. Did you mean lost?",
    ]


def test_an_unset_variable_is_named_with_the_included_file(tmp_path: Path) -> None:
    site = SITE.replace("queue: s", 'queue: "${QUEUE}"')
    (said,) = mistakes(tmp_path, site=site, routing=on("site.yaml"))
    assert said.startswith("site.yaml:3: the environment variable QUEUE is not set: export QUEUE=")


@pytest.mark.parametrize(
    ("site", "include", "said"),
    [
        ("version: 1", "siet.yaml", "routing.yaml:2: `include: siet.yaml`: there is no such file"),
        ("version: 1", "siet.yaml", "Did you mean site.yaml?"),
        ("version: 1", "[{a: b}]", "must be the path of a policy"),
        ("version: 1", ".", "there is no such file"),
        ("version: 1", r'"a\0b"', "this is no path of a file"),
        ("version: 1", "a" * 300, "this is no path of a file"),
        ("version: 1", "~nobody-here/site.yaml", "there is no such file"),
        ("version: 2", "site.yaml", "site.yaml:1: the policy: `version: 2` must say `version: 1`"),
        ("default: a", "site.yaml", "site.yaml:1: the policy: it must say `version: 1`"),
        ("[1]", "site.yaml", "site.yaml:1: an included policy begins with `version: 1`"),
        ("version: [", "site.yaml", "site.yaml:1: this is not YAML"),
        ("", "site.yaml", "site.yaml: the file is empty"),
        (on("routing.yaml"), "site.yaml", "site.yaml:2: `include: routing.yaml`: files include each "
         "other in a circle (routing.yaml → site.yaml → routing.yaml): remove one of them."),
        (on("site.yaml"), "site.yaml", "in a circle (site.yaml → site.yaml)"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_included(tmp_path: Path, site: str, include: str, said: str) -> None:
    rest = "targets: {a: {backend: slurm}}\ndefault: a\n"
    assert any(said in one for one in mistakes(tmp_path, site=site, routing=on(include, rest)))


def test_an_override_is_no_route_that_never_matches(tmp_path: Path) -> None:
    project = on(
        "site.yaml", 'routes: [{when: {mpi: true}, to: hpc}, {when: {rule: "x_*"}, to: od}]'
    )
    assert len(load_files(tmp_path, site=SITE, routing=project).routes) == 4


def test_a_file_means_the_same_wherever_it_is_included(tmp_path: Path) -> None:
    site = SITE.replace('{rule: "x_*"}, to: od', '{rule: "x_*", time: "8:00-9:00"}, to: [od, hpc]')
    project = on(
        "site.yaml",
        """timezone: Europe/Berlin
choose: cheapest
targets: {hpc: {usd_per_cpu_hour: 0}}
routes: [{when: {rule: "y_*", time: "8:00-9:00"}, to: [od, hpc]}]
""",
    )
    policy = load_files(tmp_path, site=site, routing=project)
    own, _, sites = policy.routes
    assert (own.choose, sites.choose) == ("cheapest", "first")
    assert own.when == "{rule: y_*, time: 8:00-9:00}"
    assert sites.when == "{timezone: Asia/Tokyo, rule: x_*, time: 8:00-9:00}"
    tokyo = datetime(2026, 7, 1, 23, 30, tzinfo=UTC)
    berlin = datetime(2026, 7, 1, 6, 30, tzinfo=UTC)
    for at, rule in ((tokyo, "x_1"), (berlin, "y_1")):
        said = place(job(rule), policy, at).reasons[0]
        assert said.startswith("route ")
    assert place(job("x_1"), policy, berlin).reasons[0] == "default"
    # Of a file that says no time zone, UTC.
    without = site.replace("timezone: Asia/Tokyo\n", "")
    policy = load_files(tmp_path, site=without, routing=project)
    assert policy.routes[2].when.startswith("{timezone: UTC, ")


LOCKED = (
    SITE.replace("site}", "site, locked: true}")
    .replace('"x_*"}, to: od}', '"x_*"}, to: od, locked: true}')
    .replace("timezone", "locked: [default, retry]\ntimezone")
)


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("targets: {hpc: {efa: true}}", "target hpc is locked by site.yaml:5: remove it here, or give"),
        ("default: od", "`default` is locked by site.yaml:11: remove it here."),
        ("retry: {lost: 7}", "`retry` is locked by site.yaml:11"),
        (
            "routes: [{when: {rule: 'x_*', mpi: true}, to: spot}]",
            "route 1 can never match: route 2 (site.yaml:8, locked) takes all of its jobs. Remove it.",
        ),
    ],
)  # fmt: skip
def test_what_is_locked_is_not_changed(tmp_path: Path, rest: str, said: str) -> None:
    (message,) = mistakes(tmp_path, site=LOCKED, routing=on("site.yaml", rest))
    assert message.startswith("routing.yaml:3: ")
    assert said in message


def test_what_is_not_locked_is(tmp_path: Path) -> None:
    rest = "targets: {spot: {instances: [r7i]}, mine: {backend: slurm}}\ntimezone: UTC\n"
    policy = load_files(tmp_path, site=LOCKED, routing=on("site.yaml", rest))
    assert policy.targets["spot"].instances == ("r7i",)
    assert policy.timezone == "UTC"


def test_targets_and_routes_can_be_locked_as_such(tmp_path: Path) -> None:
    site = SITE + "locked: [targets, routes]\n"
    rest = "targets: {mine: {backend: slurm}}\nroutes: [{when: {rule: y}, to: hpc}]\n"
    said = mistakes(tmp_path, site=site, routing=on("site.yaml", rest))
    assert [one.partition(" is ")[0] for one in said] == ["routing.yaml:3: `targets`", "routing.yaml:4: `routes`"]  # fmt: skip


def test_a_locked_route_comes_before_the_projects_and_the_rules_own_words(tmp_path: Path) -> None:
    rest = 'routes: [{when: {attempt: ">0"}, to: hpc}]\n'
    policy = load_files(tmp_path, site=LOCKED, routing=on("site.yaml", rest))
    assert place(job("y"), policy).target.name == "hpc"
    placement = place(job("x_1"), policy)
    assert placement.target.name == "od"
    assert placement.reasons == (
        f"route 2 ({tmp_path}/site.yaml:8, locked) matched: rule x_1 matches x_*",
    )
    for asked in ({"target": "spot"}, {"capacity": "spot"}, {"backend": "slurm"}, {"target": "x"}):
        placement = place(job("x_1", resources=asked), policy)
        assert placement.target.name == "od"
        ((word, value),) = asked.items()
        assert placement.reasons[1:] == (
            f"the rule's {word}={value} is set aside, as the route is locked",
        )
    # Elsewhere the rule's words come first.
    assert place(job("y", resources={"target": "spot"}), policy).target.name == "spot"


def test_the_sites_locked_routes_come_before_the_projects(tmp_path: Path) -> None:
    rest = "routes: [{when: {rule: 'x*'}, to: hpc, locked: true}]\n"
    policy = load_files(tmp_path, site=LOCKED, routing=on("site.yaml", rest))
    assert place(job("x_1"), policy).target.name == "od"
    assert place(job("x1"), policy).target.name == "hpc"


def test_a_rules_words_choose_among_the_targets_of_a_locked_route(tmp_path: Path) -> None:
    text = SITE.replace('"x_*"}, to: od}', '"x_*"}, to: [od, spot], locked: true}')
    policy = load_files(tmp_path, routing=text)
    for asked in ({"target": "spot"}, {"capacity": "spot"}):
        placement = place(job("x_1", resources=asked), policy)
        assert placement.target.name == "spot"
        assert not any("set aside" in reason for reason in placement.reasons)
    assert place(job("x_1", resources={"backend": "slurm"}), policy).target.name == "od"


def test_the_fallback_of_a_job_whose_words_were_set_aside(tmp_path: Path) -> None:
    text = SITE.replace('"x_*"}, to: od}', '"x_*"}, to: spot, locked: true}')
    policy = load_files(tmp_path, routing=text)
    asks_slurm = job("x_1", resources={"backend": "slurm"})
    asks_hpc = job("x_1", resources={"target": "hpc"})
    for one in (asks_slurm, asks_hpc):
        assert place(one, policy).target.name == "spot"
        assert fallback_of(one, policy.targets["spot"], policy) == "od"
    own = job("x_1", resources={"target": "spot"})
    assert fallback_of(own, policy.targets["spot"], policy) is None


def test_a_locked_route_is_not_passed_over(tmp_path: Path) -> None:
    policy = load_files(tmp_path, routing=LOCKED)
    with pytest.raises(PlacementError) as caught:
        place(job("x_1", resources={"handoff": "a.wdl"}), policy)
    assert "hand-offs run on HealthOmics only and od is batch" in str(caught.value)
    assert "A route that is locked is not passed over" in str(caught.value)
