"""Exit codes of the worker's own, for what keeps a job of several nodes from running its task.

The task's own code is Snakemake's, 0 or 1 or that of a signal, so that these cannot be taken for it.
"""

from __future__ import annotations

from typing import Final

NODE_LOST: Final = 91
"""A node went away while the task ran."""
NODES_MISSING: Final = 92
"""Not all nodes had started in time."""
NODES_UNFIT: Final = 93
"""A node has not what the target says, or cannot be reached."""
