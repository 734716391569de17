"""`input_json`: a file of JSON (or YAML) or a dict with what does not fit a rule's inputs and params."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics.files import look_up
from snakemake_executor_takeda.backends.healthomics.fitting import parsed
from snakemake_executor_takeda.plain_data import parse_json, parse_yaml
from snakemake_executor_takeda.values import TakedaError

NAME = "input_json"


def read(given: Any, workflow: str, look_in: Sequence[Path]) -> dict[str, Any]:
    """Values by input name: `input`, or `Workflow.input` as other engines' files have it.

    `given` is a dict, the text of one, or the path of a file, looked up in the directories in turn.
    Raises TakedaError.
    """
    if given is None or given == "":
        return {}
    if isinstance(given, str):
        given = parsed(given)  # A shell command has a dict as Python writes it.
    if isinstance(given, Mapping):
        return _by_input(given, workflow)
    if not isinstance(given, (str, Path)):
        raise TakedaError(f"{NAME} wants a JSON file or a dict, not {given!r}")
    path = look_up(str(given), look_in)
    if path is None:
        places = " and ".join(dict.fromkeys(str(one / given) for one in look_in))
        raise TakedaError(f"{NAME}={str(given)!r} does not exist; looked for {places}")
    try:
        text = path.read_text()
        found = _yaml(path, text) if path.suffix in (".yml", ".yaml") else parse_json(text)
    except json.JSONDecodeError as error:
        raise TakedaError(
            f"{NAME} {path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (OSError, ValueError) as error:
        raise TakedaError(f"{NAME} {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise TakedaError(f'{NAME} {path} is no JSON object, such as {{"{workflow}.input": 1}}')
    return _by_input(found, workflow)


def _yaml(path: Path, text: str) -> Any:
    """As CWL's files of inputs often are."""
    import yaml

    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise TakedaError(f"{NAME} {path} is no YAML: {' '.join(str(error).split())}") from None


def _by_input(found: Mapping[str, Any], workflow: str) -> dict[str, Any]:
    prefix = f"{workflow}."
    return {
        str(key).removeprefix(prefix): value
        for key, value in found.items()
        # Other engines' files have comments under such keys.
        if not str(key).startswith("#") and value is not None
    }
