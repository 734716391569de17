"""Which client a run takes, and what it says of it."""

import sys
import types

import pytest
from slurm_builders import context, target

from snakemake_executor_takeda.backends.slurm import SlurmOptions
from snakemake_executor_takeda.backends.slurm.clients import choosing, command_line
from snakemake_executor_takeda.backends.slurm.clients.choosing import Here, choose, open_client
from snakemake_executor_takeda.backends.slurm.slurm_backend import SlurmBackend
from snakemake_executor_takeda.values import TakedaError


def here(pyslurm=None, slurm="25.11.6"):
    return Here(pyslurm_version=lambda: pyslurm, slurm_version=lambda: slurm)


@pytest.mark.parametrize(
    ("options", "machine", "client", "words"),
    [
        ({}, here(), "command-line", "default"),
        ({"rest_url": "http://head:6820"}, here("25.11.2"), "rest", "http://head:6820"),
        ({}, here("25.11.2"), "pyslurm", "fits Slurm 25.11.6"),
        ({}, here("25.5.0", "25.05.3"), "pyslurm", "fits"),
        ({}, here("25.11.2", "24.11.6"), "command-line", "does not fit Slurm 24.11.6"),
        ({}, here("25.11.2", None), "command-line", "does not fit"),
        ({"client": "pyslurm"}, here(), "pyslurm", "`client: pyslurm`"),
        ({"client": "command-line"}, here("25.11.2"), "command-line", "`client: command-line`"),
    ],
)
def test_choice(options, machine, client, words):
    choice = choose(SlurmOptions(**options), machine)
    assert choice.client == client
    assert words in choice.reason


@pytest.fixture
def commands(monkeypatch):
    """A machine that has Slurm's commands, and no pyslurm unless a test says so."""
    monkeypatch.setattr(command_line, "missing_commands", list)
    monkeypatch.setattr(choosing, "_pyslurm_version", lambda: None)
    monkeypatch.setattr(choosing, "_slurm_version", lambda: "25.11.6")
    monkeypatch.delenv("SLURM_CONF", raising=False)


def test_the_line(commands):
    client, line = open_client([target()])
    assert client.name == "command line"
    assert line.startswith("Slurm is spoken to through its commands: it is the default")
    client, line = open_client([target(), target(rest_url="unix:///run/slurmrestd.socket")])
    assert client.name == "slurmrestd"
    assert line.endswith("the targets name unix:///run/slurmrestd.socket")


def test_it_is_told_at_start(commands, tmp_path):
    from dataclasses import replace

    said = []
    SlurmBackend([target()], replace(context(tmp_path), say=said.append))
    assert len(said) == 1 and said[0].startswith("Slurm is spoken to through its commands")


def test_pyslurm_that_cannot_be_loaded_is_left_alone_unless_it_is_asked_for(
    commands, monkeypatch, tmp_path
):
    """Without a configuration, Slurm's library ends the process that loads it."""
    monkeypatch.setattr(choosing, "_pyslurm_version", lambda: "25.11.2")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "pyslurm.py").write_text(
        "import os, sys\nsys.stderr.write('error: x\\nfatal: no configuration\\n')\n"
        "sys.stderr.flush()\nos._exit(1)\n"
    )
    client, line = open_client([target()])
    assert client.name == "command line"
    assert "pyslurm 25.11.2 can't be loaded: fatal: no configuration" in line
    with pytest.raises(TakedaError, match=r"target hpc: pyslurm 25\.11\.2 can't be loaded: fatal"):
        open_client([target(client="pyslurm")])
    (tmp_path / "pyslurm.py").write_text("")
    monkeypatch.setitem(sys.modules, "pyslurm", types.ModuleType("pyslurm"))
    client, line = open_client([target()])
    assert client.name == "pyslurm" and "fits Slurm 25.11.6" in line


def test_pyslurm_that_is_not_there_or_does_not_fit(commands, monkeypatch):
    with pytest.raises(TakedaError, match=r'not installed: pip install "pyslurm==25.11.\*"'):
        open_client([target(client="pyslurm")])
    monkeypatch.setattr(choosing, "_pyslurm_version", lambda: "25.5.0")
    with pytest.raises(TakedaError, match=r"pyslurm 25\.5\.0 does not fit Slurm 25\.11\.6"):
        open_client([target(client="pyslurm")])
    monkeypatch.setattr(choosing, "_slurm_version", lambda: "24.11.5")
    with pytest.raises(
        TakedaError, match=r"does not fit Slurm 24\.11\.5: build the branch 24\.11\.x of"
    ):
        open_client([target(client="pyslurm")])


def test_pyslurm_without_scancel(commands, monkeypatch):
    monkeypatch.setattr(choosing, "_pyslurm_version", lambda: "25.11.2")
    monkeypatch.setattr(command_line, "missing_commands", lambda: ["scancel"])
    with pytest.raises(
        TakedaError, match=r"target hpc: pyslurm can't cancel .* scancel is not found"
    ):
        open_client([target(client="pyslurm")])


def test_commands_that_are_missing(commands, monkeypatch):
    monkeypatch.setattr(command_line, "missing_commands", lambda: ["sbatch", "squeue"])
    with pytest.raises(TakedaError, match=r"not found: sbatch, squeue.*rest_url"):
        open_client([target()])


def test_a_configuration_that_is_not_there(commands, monkeypatch, tmp_path):
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "gone.conf"))
    with pytest.raises(TakedaError, match=r"gone\.conf, which does not exist"):
        open_client([target()])


def test_targets_that_do_not_agree(commands):
    one, two = target(rest_url="http://a"), target(rest_url="http://b")
    with pytest.raises(TakedaError, match="differ in `rest_url` \\(http://a and http://b\\)"):
        open_client([one, two])


@pytest.mark.parametrize(
    "url", ["head:6820", "ftp://head", "http://user:secret@head", "unix://relative", "http://"]
)
def test_urls_that_are_none(url):
    with pytest.raises(ValueError):
        SlurmOptions(rest_url=url)
