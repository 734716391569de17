"""The JSON Schema of a routing policy, by which editors complete and check words.

`python -m snakemake_executor_takeda.routing.schema` prints it for the backends installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from snakemake_executor_takeda.routing.policy_file import (
    LOCKABLE,
    NAME_PATTERN,
    PolicyFile,
    TargetEntry,
)

VARIABLE = r"\$\{\w+(:-[^}]*)?\}"
"""In a text, `${NAME}` or `${NAME:-default}`."""
SHIPPED = Path(__file__).with_name("policy.schema.json")
"""The schema for the backends that come with the package."""


def policy_schema(option_models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """A JSON Schema (2020-12) in which a target's words depend on its backend."""
    schema = PolicyFile.model_json_schema()
    definitions = schema["$defs"]
    common = definitions.pop(TargetEntry.__name__)
    names = {}
    for backend, model in sorted(option_models.items()):
        own = model.model_json_schema(ref_template=f"#/$defs/{backend}.{{model}}")
        for name, definition in own.pop("$defs", {}).items():
            definitions[f"{backend}.{name}"] = definition
        definitions[f"target.{backend}"] = _target(backend, common, own)
        names[backend] = {"$ref": f"#/$defs/target.{backend}"}
    # What a file includes gives what it leaves out itself.
    schema["required"] = ["version"]
    schema["if"] = {"not": {"required": ["include"]}}
    schema["then"] = {
        "required": ["targets", "default"],
        "properties": {"targets": {"additionalProperties": {"required": ["backend"]}}},
    }
    schema["properties"]["locked"] = {
        **schema["properties"]["locked"],
        "items": {"enum": list(LOCKABLE)},
        "uniqueItems": True,
    }
    targets = schema["properties"]["targets"]
    del targets["minProperties"]
    targets["propertyNames"] = {"pattern": NAME_PATTERN}
    targets["additionalProperties"] = {
        # A chain of conditions, so that an editor complains about one backend's words, not about all.
        "type": "object",
        "properties": {
            "backend": {**common["properties"]["backend"], "enum": list(names)},
        },
        "allOf": [
            {
                "if": {"properties": {"backend": {"const": backend}}, "required": ["backend"]},
                "then": reference,
            }
            for backend, reference in names.items()
        ],
    }
    definitions["When"]["minProperties"] = 1
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_plain(schema)}


def schema_text(option_models: Mapping[str, type[BaseModel]]) -> str:
    """As the file that ships."""
    return json.dumps(policy_schema(option_models), indent=2, ensure_ascii=False) + "\n"


def _target(backend: str, common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": f"{backend} target",
        "description": own.get("description", ""),
        "type": "object",
        "properties": {
            **common["properties"],
            # Null takes one away that comes with `<<: *other`.
            "fallback": {**common["properties"]["fallback"], "type": ["string", "null"]},
            **own.get("properties", {}),
            "backend": {"const": backend},
        },
        "required": ["backend", *own.get("required", ())],
        "additionalProperties": own.get("additionalProperties", True),
    }


def _plain(schema: Any) -> Any:
    """Without generated titles and `or null`, which say nothing to the writer of a policy, and
    without defaults, which can differ from one installation to the next."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: _plain(value)
        for key, value in schema.items()
        # A property that is called so has a schema, a mapping, as its value.
        if key not in ("title", "default") or isinstance(value, dict)
    }
    if isinstance(pattern := plain.get("pattern"), str) and plain.get("type") == "string":
        # An editor does not know what a variable holds.
        plain["pattern"] = f"{pattern}|{VARIABLE}"
    choices = plain.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        if len(rest) == 1:
            del plain["anyOf"]
            return {**rest[0], **plain}
    return plain


def main() -> None:
    # The only place that knows of the run: a command for the person who writes a backend.
    from snakemake_executor_takeda.assembly import backend_factories

    models = {name: factory.options_model for name, factory in backend_factories().items()}
    print(schema_text(models), end="")


if __name__ == "__main__":
    main()
