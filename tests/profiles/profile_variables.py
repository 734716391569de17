"""The folders of `profiles/`, and an account's values for their variables."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.name for path in (ROOT / "profiles").iterdir() if path.is_dir())
REQUIRED = {
    "TAKEDA_ACCOUNT": "123456789012",
    "TAKEDA_BUCKET": "lab-bucket",
    "TAKEDA_PROJECT": "study-42",
    "TAKEDA_IMAGE": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/takeda-worker:0.1.0",
    "TAKEDA_IMAGE_REPOSITORY": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/takeda-worker",
    "TAKEDA_IMAGE_DIGEST": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "AWS_DEFAULT_REGION": "eu-central-1",
}


def variables(profile: str) -> dict[str, str | None]:
    """Those that the files of a profile name, with their defaults; None where one has to be set."""
    found: dict[str, str | None] = {}
    for path in (ROOT / "profiles" / profile).glob("*.yaml"):
        for name, default in re.findall(r"\$\{(\w+)(?::-([^}]*))?\}", path.read_text()):
            # one that any file needs has to be set
            found[name] = None if name in found and found[name] is None else default or None
    return found
