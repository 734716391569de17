"""The guides: commands exist and take their flags, policies load, configs are Snakemake's, rules are planned."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from snakemake_executor_takeda.assembly import backend_factories
from snakemake_executor_takeda.cli import build_parser, main
from snakemake_executor_takeda.planning.advice import warnings_of
from snakemake_executor_takeda.planning.plan import Row, Totals
from snakemake_executor_takeda.routing.policy import load_policy

ROOT = Path(__file__).parents[2]
GUIDES = [f"docs/guides/{path.name}" for path in sorted((ROOT / "docs/guides").glob("*.md"))]
PAGES = [*GUIDES, "docs/planning.md", "docs/intro.md", "docs/further.md", "README.md"]
OTHERS = {"pip", "export", "eval", "aws", "make"}
"""Commands that are not ours."""
MADE = {
    "workflow/call.wdl": "version 1.0\nworkflow call_variants {}\n",
    "model.in": "",
}


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in blocks(page, "console"):
            for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
                words = shlex.split(line, comments=True)
                yield page, [one for one in words if not re.fullmatch(r"[A-Z_]+=.*", one)]


COMMANDS = list(commands())


@cache
def snakemakes_parser() -> Any:
    from snakemake.cli import get_argument_parser

    return get_argument_parser()


def snakemake_takes(words: list[str]) -> bool:
    snakemakes_parser().parse_args(words)
    return True


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS]
)
def test_a_command_is_one(page: str, words: list[str]) -> None:
    if words[0] == "snakemake":
        assert snakemake_takes(words[1:])
    elif words[0] == "takeda":
        if ">" in words or ">>" in words:
            words = words[: words.index(">" if ">" in words else ">>")]
        args, others = build_parser().parse_known_args(words[1:])
        takes_snakemakes = getattr(args, "takes_snakemakes", False)
        assert snakemake_takes(others) if takes_snakemakes else not others
    else:
        assert words[0] in OTHERS, f"{page}: {words}"
    for word in words:
        if word.startswith("profiles/") and word != "profiles/takeda":
            assert (ROOT / word / "config.yaml").is_file()


def test_there_are_commands() -> None:
    assert {page for page, _ in COMMANDS} >= {*GUIDES, "docs/planning.md", "README.md"}
    assert len(COMMANDS) > 50


YAMLS = [(page, text) for page in PAGES for text in blocks(page, "yaml")]


@pytest.mark.parametrize(("page", "text"), YAMLS, ids=[page for page, _ in YAMLS])
def test_yaml_is_a_policy_or_a_config(tmp_path: Path, page: str, text: str) -> None:
    if text.startswith("version:"):
        path = tmp_path / "routing.yaml"
        path.write_text(text)
        models = {name: factory.options_model for name, factory in backend_factories().items()}
        policy = load_policy(path, models, {"OMICS_ROLE_ARN": "arn:aws:iam::123456789012:role/o"})
        assert policy.warnings == ()
        return
    config = yaml.safe_load(text)
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "routing.yaml").write_text("version: 1\n")
    assert config
    words = ["--cores", "1"] if page == "README.md" else ["--cores", "1", "--executor", "takeda"]
    assert snakemake_takes_profile(tmp_path, words)


def snakemake_takes_profile(profile: Path, words: list[str]) -> bool:
    from snakemake.cli import parse_args

    parse_args([*words, "--profile", str(profile)])
    return True


RULES = [(page, text) for page in PAGES for text in blocks(page, "python")]


@pytest.mark.parametrize(("page", "text"), RULES, ids=[page for page, _ in RULES])
def test_rules_are_planned_by_the_policy_beside_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    page: str,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    Path("Snakefile").write_text(text)
    for name, content in MADE.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(content)
    (policy,) = [one for one in blocks(page, "yaml") if one.startswith("version:")]
    Path("routing.yaml").write_text(policy)
    assert main(["plan", "--json", "--takeda-routing", "routing.yaml"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rules"]
    assert (row["rule"], row["target"]) == ("simulate", "hpc-efa")
    assert row["usd"] > 0


@pytest.mark.parametrize("page", [*GUIDES, "docs/planning.md", "README.md"])
def test_what_a_page_links_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)\s:#]*)(?:#([^)]*))?\)", text):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(head) for head in heads}, f"{link}#{anchor}"


def slug(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


PLANNING = (ROOT / "docs/planning.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    after = PLANNING.split(f"# {heading}\n", 1)[1]
    return re.split(r"^#+ ", after, maxsplit=1, flags=re.MULTILINE)[0]


@pytest.mark.parametrize("command", ["plan", "why", "stage"])
def test_every_option_is_in_its_table(command: str) -> None:
    (commands,) = [one for one in build_parser()._actions if one.dest == "command"]
    actions = commands.choices[command]._actions  # type: ignore[index, call-overload]
    has = {word for one in actions for word in one.option_strings} - {"-h", "--help"}
    text = section(f"takeda {command}")
    assert set(re.findall(r"^\| `(--[\w-]+)", text, re.MULTILINE)) == has


def test_every_column_warning_and_key_is_told() -> None:
    from snakemake_executor_takeda.planning.facts import facts_of
    from snakemake_executor_takeda.planning.terminal import _COLUMNS

    columns = section("takeda plan")
    named = ", ".join(re.findall(r"^\| ([\w ,-]+) \|", columns, re.MULTILINE)).split(", ")
    assert {name for name, _ in _COLUMNS} <= set(named)
    source = Path(warnings_of.__code__.co_filename).read_text(encoding="utf-8")
    codes = set(re.findall(r"Warning_\(\s*\"(\w+)\"", source))
    assert set(re.findall(r"^\| `(\w+)`", section("Warnings"), re.MULTILINE)) == codes
    keys = section("JSON")
    words = {*Row.__dataclass_fields__, *Totals.__dataclass_fields__}
    assert {word for word in words if f"`{word}`" not in keys} == set()
    source = Path(facts_of.__code__.co_filename).read_text(encoding="utf-8")
    assert {w for w in re.findall(r'"(\w+)":', source) if f"`{w}`" not in keys} == set()


def test_every_flag_of_init_is_in_its_table() -> None:
    (commands,) = [one for one in build_parser()._actions if one.dest == "command"]
    actions = commands.choices["init"]._actions  # type: ignore[index, call-overload]
    has = {word for one in actions for word in one.option_strings} - {"-h", "--help"}
    text = (ROOT / "docs/guides/first-run.md").read_text(encoding="utf-8")
    rows = "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert set(re.findall(r"`(--[\w-]+)", rows)) == has
