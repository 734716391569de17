"""`takeda sandbox`: AWS on one machine."""

import argparse
from typing import Any


def register(subparsers: "argparse._SubParsersAction[Any]") -> None:
    pass
