"""A folder's files, all of them or none, and never in the place of one that is there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from snakemake_executor_takeda.values import TakedaError


def check_free(folder: Path, names: Mapping[str, str]) -> None:
    """Raises TakedaError for the first that is there."""
    if folder.exists() and not folder.is_dir():
        raise TakedaError(f"{folder} is a file: name a folder. Nothing was written")
    for name in names:
        if os.path.lexists(folder / name):
            raise TakedaError(
                f"{folder / name} is there already, and is not replaced: name another folder, or move "
                "it away. Nothing was written"
            )


def write_all(folder: Path, files: Mapping[str, str]) -> list[Path]:
    """The files' paths, config.yaml last: Snakemake takes a folder without it for no profile.

    They are written beside the folder first. Raises TakedaError, with nothing written.
    """
    check_free(folder, files)
    whole = folder.resolve()
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{whole.name}-", dir=whole.parent))
    except OSError as error:
        raise TakedaError(f"cannot write {folder}: {error}") from error
    try:
        _write(draft, files)
        _move(draft, whole, files)
    except FileExistsError as error:
        raise TakedaError(
            f"{error.filename2 or error.filename} came to be meanwhile, and is not replaced"
        ) from error
    except OSError as error:
        raise TakedaError(f"cannot write {folder}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [folder / name for name in files]


def _write(draft: Path, files: Mapping[str, str]) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for name, text in files.items():
        with (draft / name).open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    draft.chmod(0o777 & ~mask)


def _move(draft: Path, whole: Path, files: Mapping[str, str]) -> None:
    if not whole.exists():
        try:
            draft.rename(whole)
            return
        except OSError:
            if not whole.is_dir():
                raise  # no other made it meanwhile
    linked: list[Path] = []
    try:
        for name in sorted(files, key=lambda one: one == "config.yaml"):
            # A link is refused where the name is taken; a rename would replace.
            os.link(draft / name, whole / name)
            linked.append(whole / name)
    except OSError:
        for path in linked:
            path.unlink()
        raise
