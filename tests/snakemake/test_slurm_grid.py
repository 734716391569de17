"""Whatever --jobs says, every ready job runs once on a real Slurm, in as few calls as the chunks need."""

import os

import pytest
from slurm_grid import MIXED, UNIFORM, run

pytestmark = pytest.mark.slurm


@pytest.mark.parametrize(
    ("jobs", "ready", "chunk", "mem_mb"),
    [
        (1, 10, 1000, UNIFORM),
        (2, 10, 1000, MIXED),
        (500, 10, 1000, UNIFORM),
        (500, 10, 3, UNIFORM),
        (2, 40, 1000, UNIFORM),
        (500, 120, 1000, MIXED),
        (500, 120, 20, UNIFORM),
        (50, 120, 20, MIXED),
    ],
)
def test_every_job_runs_once(tmp_path, slurm_env, jobs, ready, chunk, mem_mb):
    environ = {**os.environ, **slurm_env}
    done = run(tmp_path, environ, jobs=jobs, ready=ready, chunk=chunk, mem_mb=mem_mb)
    assert done.status == 0, done.output

    numbers = [str(n) for n in range(ready)]
    assert done.ran == dict.fromkeys(numbers, 1)
    asked = {n: "4000" if mem_mb == MIXED and int(n) % 2 == 0 else "1000" for n in numbers}
    assert done.memory == asked, "each task has the memory that it asks for, in every chunk"

    assert sum(done.sizes) == ready
    assert max(done.sizes) <= min(chunk, jobs)
    if jobs >= ready:
        chunks = -(-ready // chunk)
        # What fills a chunk is cut by shape.
        assert len(done.calls) == (chunks if mem_mb == UNIFORM else 2 * chunks)

    assert done.events["submitted"] == done.events["succeeded"] == ready
    assert done.events["failed"] == done.events["resubmitted"] == 0
