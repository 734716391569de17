"""Exit codes of the worker and its job script, for what keeps a job from running its task.

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
NO_MODULES: Final = 94
"""The job script could not load environment modules."""
UNREACHABLE: Final = 95
"""The worker could not read what the run left for it, or could not leave the record of a failure."""
ALREADY_STARTED: Final = 96
"""Another process does the task, or has done it."""
DISK_FULL: Final = 97
"""There was no room for the task's directory; or, where there is no record, for that, however the task
ended."""
