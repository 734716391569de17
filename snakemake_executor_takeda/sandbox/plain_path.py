"""A path of plain letters for a directory whose own path has spaces or others."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PLAIN = re.compile(r"[\w./+@-]*", re.ASCII)
"""What a shell takes as one word, and no language of workflows as anything but itself."""
_USUAL = ("/tmp", "/var/tmp")  # noqa: S108 - where the user's own has odd letters


def is_plain(path: Path) -> bool:
    return _PLAIN.fullmatch(str(path)) is not None


@contextmanager
def plain(directory: Path) -> Iterator[Path]:
    """The directory, which need not be there yet, by a path that commands may hold unquoted.

    That is its own, or a link to it in a temporary directory, removed at the end. Where no temporary
    directory has a plain path either, the directory's own is used.
    """
    places = [Path(place) for place in (tempfile.gettempdir(), *_USUAL)]
    place = next((one for one in places if is_plain(one) and one.is_dir()), None)
    if is_plain(directory) or place is None:
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="takeda-run-", dir=place) as above:
        link = Path(above, "at")
        link.symlink_to(directory, target_is_directory=True)
        yield link
