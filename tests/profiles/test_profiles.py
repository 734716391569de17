"""Each folder of `profiles/`: a policy that is right, a config.yaml of Snakemake's flags, a README that is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from profile_variables import PROFILES, REQUIRED, ROOT, variables

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.cli import build_parser, main
from snakemake_executor_takeda.routing.policy import Policy, load_policy
from snakemake_executor_takeda.values import TakedaError

FOLDER = ROOT / "profiles"
PAGES = {
    **{f"profiles/{name}": (FOLDER / name / "README.md").read_text() for name in PROFILES},
    **{
        f"workflows/{name}": (ROOT / "workflows" / name / "README.md").read_text()
        for name in ("germline-calling", "rnaseq", "virtual-screen")
    },
}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def policy_of(profile: str, environ: dict[str, str] = REQUIRED) -> Policy:
    models = {name: factory.options_model for name, factory in backend_factories().items()}
    return load_policy(FOLDER / profile / "routing.yaml", models, environ)


def config_of(profile: str) -> dict[str, object]:
    config: dict[str, object] = yaml.safe_load((FOLDER / profile / "config.yaml").read_text())
    return config


def test_there_is_one_for_each_environment() -> None:
    assert set(PROFILES) == {
        *("sandbox", "batch-spot", "batch-ondemand", "fargate", "parallelcluster"),
        *("healthomics", "hybrid", "gxp"),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_policy_check_finds_nothing(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--json", str(FOLDER / profile / "routing.yaml")]) == 0
    said = capsys.readouterr()
    facts = json.loads(said.out)
    assert facts["warnings"] == [] and said.err == ""


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        (profile, name)
        for profile in PROFILES
        for name, default in variables(profile).items()
        if default is None
    ],
)
def test_a_variable_that_is_not_set_is_named(
    profile: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from snakemake_executor_takeda.planning.building import plan_of

    monkeypatch.delenv(name)
    (tmp_path / "Snakefile").write_text("rule all:\n    output: 'x'\n    shell: 'touch x'\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TakedaError, match=name):
        plan_of(["--profile", str(FOLDER / profile)])


@pytest.mark.parametrize("profile", PROFILES)
def test_config_has_flags_of_snakemake(profile: str) -> None:
    from snakemake.cli import get_argument_parser

    config = config_of(profile)
    flags = get_argument_parser()._option_string_actions
    # This plugin's own are known to Snakemake once it has loaded it.
    unknown = {f"--{word}" for word in config if not word.startswith("takeda-")} - flags.keys()
    assert unknown == {"--default-storage-provider", "--default-storage-prefix"} & unknown
    assert config["executor"] == "takeda"
    assert (FOLDER / profile / str(config["takeda-routing"])).is_file()
    assert config["rerun-incomplete"] is True
    assert config["max-jobs-per-timespan"] == "100000/1s"
    on_s3 = profile != "parallelcluster"
    assert (config.get("default-storage-provider") == "s3") is on_s3
    assert (config.get("shared-fs-usage") == "none") is on_s3
    assert ("latency-wait" in config) is not on_s3


@pytest.mark.parametrize("profile", PROFILES)
def test_no_variable_stands_where_snakemake_leaves_it(profile: str) -> None:
    """It puts variables into plain values, not into lists and mappings, and knows no defaults."""
    for value in config_of(profile).values():
        if isinstance(value, dict | list):
            assert "$" not in json.dumps(value)
        else:
            assert ":-" not in str(value)


def test_spot_falls_back_to_what_cannot_be_taken_away() -> None:
    for profile in PROFILES:
        policy = policy_of(profile)
        for target in policy.targets.values():
            if target.capacity == "spot":
                assert policy.targets[str(target.fallback)].capacity == "on-demand", profile
            else:
                assert target.fallback is None, profile


@pytest.mark.parametrize("profile", ["batch-ondemand", "gxp", "healthomics"])
def test_these_have_no_spot(profile: str) -> None:
    assert {one.capacity for one in policy_of(profile).targets.values()} <= {"on-demand", None}


def test_hybrid_has_all_three_backends() -> None:
    backends = {one.backend for one in policy_of("hybrid").targets.values()}
    assert backends == {"batch", "slurm", "healthomics"}


def test_gxp_is_locked_pinned_and_on_record(tmp_path: Path) -> None:
    policy = policy_of("gxp")
    assert all(route.locked for route in policy.routes) and policy.routes
    assert policy.targets["validated"].options.image == (
        f"{REQUIRED['TAKEDA_IMAGE_REPOSITORY']}@sha256:{REQUIRED['TAKEDA_IMAGE_DIGEST']}"
    )
    config = config_of("gxp")
    assert (config["takeda-ledger-copy"], config["retries"]) == (True, 0)

    project = tmp_path / "routing.yaml"
    site = FOLDER / "gxp" / "site.yaml"
    for words in (
        "targets: {validated: {queue: other}}",
        "default: mine\ntargets: {mine: {backend: batch, queue: mine}}",
        "retry: {out_of_memory: {factor: 2, times: 1, up_to_mb: 9000}}",
    ):
        project.write_text(f"version: 1\ninclude: ['{site}']\n{words}\n")
        with pytest.raises(TakedaError, match=r"lock"):
            models = {name: one.options_model for name, one in backend_factories().items()}
            load_policy(project, models, REQUIRED)


@pytest.mark.parametrize("profile", PROFILES)
def test_its_readme_has_its_variables_and_their_defaults(profile: str) -> None:
    rows = re.findall(r"^\| `(TAKEDA_\w+)` \| (.+?) \|", PAGES[f"profiles/{profile}"], re.MULTILINE)
    shown = {name: None if text == "a mistake" else text.split("`")[1] for name, text in rows}
    in_files = variables(profile)
    assert shown == in_files


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "sandbox"])
def test_its_readme_exports_what_has_to_be_set(profile: str) -> None:
    exported = set(re.findall(r"(TAKEDA_\w+)=", PAGES[f"profiles/{profile}"]))
    assert exported == {name for name, default in variables(profile).items() if default is None}


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    words = [
        shlex.split(line.replace('eval "$(', "").replace(')"', ""), comments=True) for line in lines
    ]
    return [one for one in words if one and one[0] in ("takeda", "snakemake")]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_readme_are_commands(
    page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from snakemake.cli import get_argument_parser

    found = commands(page)
    assert {words[0] for words in found} == {"takeda", "snakemake"}
    flags = get_argument_parser()._option_string_actions
    for words in found:
        if words[0] == "snakemake" or words[1] in ("plan", "stage"):
            for flag in (word for word in words if word.startswith("--")):
                assert flag in flags or flag == "--default-storage-prefix", words
        else:
            build_parser().parse_args(words[1:])
        for word in words:
            path = re.fullmatch(r"(?:\.\./\.\./)?((?:profiles|workflows)/\S+)", word)
            assert path is None or (ROOT / path[1]).exists(), word


@pytest.mark.parametrize("page", PAGES)
def test_a_page_that_a_readme_links_exists(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s:#]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (ROOT / page / link).exists(), link
