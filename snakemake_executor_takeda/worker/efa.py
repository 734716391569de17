"""Whether this node has an EFA device, before a program that was told to use one fails without a word.

Run as a program it answers by exit code, and by a line that names the node.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from snakemake_executor_takeda.worker.exits import NODES_UNFIT

DEVICES = Path("/dev/infiniband")
FI_INFO = "/opt/amazon/efa/bin"
"""Where AWS's installer puts libfabric's own look at the machine."""
FI_INFO_SECONDS = 15.0


def lack_of_devices(count: int) -> str | None:
    """Why EFA cannot be used in this container, which must have so many devices."""
    for number in range(count):
        device = DEVICES / f"uverbs{number}"
        if not device.exists():
            return (
                f"the target says `efa: true`, but there is no device {device}: use an "
                "instance type with EFA, an AMI with its driver, and a launch template whose network "
                "interface is of type efa, or take `efa` out of the target"
            )
    return None


def lack_of_efa() -> str | None:
    """Why EFA cannot be used on this node: no device, and libfabric finds none either."""
    if any(DEVICES.glob("uverbs*")) or _libfabric_has_it():
        return None
    return (
        f"the target says `efa: true`, but there is no device {DEVICES}/uverbs*: use a partition "
        "whose compute resource has an instance type with EFA and `Efa: {Enabled: true}`, or take "
        "`efa` out of the target"
    )


def _libfabric_has_it() -> bool:
    program = shutil.which("fi_info", path=f"{os.environ.get('PATH', '')}:{FI_INFO}")
    if program is None:
        return False
    try:
        done = subprocess.run(
            [program, "-p", "efa"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FI_INFO_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def main() -> int:
    lack = lack_of_efa()
    if lack is None:
        return 0
    node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    print(f"takeda-worker: node {node}: {lack}", file=sys.stderr, flush=True)
    return NODES_UNFIT


if __name__ == "__main__":
    sys.exit(main())
