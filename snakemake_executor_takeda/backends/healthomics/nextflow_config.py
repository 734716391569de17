"""A pipeline's `nextflow.config` and all it includes, as far as it is literal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.backends.healthomics.nextflow_text import (
    Computed,
    Text,
    literal,
    read,
    statements,
)
from snakemake_executor_takeda.values import TakedaError

_MAX_DEPTH = 8
# Blocks that are no scopes of the configuration.
_TRANSPARENT = frozenset({"try"})


@dataclass(frozen=True)
class Setting:
    """One assignment of a configuration."""

    path: tuple[str, ...]
    """Of its scopes and itself: `("process", "withName: X", "cpus")`."""
    right: Text
    place: str
    """File and line."""

    @property
    def value(self) -> Any:
        return literal(self.right)


@dataclass(frozen=True)
class Config:
    """All settings, the later ones last."""

    settings: tuple[Setting, ...] = ()
    profiles: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    files: tuple[Path, ...] = field(default=(), compare=False)

    def below(self, *scope: str) -> dict[str, Setting]:
        """The last setting of each name directly in a scope."""
        return {
            one.path[-1]: one
            for one in self.settings
            if one.path[:-1] == scope and len(one.path) == len(scope) + 1
        }

    def params(self) -> Mapping[str, Any]:
        """Default by name; a Computed where it is none that can be read, or a map of several."""
        found: dict[str, Any] = {}
        for one in self.settings:
            if one.path[0] != "params" or len(one.path) < 2:
                continue
            # `params.genomes.x = 1` says that `genomes` is a map.
            found[one.path[1]] = one.value if len(one.path) == 2 else Computed("a map")
        return found


def read_config(path: Path) -> Config:
    """Empty where there is no such file. Raises TakedaError for one that cannot be read."""
    if not path.is_file():
        return Config()
    reader = _Reader()
    reader.take(path, (), 0)
    return Config(
        tuple(reader.settings),
        tuple(dict.fromkeys(reader.profiles)),
        tuple(dict.fromkeys(reader.plugins)),
        tuple(reader.files),
    )


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise TakedaError(f"{path} cannot be read: {error}") from error


class _Reader:
    def __init__(self) -> None:
        self.settings: list[Setting] = []
        self.profiles: list[str] = []
        self.plugins: list[str] = []
        self.files: list[Path] = []

    def take(self, path: Path, scope: tuple[str, ...], depth: int) -> None:
        self.files.append(path)
        self._walk(read(text_of(path)), scope, path, depth)

    def _walk(self, text: Text, scope: tuple[str, ...], path: Path, depth: int) -> None:
        for one in statements(text):
            if (block := one.block) is not None:
                self._block(*block, scope, path, depth)
            elif (assignment := one.assignment) is not None:
                left, right = assignment
                place = f"{path}:{one.text.first_line}"
                self.settings.append(Setting((*scope, *left.split(".")), right, place))
            elif (included := one.directive("includeConfig")) is not None:
                self._include(literal(included), scope, path, depth)
            elif scope == ("plugins",) and (plugin := one.directive("id")) is not None:
                name = literal(plugin)
                self.plugins += [name] if isinstance(name, str) else []

    def _block(
        self, name: str, inside: Text, scope: tuple[str, ...], path: Path, depth: int
    ) -> None:
        if scope == ("profiles",):
            self.profiles.append(name)
        deeper = scope if name in _TRANSPARENT else (*scope, *_scopes(name))
        self._walk(inside, deeper, path, depth)

    def _include(self, name: Any, scope: tuple[str, ...], path: Path, depth: int) -> None:
        """Another file's settings, where its name is a literal and it is there."""
        if not isinstance(name, str) or "://" in name or depth >= _MAX_DEPTH:
            return
        included = (path.parent / name).resolve()
        if included.is_file():
            self.take(included, scope, depth + 1)


def _scopes(name: str) -> Iterator[str]:
    """`docker.registry` is two scopes; a selector is one, dots or not."""
    yield from [name] if ":" in name else name.split(".")
