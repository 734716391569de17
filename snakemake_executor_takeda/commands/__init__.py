"""What a task runs on its node, and how the two sides write a job down."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def encode_targets(specs: Iterable[Any]) -> list[str]:
    """Snakemake's TargetSpecs as words: `["align", {"sample": "a"}]`.

    Snakemake's own `align:sample=a` loses commas and quotes that a wildcard has.
    """
    return [json.dumps([spec.rulename, dict(spec.wildcards_dict)]) for spec in specs]


def decode_targets(words: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """Rule names and wildcards of what `encode_targets` wrote."""
    return [(rule, wildcards) for rule, wildcards in map(json.loads, words)]
