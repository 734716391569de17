"""What killed tasks leave in scratch is removed, and nothing else."""

from snakemake_executor_takeda.backends.slurm.leftovers import Leftovers


def test_only_what_is_the_tasks(tmp_path):
    names = [
        "run-1-t1.abc",
        "run-1-t10.abc",
        "run-1-t2.def",
        "run-1-t3.goes_on",
        "run-12-t1.abc",
        "mine",
    ]
    for name in names:
        (tmp_path / name / "deep").mkdir(parents=True)

    def there():
        return {path.name for path in tmp_path.iterdir()}

    leftovers = Leftovers([tmp_path, tmp_path / "absent"])
    leftovers.remove("run-1-t1")
    for thread in leftovers._threads:
        thread.join()
    assert there() == set(names) - {"run-1-t1.abc"}
    leftovers.close({"run-1-t10", "run-1-t2"})
    assert there() == {"run-1-t3.goes_on", "run-12-t1.abc", "mine"}
