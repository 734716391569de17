"""What a run sees of a file: its S3 URI on HealthOmics, its absolute path on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from snakemake_executor_takeda.values import File, NamedFiles

REMOTE = ("s3://", "omics://")


class NoSuchFile(Exception):
    """A file that a run could not read; the text says why and what to do."""


class Files(Protocol):
    """Addresses of the files that a rule's inputs, params and input_json name."""

    def address(self, file: File, *, directory: bool = False) -> str:
        """Of an input of the rule. Raises NoSuchFile."""
        ...

    def locate(self, text: str, *, directory: bool = False) -> str:
        """Of a path or URI inside a param or input_json. Raises NoSuchFile."""
        ...


class RuleFiles:
    """As HealthOmics sees them. A path in a param has to be one of the rule's inputs, so that
    Snakemake makes it first; anything else has to be the URI of an object.

    `in_s3` False takes inputs outside S3, too: for a check on a machine without it.
    """

    def __init__(self, inputs: Iterable[NamedFiles], *, in_s3: bool = True) -> None:
        self._inputs = [file for named in inputs for file in named.files]
        self._in_s3 = in_s3
        self.used: dict[str, None] = {}
        """Addresses given out, in order; that of a directory ends with `/`."""

    def address(self, file: File, *, directory: bool = False) -> str:
        found = file.uri or ""
        if not found.startswith(REMOTE):
            if self._in_s3:
                raise NoSuchFile(
                    f"{file.path} is not in S3, where HealthOmics reads it; "
                    "use `default-storage-provider: s3` or wrap it in storage.s3()"
                )
            found = file.path
        return self._note(found, directory)

    def locate(self, text: str, *, directory: bool = False) -> str:
        if text.startswith(REMOTE):
            return self._note(text, directory)
        if "://" in text:
            raise NoSuchFile(f"{text} is neither in S3 nor an input of the rule; copy it to S3")
        named = [file for file in self._inputs if text.rstrip("/") == file.path.rstrip("/")]
        # With a default storage prefix, `a.bam` of the Snakefile is s3://bucket/prefix/a.bam.
        end = "/" + text.removeprefix("./").strip("/")
        named = named or [f for f in self._inputs if (f.uri or "").rstrip("/").endswith(end)]
        if len({file.uri or file.path for file in named}) > 1:
            several = ", ".join(sorted({file.path for file in named}))
            raise NoSuchFile(f"{text} may be any of the inputs {several}; write the whole path")
        if not named:
            raise NoSuchFile(
                f"{text} is no input of the rule; add it under `input:` or write its S3 URI"
            )
        return self.address(named[0], directory=directory)

    def _note(self, address: str, directory: bool) -> str:
        if directory and address.startswith(REMOTE):
            # HealthOmics takes the URI of a directory with its slash only.
            address = address.rstrip("/") + "/"
        self.used[address] = None
        return address


class LocalFiles:
    """As a run on this machine sees them: whatever is there."""

    def address(self, file: File, *, directory: bool = False) -> str:
        return self.locate(file.path, directory=directory)

    def locate(self, text: str, *, directory: bool = False) -> str:
        if "://" in text:
            raise NoSuchFile(f"{text} is not on this machine; run-local reads local files only")
        path = Path(text)
        if not path.exists():
            raise NoSuchFile(f"there is no input file {text}")
        if directory and not path.is_dir():
            raise NoSuchFile(f"{text} is no directory")
        return str(path.resolve())


class AsWritten:
    """Paths as they are, and all of them: for a rule that is not there yet."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def address(self, file: File, *, directory: bool = False) -> str:
        return self.locate(file.path, directory=directory)

    def locate(self, text: str, *, directory: bool = False) -> str:
        self.paths.append(text)
        return text


def look_up(given: str, look_in: Sequence[Path]) -> Path | None:
    """The first of the directories that has the file or directory; an absolute path is itself."""
    found = (base / given for base in look_in)
    return next((path.resolve() for path in found if path.exists()), None)
