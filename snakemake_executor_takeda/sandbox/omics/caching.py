"""miniwdl's call cache over a HealthOmics run cache: tasks only, matched by what their inputs hold."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import WDL
from WDL.runtime import config
from WDL.runtime.cache import CallCache

from snakemake_executor_takeda.sandbox.omics.caches import MADE
from snakemake_executor_takeda.sandbox.omics.tasks import CACHED, ENTRY

Fetch = Callable[[str, str, Path], bool]
"""`fetch(uri, below, path)`: bring an entry's file or directory to `path`; False where S3 has it no
more."""


class RunCache(CallCache):
    """Finds entries for tasks, and writes down what could become one.

    HealthOmics caches no task without a container or without outputs, so neither does this.
    """

    def __init__(
        self,
        cfg: config.Loader,
        logger: logging.Logger,
        *,
        document: Any,
        entries: Mapping[str, Mapping[str, Any]],
        directory: Path,
        fetch: Fetch,
    ) -> None:
        super().__init__(cfg, logger)
        self._tasks = {task.digest: task for task in _cacheable(document)}
        self._entries = entries
        self._directory = directory
        self._fetch = fetch
        self._writing = threading.Lock()

    def get(self, key: str, inputs: Any, output_types: Any) -> Any:
        fingerprint = self._fingerprint(key, inputs)
        entry = self._entries.get(fingerprint or "")
        if fingerprint is None or entry is None:
            return None
        place = self._directory / CACHED / fingerprint
        files = place / "files"
        with self._writing:
            if not (place / ENTRY).exists():
                found = all(
                    self._fetch(entry["uri"], name, files / name) for name in entry["files"]
                )
                if not found:
                    self._logger.warning(
                        "a file of a cache entry is gone from S3: %s", entry["uri"]
                    )
                    return None
            outputs = WDL.values_from_json(entry["outputs"], output_types)
            outputs = WDL.Value.rewrite_env_paths(outputs, lambda value: str(files / value.value))
            task = self._tasks[key.split("/")[1]]
            shown = WDL.values_to_json(outputs, namespace=task.name)
            place.mkdir(parents=True, exist_ok=True)
            (place / ENTRY).write_text(json.dumps({**entry, "shown": shown}))
        self._logger.info("cache hit: %s", entry["uri"])
        return outputs

    def put(
        self, key: str, outputs: Any, run_dir: str | None = None, *, inputs: Any, add_paths: Any
    ) -> None:
        super().put(key, outputs, run_dir, inputs=inputs, add_paths=add_paths)
        fingerprint = self._fingerprint(key, inputs)
        if fingerprint is None or run_dir is None:
            return
        files: dict[str, str] = {}

        def name(value: Any) -> str:
            path = Path(value.value)
            files[f"{len(files)}/{path.name}"] = str(path.resolve())
            return list(files)[-1]

        stored = WDL.values_to_json(WDL.Value.rewrite_env_paths(outputs, name))
        made = {
            "fingerprint": fingerprint,
            "place": Path(run_dir).relative_to(self._directory / "run").as_posix(),
            "outputs": stored,
            "files": files,
        }
        with self._writing, (self._directory / MADE).open("a") as stream:
            stream.write(json.dumps(made) + "\n")

    def _fingerprint(self, key: str, inputs: Any) -> str | None:
        """Of the task's definition, its container and the content of its inputs; None for what is
        not cached."""
        task = self._tasks.get(key.split("/")[1])
        if task is None:
            return None
        known: dict[str, str] = {}

        def content(value: Any) -> str:
            path = str(value.value)
            if path not in known:
                known[path] = f"{Path(path).name} {_digest(Path(path))}"
            return known[path]

        values = WDL.values_to_json(WDL.Value.rewrite_env_paths(inputs, content))
        text = json.dumps([task.name, task.digest, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _cacheable(document: Any) -> Iterable[Any]:
    for task in document.tasks:
        if task.outputs and {"docker", "container"} & set(task.runtime):
            yield task
    for imported in document.imports:
        if imported.doc is not None:
            yield from _cacheable(imported.doc)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
