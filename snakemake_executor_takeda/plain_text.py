"""Text of others, such as a job's log or a service's reason, as a terminal may show it."""

from __future__ import annotations

import re

# A terminal obeys these: they move its cursor, rename its window, or hide what was said.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """Without control characters, but for line ends and tabs."""
    return _CONTROLS.sub("", text)
