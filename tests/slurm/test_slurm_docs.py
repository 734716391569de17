"""docs/slurm.md tells every word and every state there is, and its example is valid."""

import re
from pathlib import Path

import yaml

from snakemake_executor_takeda.backends.slurm import SlurmOptions, shape_key_resources, states
from snakemake_executor_takeda.routing.policy import load_policy

TEXT = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
SPOKEN_OF = set(re.findall(r"`(\w+)`", TEXT))


def test_every_word_of_a_target_and_every_resource():
    assert set(SlurmOptions.model_fields) <= SPOKEN_OF
    assert shape_key_resources <= SPOKEN_OF


def test_every_state():
    assert states.ENDED | states.RUNNING | states.WAITING | states.AGAIN <= SPOKEN_OF


def test_the_policy(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL)[1]
    assert yaml.safe_load(example)["version"] == 1
    file = tmp_path / "routing.yaml"
    file.write_text(example)
    policy = load_policy(file, {"slurm": SlurmOptions}, {})
    assert policy.targets["hpc"].options.scratch == "/fsx/scratch"


def test_the_recipe_for_credentials_from_afar(tmp_path):
    recipe = next(
        one for one in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "CREDENTIALS" in one
    )
    file = tmp_path / "routing.yaml"
    file.write_text(recipe)
    options = load_policy(file, {"slurm": SlurmOptions}, {}).targets["hpc"].options
    assert "AWS_SHARED_CREDENTIALS_FILE" in options.environment
