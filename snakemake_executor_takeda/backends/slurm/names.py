"""What names and paths for Slurm look like, and a plain word on one that does not. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

NAMES = r"^[\w.@+:/=%~, -]*$"
"""Of accounts, qualities of service, reservations and partitions; several are told apart by commas."""


@dataclass(frozen=True)
class Like:
    """In an Annotated text of a model: the pattern for editors, the complaint for people."""

    pattern: str
    complaint: str | Callable[[str], str]
    """Or what makes it of the text."""

    def checked(self, text: str) -> str:
        """Raises ValueError."""
        if re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), text):
            return text
        raise ValueError(
            self.complaint if isinstance(self.complaint, str) else self.complaint(text)
        )

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


def checked_names(text: str) -> str:
    """One name or several. Raises ValueError telling what is not part of a name."""
    return _LIKE_NAMES.checked(text)


def no_names(text: str) -> str:
    """What to say of a text that `NAMES` does not match."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        return "must not have control characters"
    strange = dict.fromkeys(letter for letter in text if not re.fullmatch(NAMES, letter))
    return f"a name has no {' and no '.join(map(repr, strange))} in it"


_LIKE_NAMES = Like(NAMES, no_names)
