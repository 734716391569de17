#!/usr/bin/env python3
"""Ranks that meet at PMIx's fences, as in MPI_Init. Exit 1 where one leaves before the last has entered.

At each fence another rank is late. The folder `fences` is one that all ranks see.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

LATE_SECONDS = 0.1
FENCES_PER_RANK = 2


class Process(ctypes.Structure):
    _fields_ = (("namespace", ctypes.c_char * 256), ("rank", ctypes.c_uint32))


def main():
    pmix = ctypes.CDLL("libpmix.so.2", mode=ctypes.RTLD_GLOBAL)
    me = Process()
    check(pmix.PMIx_Init(ctypes.byref(me), None, 0))
    size = int(os.environ["SLURM_NTASKS"])
    folder = Path("fences")
    folder.mkdir(exist_ok=True)
    early = []
    for number in range(size * FENCES_PER_RANK):
        if number % size == me.rank:
            time.sleep(LATE_SECONDS)
        (folder / f"{number}.{me.rank}").touch()
        check(pmix.PMIx_Fence(None, 0, None, 0))
        entered = len(list(folder.glob(f"{number}.*")))
        if entered < size:
            early.append(
                f"fence {number}: rank {me.rank} left when {entered} of {size} had entered"
            )
    pmix.PMIx_Finalize(None, 0)
    print("\n".join(early) or f"rank {me.rank} of {size} met all others", flush=True)
    return 1 if early else 0


def check(status):
    if status:
        raise SystemExit(f"PMIx says {status}")


if __name__ == "__main__":
    sys.exit(main())
