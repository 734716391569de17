#!/usr/bin/env python3
"""A real MPI program without a compiler: sums ranks + 1 over all ranks by Open MPI's library.

Each rank says where Slurm put it. MPI's handles are addresses of globals in Open MPI's ABI.
With `wait` a rank leaves a mark in `ranks` first, and waits for the file `go`.
"""

import ctypes
import os
import sys
import time
from pathlib import Path

mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)


def handle(name):
    return ctypes.byref(ctypes.c_char.in_dll(mpi, name))


world = handle("ompi_mpi_comm_world")
rank, size, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
mpi.MPI_Init(None, None)
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
mine = ctypes.c_int(rank.value + 1)
if sys.argv[1:] == ["wait"]:
    Path("ranks").mkdir(exist_ok=True)
    Path("ranks", f"{rank.value}.part").write_text(os.environ["SLURMD_NODENAME"])
    Path("ranks", f"{rank.value}.part").rename(f"ranks/{rank.value}")
    while not Path("go").exists():
        time.sleep(0.1)
addition, integer = handle("ompi_mpi_op_sum"), handle("ompi_mpi_int")
mpi.MPI_Allreduce(ctypes.byref(mine), ctypes.byref(total), 1, integer, addition, world)
node = os.environ.get("SLURMD_NODENAME", "?")
threads = os.environ.get("OMP_NUM_THREADS", "?")
print(
    f"rank {rank.value} of {size.value} on {node}: sum {total.value}, {threads} threads", flush=True
)
mpi.MPI_Finalize()
