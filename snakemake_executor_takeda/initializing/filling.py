"""One of the project's own profiles, with values in place of its variables; comments stay. Pure but for reading."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from snakemake_executor_takeda.initializing.slots import SLOTS, Slot
from snakemake_executor_takeda.nearest import nearest
from snakemake_executor_takeda.values import TakedaError

_VARIABLE = re.compile(r"\$\{(TAKEDA_\w+)(:-[^}]*)?\}")
_ROLES = {
    "job": "job_role",
    "execution": "execution_role",
    "healthomics": "omics_role",
}
_ROLE = re.compile(r"arn:aws:iam::\$\{TAKEDA_ACCOUNT\}:role/takeda-(\w+)")
_SANDBOX = "s3://takeda-sandbox/outbreak"
_EXPORT_FIRST = re.compile(r"^# Snakemake puts the variables in: export them first\.\n| Snakemake puts the "
                           r"variables in: export them first\.", re.MULTILINE)  # fmt: skip
_IMAGE_BY_DIGEST = re.compile(r"(.+)@sha256:([0-9a-f]{64})")


def profiles_folder() -> Path:
    """In the installed package; in a clone beside it."""
    package = Path(__file__).parents[1]
    folder = package / "profiles"
    return folder if folder.is_dir() else package.parent / "profiles"


def names() -> list[str]:
    return sorted(one.parent.name for one in profiles_folder().glob("*/config.yaml"))


def files_of(profile: str) -> dict[str, str]:
    """File → text of the profile. Raises TakedaError where there is none of the name."""
    known = names()
    if profile not in known:
        near = nearest(profile, known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
        raise TakedaError(f"--from {profile}: the project has no such profile: {hint}")
    folder = profiles_folder() / profile
    return {one.name: one.read_text(encoding="utf-8") for one in sorted(folder.glob("*.yaml"))}


def summary_of(profile: str) -> str:
    """What its README says in its first sentences."""
    text = (profiles_folder() / profile / "README.md").read_text(encoding="utf-8")
    return text.split("\n\n")[1].strip()


def slots_of(files: Mapping[str, str]) -> dict[str, bool]:
    """Slots that the files have a variable for → whether a value has to be given."""
    wanted: dict[str, bool] = {}
    of_variable = {slot.variable: slot for slot in SLOTS.values() if slot.variable}
    of_variable |= dict.fromkeys(("TAKEDA_IMAGE_REPOSITORY", "TAKEDA_IMAGE_DIGEST"), SLOTS["image"])
    for text in files.values():
        for name in map(str, _scalars_of(text)):
            if role := _ROLE.fullmatch(name):
                wanted.setdefault(_ROLES[role[1]], False)
            for variable, default in _VARIABLE.findall(name):
                if variable in of_variable:
                    slot: Slot = of_variable[variable]
                    wanted[slot.name] = wanted.get(slot.name, False) or not default
        if _SANDBOX in text:
            wanted["project"] = True
    return wanted


def missing_image_digest(files: Mapping[str, str], image: str) -> bool:
    wants = any("${TAKEDA_IMAGE_DIGEST}" in text for text in files.values())
    return wants and not _IMAGE_BY_DIGEST.fullmatch(image)


def filled(files: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The files with the values; a variable without one stays, with its default."""
    texts = {name: _filled(text, values) for name, text in files.items()}
    if "${" not in texts["config.yaml"]:
        texts["config.yaml"] = _EXPORT_FIRST.sub("", texts["config.yaml"])
    return texts


def _filled(text: str, values: Mapping[str, str]) -> str:
    pieces, at = [], 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if not isinstance(token, yaml.ScalarToken):
            continue
        new = _value(str(token.value), values)
        if new != token.value:
            start, end = token.start_mark.index, token.end_mark.index
            pieces += [text[at:start], quoted(new)]
            at = end
    return "".join([*pieces, text[at:]])


def _value(written: str, values: Mapping[str, str]) -> str:
    if written == _SANDBOX and values.get("project"):
        return f"s3://takeda-sandbox/{values['project']}"
    role = _ROLE.fullmatch(written)
    if role and values.get(_ROLES[role[1]]):
        return values[_ROLES[role[1]]]
    by_variable = {
        slot.variable: values[name]
        for name, slot in SLOTS.items()
        if slot.variable and values.get(name)
    }
    if image := _IMAGE_BY_DIGEST.fullmatch(values.get("image", "")):
        by_variable |= {"TAKEDA_IMAGE_REPOSITORY": image[1], "TAKEDA_IMAGE_DIGEST": image[2]}
    return _VARIABLE.sub(
        lambda found: (
            by_variable.get(found[1], found[0]).replace("${", "$${")
            if found[1] in by_variable
            else found[0]
        ),
        written,
    )


def quoted(text: str) -> str:
    """As a scalar of YAML in double quotes."""
    dumped: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**6)
    return dumped.strip()


def _scalars_of(text: str) -> Iterator[str]:
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.ScalarToken):
            yield token.value
