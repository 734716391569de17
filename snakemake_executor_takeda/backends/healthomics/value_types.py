"""The types of values that a workflow takes and gives, whatever language declares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WORDS = frozenset({"boolean", "int", "long", "float", "double", "string", "enum"})
"""Kinds whose values are one word of text."""

TO_FILL_IN = "..."
"""In a skeleton, what only the user knows."""


@dataclass(frozen=True)
class Secondary:
    """A file that lies beside another one, as CWL's `secondaryFiles` names it."""

    pattern: str
    """A suffix; each leading `^` takes one extension of the name away first. Or an expression."""
    required: bool

    @property
    def is_expression(self) -> bool:
        return "$(" in self.pattern or "${" in self.pattern

    def beside(self, name: str) -> str:
        """The name of it, from that of the file it belongs to."""
        suffix = self.pattern
        while suffix.startswith("^"):
            suffix = suffix[1:]
            folder, slash, last = name.rpartition("/")
            name = f"{folder}{slash}{last.rpartition('.')[0] or last}"
        return name + suffix


@dataclass(frozen=True)
class Type:
    """A type; `str()` is as its language writes it."""

    kind: str
    """`file`, `directory`, `array`, `map`, `pair`, `record`, `union`, `any`, or one of `WORDS`."""
    text: str
    optional: bool = False
    items: tuple[Type, ...] = ()
    """Of an array its member; of a map key and value; of a pair left and right; of a union all."""
    members: Mapping[str, Type] = field(default_factory=dict)
    """Of a record."""
    symbols: tuple[str, ...] = ()
    """Of an enum."""
    secondary: tuple[Secondary, ...] = ()
    """Of a file, or of the files in an array."""
    format: str = ""
    """Of a file, an IRI: CWL's engines want it said of what is given."""

    def __str__(self) -> str:
        return self.text

    @property
    def is_path(self) -> bool:
        return self.kind in ("file", "directory")

    @property
    def holds_files(self) -> bool:
        """Whether a value is, or may have in it, a file or directory whose place the type tells."""
        return self.is_path or any(one.holds_files for one in (*self.items, *self.members.values()))

    def skeleton(self, name: str, levels: int = 5) -> Any:
        """What a value looks like, as JSON: TO_FILL_IN for what only the user knows, `path/to/…` for
        files, named by the members that lead to them, None for members that may be left out."""
        if self.is_path:
            return f"path/to/{name}"
        if not levels:
            return TO_FILL_IN
        if self.kind == "record":
            return {
                member: None if one.optional else one.skeleton(f"{name}.{member}", levels - 1)
                for member, one in self.members.items()
            }
        parts = [one.skeleton(name, levels - 1) for one in self.items]
        if self.kind == "map":
            return {"key": parts[1]}
        if self.kind == "union":
            return parts[0]
        return parts if self.kind in ("array", "pair") else TO_FILL_IN

    @property
    def holds_records(self) -> bool:
        return self.kind == "record" or any(one.holds_records for one in self.items)

    def entry_skeleton(self, name: str) -> Any:
        """As `definition.Entry` has it."""
        return self.skeleton(name) if self.holds_records or self.entry_kind == "mixed" else None

    @property
    def entry_kind(self) -> str:
        """As `definition.Entry` has it."""
        if self.is_path and not self.secondary:
            return self.kind
        choices = self.items if self.kind == "union" else (self,)
        if all(one.is_path or _lists_paths(one) for one in choices):
            plain = any(one.is_path and not one.secondary for one in choices)
            return "file" if plain and not any(map(_lists_paths, choices)) else "files"
        if self.kind == "pair" and all(one.is_path for one in self.items):
            return "pair"
        return "mixed" if self.holds_files else "value"


def _lists_paths(one: Type) -> bool:
    return one.kind == "array" and one.items[0].is_path
