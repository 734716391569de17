"""`nextflow_schema.json`: what a pipeline says of its params, and values checked against it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.values import TakedaError

NAME = "nextflow_schema.json"
_GROUPS = ("$defs", "definitions", "defs")
"""Where the two drafts that nf-core has used keep the groups of params."""
_MAX_SHOWN = 200


@dataclass(frozen=True)
class Property:
    """One param."""

    name: str
    schema: Mapping[str, Any]
    required: bool

    @property
    def types(self) -> tuple[str, ...]:
        given = self.schema.get("type", ())
        return (given,) if isinstance(given, str) else tuple(given)

    @property
    def format(self) -> str:
        return str(self.schema.get("format", ""))

    @property
    def says(self) -> str:
        """Its type as a person reads it: `integer`, `string (file-path)`, `star or salmon`."""
        if choices := self.schema.get("enum"):
            return " or ".join(json.dumps(one) for one in choices)
        types = " or ".join(one for one in self.types if one != "null")
        return f"{types} ({self.format})" if self.format else types


@dataclass(frozen=True)
class Violation:
    """A value that its schema does not take; no param for what no single one does."""

    param: str
    message: str
    wanted: str


@dataclass(frozen=True)
class Schema:
    """The params in the file's order, and the whole document."""

    path: Path
    properties: Mapping[str, Property]
    title: str = ""
    description: str = ""
    document: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def violations(self, given: Mapping[str, Any]) -> list[Violation]:
        """What is wrong with the values, params that are required and missing among it."""
        import jsonschema
        import referencing.exceptions

        try:
            return list(_said(self._validator.iter_errors(dict(given)), self.properties))
        except (
            jsonschema.exceptions.SchemaError,
            referencing.exceptions.Unresolvable,
            jsonschema.exceptions.UnknownType,
        ) as error:
            raise TakedaError(f"{self.path} cannot be used: {error}") from error

    @cached_property
    def _validator(self) -> Any:
        import jsonschema
        import referencing

        draft = jsonschema.validators.validator_for(
            self.document, default=jsonschema.Draft202012Validator
        )
        # An empty registry: what a schema refers to elsewhere is not fetched from there.
        return draft(self.document, registry=referencing.Registry())


def read_schema(path: Path) -> Schema | None:
    """None where there is no such file. Raises TakedaError for one that is no schema."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise TakedaError(f"{path} cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise TakedaError(
            f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(document, dict):
        raise TakedaError(f"{path} is no JSON object")
    properties: dict[str, Property] = {}
    for group in (*_groups(document), document):
        required = group.get("required", ())
        for name, one in group.get("properties", {}).items():
            if isinstance(one, dict):
                properties[name] = Property(name, one, name in required)
    if not properties:
        raise TakedaError(f"{path} names no params, below $defs, definitions or properties")
    return Schema(
        path,
        properties,
        str(document.get("title", "")),
        str(document.get("description", "")),
        document,
    )


def _groups(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _GROUPS:
        groups = document.get(key)
        if isinstance(groups, dict):
            yield from (one for one in groups.values() if isinstance(one, dict))


def _said(errors: Any, properties: Mapping[str, Property]) -> Iterator[Violation]:
    missing: set[str] = set()
    for error in sorted(errors, key=lambda one: [str(part) for part in one.path]):
        if error.validator == "required" and not error.path:
            # One error for each name, which says it in its message only.
            for name in error.validator_value:
                if name not in error.instance and name not in missing:
                    missing.add(name)
                    wanted = properties[name].says if name in properties else ""
                    yield Violation(name, f"the pipeline requires `{name}`", wanted)
            continue
        param = str(error.path[0]) if error.path else ""
        if param not in properties:
            yield Violation(param, _together(error), "")
            continue
        own = properties[param].schema.get("errorMessage")
        wanted = properties[param].says
        yield Violation(param, _reason(error, wanted, own), wanted)


def _together(error: Any) -> str:
    """What the params have to be together, such as `anyOf` of groups of which one is required."""
    groups = error.validator_value if error.validator in ("anyOf", "oneOf") else ()
    required = [one["required"] for one in groups if isinstance(one, dict) and one.get("required")]
    if len(required) == len(groups) > 0:
        how = "one" if error.validator == "oneOf" else "at least one"
        choices = " or ".join(" and ".join(f"`{name}`" for name in one) for one in required)
        return f"{how} of these is required: {choices}"
    place = "/".join(str(part) for part in error.absolute_schema_path)
    return f"the params together do not fit {place} of {NAME}"


def _reason(error: Any, wanted: str, own: Any) -> str:
    """What the value should have been, in the schema author's words where there are any."""
    value, limit = _short(json.dumps(error.instance, default=str)), error.validator_value
    inside = "".join(f"[{part!r}]" for part in list(error.path)[1:])
    what = {
        "type": f"wants {wanted}",
        "enum": f"wants {wanted}",
        "pattern": f"wants text that matches {limit}",
        "minimum": f"wants at least {limit}",
        "maximum": f"wants at most {limit}",
        "exclusiveMinimum": f"wants more than {limit}",
        "exclusiveMaximum": f"wants less than {limit}",
        "minItems": f"wants at least {limit} item(s)",
        "maxItems": f"wants at most {limit} item(s)",
    }.get(str(error.validator), _short(error.message))
    said = f"{what}{' at ' + inside if inside else ''}, not {value}"
    return f"{said}: {own}" if own else said


def _short(text: Any) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def coerced(value: Any, types: Sequence[str]) -> Any:
    """Numbers and booleans that a rule has as text, as the one type that the schema wants.

    What does not fit stays as it is, for the schema to refuse.
    """
    wanted = [one for one in types if one != "null"]
    if len(wanted) != 1:
        return value
    (kind,) = wanted
    if kind == "array" and not isinstance(value, (list, tuple)):
        return [value]
    if kind == "string" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return _read(value.strip(), kind, value) if isinstance(value, str) else value


def _read(text: str, kind: str, otherwise: Any) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), otherwise)
    try:
        if kind == "integer" or (kind == "number" and text.lstrip("-").isdecimal()):
            return int(text)
        return float(text) if kind == "number" else otherwise
    except ValueError:
        return otherwise
