"""`takeda handoff`: WDL workflows outside AWS."""

import argparse
from typing import Any


def register(subparsers: "argparse._SubParsersAction[Any]") -> None:
    pass
