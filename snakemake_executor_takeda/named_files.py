"""Files that Snakefiles and configuration name, such as sample sheets: a job's own Snakemake reads them, too.

Snakemake's archive of sources has what git keeps, scripts and configuration files. What a Snakefile opens by
itself is missing where the folder is no git repository, or the file was not added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MOST_BYTES = 1_000_000
"""Of one file: larger ones are data, and belong into `input:`."""
_QUOTED = re.compile(r"""(["'])([^"'\n{}]{1,255}?)\1""")


def named_files(workflow: Any) -> set[str]:
    """Paths relative to the working directory, below it, of files that are there and that no job makes."""
    made = {str(f) for job in workflow.dag.jobs for f in job.output}
    found = set()
    for word, base in _words(workflow):
        for folder in (Path(), base):
            path = _usable(folder / word)
            if path and str(path) not in made and f"{_query(workflow, path)}" not in made:
                found.add(str(path))
    return found


def _words(workflow: Any) -> Iterator[tuple[str, Path]]:
    """Each text that may be a path, and the folder of the file that says it."""
    for source in workflow.included:
        path = Path(str(source.get_path_or_uri(secret_free=True)))
        if not path.is_file():
            continue  # from elsewhere, as modules may be
        for _, word in _QUOTED.findall(path.read_text(encoding="utf-8", errors="replace")):
            yield word, path.parent
    for word in _texts(workflow.config):
        yield word, Path()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _usable(path: Path) -> Path | None:
    """The path relative to the working directory; None for what is not below it, no file, or large."""
    try:
        here = Path.cwd()
        full = (here / path).resolve()
        if not full.is_relative_to(here.resolve()) or not full.is_file():
            return None
        if full.stat().st_size > MOST_BYTES:
            return None
        return full.relative_to(here.resolve())
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, links in a circle
        return None


def _query(workflow: Any, path: Path) -> str:
    """The path as it is in the default storage."""
    prefix = workflow.storage_settings.default_storage_prefix
    return f"{str(prefix).rstrip('/')}/{path}" if prefix else str(path)
