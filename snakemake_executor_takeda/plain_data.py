"""Reads text that others wrote as plain data, YAML or JSON, and gives up where it grows out of bounds."""

from __future__ import annotations

import json
from typing import Any

MAX_VALUES = 1_000_000
"""A few lines of YAML can stand for billions of values: an alias of a list of aliases of a list of …"""


def parse_json(text: str) -> Any:
    """Raises json.JSONDecodeError for what is no JSON, and ValueError for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """Raises yaml.YAMLError for what is no YAML, and ValueError for what is nested too deeply or has too
    many values once its aliases are followed."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    left = [value]
    seen = 0
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list | set | tuple):
            left.extend(one)
        seen += 1
        if seen + len(left) > MAX_VALUES:
            raise ValueError(
                f"it has more than {MAX_VALUES:,} values once its aliases (*name) are followed"
            )
    return value
