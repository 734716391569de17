"""What makes two Snakemake jobs the same piece of work, and what makes them equal: hashes for the ledger.

Like `jobs`, it reads Snakemake's own objects; what it gives are texts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake_executor_takeda.values import JobSpec

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class Fingerprints:
    """Of the jobs of one run; the code of each rule is read once."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def of(self, job: Any) -> str:
        """Equal for jobs that do the same with the same: code, params, inputs, container and conda
        environment. 32 hexadecimal digits."""
        members = job.jobs if job.is_group() else [job]
        return _digest(sorted(json.dumps(self._facts(member)) for member in members))

    def _facts(self, job: Any) -> list[Any]:
        name = str(job.rule.name)
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = _digest(_code(job.rule))
        params = [_text(value) for value in job.params]
        names = [key for key, _ in job.params.items()]
        return [name, code, names, params, [str(f) for f in job.input], job.container_img_url]


def identity(spec: JobSpec, inputs: Iterable[str]) -> str:
    """Equal for jobs that make the same files by the same rules, whatever else has changed since. A job
    that makes none is told by its wildcards and inputs. 32 hexadecimal digits."""
    made = sorted(file.uri or file.path for named in spec.outputs for file in named.files)
    if made:
        return _digest([spec.rules, made])
    return _digest([spec.rules, sorted(spec.wildcards.items()), sorted(inputs)])


def _text(value: Any) -> str:
    """The same in each process. An object without a text of its own is told by its address, and a set by
    an order, which differ."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(key)}: {_text(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return _ADDRESS.sub("", repr(value))


def _code(rule: Any) -> list[str]:
    texts = [str(rule.shellcmd or ""), str(rule.run_func_src or "")]
    for name in (rule.script, rule.notebook, rule.wrapper, rule.cwl, rule.template_engine):
        if name:
            texts += [str(name), _content(rule, str(name))]
    if rule.conda_env is not None and not callable(rule.conda_env):
        texts += [str(rule.conda_env), _content(rule, str(rule.conda_env))]
    return texts


def _content(rule: Any, name: str) -> str:
    """The hash of a file beside the Snakefile; nothing where it is elsewhere, or made by a wildcard."""
    try:
        path = Path(str(rule.basedir.join(name).get_path_or_uri(secret_free=True)))
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except (AttributeError, OSError, ValueError):
        return ""


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts).encode(errors="backslashreplace")).hexdigest()[:32]
