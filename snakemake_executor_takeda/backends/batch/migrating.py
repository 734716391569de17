"""Settings of a run made for snakemake-executor-plugin-aws-batch, as words of Batch targets.

Names: version 0.2.1 and its main branch of July 2026. `rule_words` does the same for rules.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from snakemake_executor_takeda.backends.batch.grammar import in_a_line
from snakemake_executor_takeda.backends.batch.options import IN_DEFINITION, BatchOptions
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from snakemake_executor_takeda.routing.policy import Policy
    from snakemake_executor_takeda.values import Target

PLUGIN = "snakemake_executor_plugin_aws_batch"
SETTINGS: Mapping[str, str] = {
    "region": "region",
    "job_queue": "queue",
    "job_role": "job_role_arn",
    "tags": "tags",
    "task_timeout": "timeout",
    "scheduling_priority": "scheduling_priority",
    "job_definition": "job_definition",
}
"""Setting of that plugin → word of a Batch target."""
JOB_TAGS = "SNAKEMAKE_AWS_BATCH_JOB_TAGS"
"""More tags, which win over those of the setting."""
CONTAINER_IMAGE = "--container-image"
MIN_TIMEOUT_S = 60


@dataclass(frozen=True)
class OldSettings:
    """What was found, as words of a Batch target."""

    words: Mapping[str, Any]
    origins: Mapping[str, str]
    """Word → the variables or the flag that it comes from."""


def variable(setting: str) -> str:
    """The setting's environment variable, as Snakemake derives it."""
    return f"SNAKEMAKE_AWS_BATCH_{setting.upper()}"


def old_settings(
    environ: Mapping[str, str], flags: Mapping[str, Any], container_image: str | None
) -> OldSettings:
    """The words that environment, `flags` (setting → value) and `--container-image` give.

    What is empty counts as not given. Raises TakedaError naming the variable or flag of a wrong value.
    """
    words: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for setting, word in SETTINGS.items():
        origin, value = variable(setting), environ.get(variable(setting))
        if flags.get(setting) not in (None, ""):
            origin, value = f"--aws-batch-{setting.replace('_', '-')}", flags[setting]
        if value in (None, ""):
            continue
        words[word], origins[word] = value, origin
    if "tags" in words:
        words["tags"] = _tags(words["tags"], origins["tags"])
    if environ.get(JOB_TAGS):
        words["tags"] = {**words.get("tags", {}), **_tags(environ[JOB_TAGS], JOB_TAGS)}
        origins["tags"] = " and ".join(dict.fromkeys([origins.get("tags", JOB_TAGS), JOB_TAGS]))
    if "timeout" in words:
        words["timeout"] = minutes(words["timeout"], origins["timeout"])
    if container_image and "job_definition" not in words:
        words["image"], origins["image"] = container_image, CONTAINER_IMAGE
    found = OldSettings(words, origins)
    _check(found)
    return found


@cache
def old_flags() -> Mapping[str, Any]:
    """Values of `--aws-batch-*`, by setting, from command line or profile: Snakemake takes these flags
    where that plugin is still installed, and tells them to it alone."""
    if PLUGIN not in sys.modules or Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return {}
    from snakemake.cli import parse_args

    # It tells once more which profile is used.
    with contextlib.redirect_stderr(io.StringIO()):
        parser, args = parse_args(sys.argv[1:])
    defaults = parser.get_source_to_settings_dict().get("defaults", {})
    return {
        setting: getattr(args, f"aws_batch_{setting}")
        for setting in SETTINGS
        if hasattr(args, f"aws_batch_{setting}")
        and f"--aws-batch-{setting.replace('_', '-')}" not in defaults
    }


def names_a_queue() -> bool:
    """Whether this run was made for that plugin: then it says which queue, in that plugin's words."""
    return bool(os.environ.get(variable("job_queue")) or old_flags().get("job_queue"))


def filled_in(policy: Policy, old: OldSettings, *, is_own_file: bool) -> Policy:
    """The policy whose Batch targets take from the old settings what they do not say themselves.

    A policy file alone says where jobs go: it takes no queue and no job definition from them.
    """
    apart = {"queue", "job_definition"} if is_own_file else set()
    words = {word: value for word, value in old.words.items() if word not in apart}
    taken = dict.fromkeys(word for word in ("queue",) if word in words)
    targets: dict[str, Target] = {}
    for name, target in policy.targets.items():
        targets[name] = target
        if isinstance(target.options, BatchOptions):
            more = _more(target.options, words)
            taken |= dict.fromkeys(more)
            targets[name] = replace(target, options=_with(target, more, old))
    if not taken:
        return policy
    return replace(
        policy, targets=targets, warnings=(*policy.warnings, _told(policy, old, list(taken)))
    )


def _told(policy: Policy, old: OldSettings, taken: Iterable[str]) -> str:
    parts = (f"{word} {old.words[word]!r} from {old.origins[word]}" for word in taken)
    return f"Batch targets take what {policy.source} do not say: {', '.join(parts)} (docs/migrating.md)"


def _more(options: BatchOptions, words: Mapping[str, Any]) -> dict[str, Any]:
    more = {word: value for word, value in words.items() if word not in options.model_fields_set}
    if "tags" in words:
        more["tags"] = {**words["tags"], **options.tags}
        if more["tags"] == options.tags:
            del more["tags"]
    if options.job_definition:
        more = {word: value for word, value in more.items() if word not in IN_DEFINITION}
    return more


def _with(target: Target, more: Mapping[str, Any], old: OldSettings) -> BatchOptions:
    options: BatchOptions = target.options
    try:
        return options.having(more)
    except ValidationError as error:
        origins = ", ".join(old.origins[word] for word in more)
        raise TakedaError(f"{target.where} with {origins}: {_text(error)}") from None


def _check(old: OldSettings) -> None:
    try:
        BatchOptions.model_validate({"queue": "any", **old.words})
    except ValidationError as error:
        texts = []
        for detail in error.errors(include_url=False):
            word = str(detail["loc"][0]) if detail["loc"] else ""
            origin = old.origins.get(word) or ", ".join(old.origins.values())
            value = f"{detail['input']!r}: " if detail["loc"] else ""
            texts.append(f"{origin}: {value}{in_a_line(detail['msg'])}.")
        raise TakedaError("\n".join(texts)) from None


def _text(error: ValidationError) -> str:
    return "; ".join(in_a_line(detail["msg"]) for detail in error.errors(include_url=False))


def _tags(text: object, origin: str) -> dict[str, str]:
    """`KEY=VALUE,KEY=VALUE`; commas may be doubled."""
    tags = {}
    for pair in filter(None, map(str.strip, str(text).split(","))):
        key, is_pair, value = pair.partition("=")
        if not is_pair or not key.strip():
            raise TakedaError(f"{origin}: {pair!r} is no tag. Write KEY=VALUE,KEY=VALUE.")
        tags[key.strip()] = value.strip()
    return tags


def minutes(seconds: object, origin: str) -> int:
    """Whole minutes, rounded up. Raises TakedaError for less than Batch's 60 seconds."""
    try:
        number = int(str(seconds))
    except ValueError:
        number = 0
    if number < MIN_TIMEOUT_S:
        raise TakedaError(
            f"{origin}={seconds!r} is no timeout: give whole seconds, at least {MIN_TIMEOUT_S}."
        )
    return -(-number // 60)
