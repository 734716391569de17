"""A run as a Workflow Run RO-Crate: the workflow, its execution, and that of each job.

Conforms to Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5) and to Process Run Crate 0.5
and Workflow RO-Crate 1.0, which it extends; these are of RO-Crate 1.1."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from snakemake_executor_takeda.audit.history import Event, History, events_of, histories, sentence
from snakemake_executor_takeda.values import TakedaError

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

CRATE_VERSION = "1.1"
TERMS = "https://w3id.org/ro/terms/workflow-run"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TAKEDA_URL = "https://github.com/snakemake/snakemake-executor-plugin-takeda"
COMPLETED, FAILED = (
    "http://schema.org/CompletedActionStatus",
    "http://schema.org/FailedActionStatus",
)
_ENDS = ("succeeded", "failed", "cancelled")


def export(
    log: Path,
    lines: Sequence[bytes],
    to: Path,
    *,
    run_id: str | None = None,
    snakefile: Path | None = None,
    license_url: str | None = None,
) -> str:
    """Write the crate of a run, to a directory, or to a file ending with `.zip`; → what is in it.

    `lines` are those of the event log. Raises TakedaError where the run, its Snakefile or the library
    is not there, and where something is already there.
    """
    try:
        from rocrate.rocrate import ROCrate
    except ImportError as error:
        raise TakedaError(
            "an RO-Crate is made with a library that is not installed: "
            "pip install 'snakemake-executor-plugin-takeda[rocrate]'"
        ) from error
    if to.exists():
        raise TakedaError(f"{to} is there already: name a new directory, or a new .zip file")
    story = _story(log, lines, run_id)
    source = _snakefile(story, snakefile)
    crate = ROCrate(version=CRATE_VERSION)
    _Writer(crate, story).write(source, log, license_url)
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        # The log may be gone on with: the crate has what was read.
        copy = Path(folder) / "events.jsonl"
        copy.write_bytes(b"".join(lines))
        crate.dereference("events.jsonl").source = copy
        if to.suffix == ".zip":
            crate.write_zip(to)
        else:
            crate.write(to)
    jobs = len(story.jobs)
    return f"run {story.run.run_id} with {jobs:,} job{'s' if jobs != 1 else ''}"


@dataclass(frozen=True)
class _Story:
    """A run's own events, and the histories of its jobs."""

    run: History
    jobs: Sequence[History]

    @property
    def begun(self) -> Mapping[str, Any]:
        """The detail of its first event."""
        return _last(self.run.events, "run").get("detail") or {}

    @property
    def workdir(self) -> Path:
        return Path(self.begun.get("workdir") or "/")


def _story(log: Path, lines: Iterable[bytes], run_id: str | None) -> _Story:
    events = list(events_of(lines))
    runs = [str(event["run_id"]) for event in events if event["event"] == "run"]
    if not runs:
        raise TakedaError(f"{log} tells of no run's start: there is nothing to describe")
    chosen = run_id or runs[-1]
    if chosen not in runs:
        raise TakedaError(f"{log} tells of no run {chosen}: there are {', '.join(runs)}")
    own, *jobs = sorted(histories(events, run_id=chosen), key=lambda one: one.job_id is not None)
    return _Story(own, jobs)


def _snakefile(story: _Story, given: Path | None) -> Path:
    path = given or Path(story.begun["workflow"]["path"])
    if not path.is_file():
        raise TakedaError(
            f"there is no Snakefile {path}: say where it is now with --snakefile FILE"
        )
    was = story.begun["workflow"].get("sha256")
    if was and hashlib.sha256(path.read_bytes()).hexdigest() != was:
        raise TakedaError(
            f"{path} is not as the run had it (SHA-256 {was[:12]}…): check out the commit of the run "
            f"({story.begun['workflow'].get('commit') or 'not known'}), and name that file with "
            "--snakefile FILE"
        )
    return path


class _Writer:
    """Fills a crate."""

    def __init__(self, crate: ROCrate, story: _Story) -> None:
        self._crate = crate
        self._story = story
        self._files: dict[str, Entity] = {}
        self._images: dict[str, ContextEntity] = {}

    def write(self, snakefile: Path, log: Path, license_url: str | None) -> None:
        begun, run_id = self._story.begun, self._story.run.run_id
        crate, root = self._crate, self._crate.root_dataset
        crate.metadata.extra_contexts.append(f"{TERMS}/context")
        crate.name = f"Run {run_id} of {snakefile.name}"
        crate.description = (
            f"A run of a Snakemake workflow by {begun['who']} with takeda: what ran where, when, why, "
            "and with which result. Data files are named where they are."
        )
        crate.license = self._context(
            license_url or "#license",
            "CreativeWork",
            name=license_url or "not stated",
            description="The licence of this description of a run, not of its data",
        )
        for iri, (name, version) in PROFILES.items():
            profile = self._context(iri, "CreativeWork", name=name, version=version)
            root.append_to("conformsTo", profile)
        agent = self._context(f"#{_iri(begun['who'])}", "Person", name=begun["who"])
        root["author"] = agent
        workflow = self._workflow(snakefile)
        action = self._run_action(workflow, agent)
        actions = [self._job_action(job, agent) for job in self._story.jobs]
        root["mentions"] = [action, *actions]
        trace = {
            "name": "Event log of takeda",
            "description": "One JSON object a line, hash-chained: `takeda audit verify` checks it.",
            "encodingFormat": "application/jsonl",
            "about": {"@id": action.id},
        }
        crate.add_file(log, "events.jsonl", properties=trace)

    @property
    def _version(self) -> str:
        """Of the workflow: its commit, or the hash of its Snakefile."""
        workflow = self._story.begun["workflow"]
        if not workflow.get("commit"):
            return f"sha256:{workflow.get('sha256', 'unknown')}"
        return f"{workflow['commit']}{', with changes' if workflow.get('changed') else ''}"

    def _workflow(self, snakefile: Path) -> Entity:
        facts = {"name": snakefile.name, "version": self._version}
        return self._crate.add_workflow(
            snakefile,
            "Snakefile",
            properties=facts,
            main=True,
            lang="snakemake",
            lang_version=self._story.begun["versions"]["snakemake"],
        )

    def _run_action(self, workflow: Entity, agent: Entity) -> Entity:
        run, begun = self._story.run, self._story.begun
        end = _last(run.events, "run_end")
        totals = (end.get("detail") or {}).get("totals") or {}
        engine = self._context(
            f"{TAKEDA_URL}#{begun['versions']['takeda']}",
            "SoftwareApplication",
            name="takeda, an executor plugin of Snakemake",
            url=TAKEDA_URL,
            softwareVersion=begun["versions"]["takeda"],
        )
        workflow["softwareRequirements"] = engine
        made = {_id(file, self._story.workdir): file for file in self._all("succeeded", "outputs")}
        read = {_id(file, self._story.workdir): file for file in self._all("placed", "inputs")}
        is_good = bool(end) and not totals.get("failed") and not totals.get("cancelled")
        facts = {
            "name": f"Run {run.run_id}",
            "description": "; ".join(sentence(event) for event in run.events),
            "instrument": workflow,
            "agent": agent,
            "startTime": _last(run.events, "run")["time"],
            "endTime": end.get("time") or run.events[-1].get("time"),
            "object": [self._file(file) for key, file in read.items() if key not in made],
            "result": [self._file(file) for key, file in made.items() if key not in read],
            "actionStatus": COMPLETED if is_good else FAILED,
        }
        return self._action(f"#run-{run.run_id}", facts)

    def _job_action(self, job: History, agent: Entity) -> Entity:
        events = job.events
        placed, end = _last(events, "placed"), _last(events, *_ENDS)
        began = _last(events, "started", "submitted", "placed")
        asked, ended = placed.get("detail") or {}, end.get("detail") or {}
        rule = self._context(
            f"#rule-{_iri(str(job.rule))}",
            "SoftwareApplication",
            name=job.rule,
            description=f"Rule {job.rule} of the workflow",
            url="Snakefile",
            softwareVersion=self._version,
        )
        is_good = end.get("event") == "succeeded"
        error = "" if is_good else ended.get("reason") or str(end.get("event") or "it has no end")
        image = ended.get("image") or asked.get("container")
        facts = {
            "name": job.title,
            "description": "; ".join(sentence(event) for event in events),
            "identifier": end.get("external_id") or began.get("external_id"),
            "instrument": rule,
            "agent": agent,
            "startTime": began.get("time"),
            "endTime": end.get("time") or events[-1].get("time"),
            "object": [self._file(file) for file in asked.get("inputs") or ()],
            "result": [self._file(file) for file in ended.get("outputs") or ()],
            "actionStatus": COMPLETED if is_good else FAILED,
            "error": error,
            "containerImage": self._image(image) if image else None,
            "resourceUsage": self._used(f"{job.run_id}-{_iri(str(job.job_id))}", ended),
        }
        return self._action(f"#job-{job.run_id}-{_iri(str(job.job_id))}", facts)

    def _action(self, name: str, facts: Mapping[str, Any]) -> Entity:
        known = {what: value for what, value in facts.items() if value}
        links = {
            what: known.pop(what)
            for what in (
                "instrument",
                "agent",
                "object",
                "result",
                "containerImage",
                "resourceUsage",
            )
            if what in known
        }
        action = self._context(name, "CreateAction", **known)
        for what, value in links.items():
            # RO-Crate 1.1 has no lists of one.
            action[what] = value[0] if isinstance(value, list) and len(value) == 1 else value
        return action

    def _used(self, name: str, detail: Mapping[str, Any]) -> list[Entity]:
        measured = {
            "wall_seconds": "https://qudt.org/vocab/unit/SEC",
            "cpu_seconds": "https://qudt.org/vocab/unit/SEC",
            "max_rss_kib": "https://qudt.org/vocab/unit/KibiBYTE",
        }
        return [
            self._context(
                f"#{name}-{what}",
                "PropertyValue",
                name=what,
                propertyID=f"{TAKEDA_URL}#{what}",
                unitCode=unit,
                value=str(detail[what]),
            )
            for what, unit in measured.items()
            if detail.get(what) is not None
        ]

    def _image(self, reference: str) -> Entity:
        """A container image, its name taken apart as far as it can be."""
        if reference not in self._images:
            name, _, sha256 = reference.partition("@sha256:")
            scheme, _, bare = name.rpartition("://")
            registry, _, path = bare.rpartition("/")
            path, _, tag = path.partition(":")
            host, _, folders = registry.partition("/")
            if "." not in host and ":" not in host and host != "localhost":
                host, folders = "docker.io", registry
            facts = {
                "additionalType": {
                    "@id": f"{TERMS}#{'SIFImage' if name.endswith('.sif') else 'DockerImage'}"
                },
                "registry": scheme or host,
                "name": bare
                if scheme not in ("", "docker")
                else "/".join(filter(None, (folders, path))),
                "tag": tag,
                "sha256": sha256,
            }
            known = {what: value for what, value in facts.items() if value}
            self._images[reference] = self._context(
                f"#image-{len(self._images) + 1}", "ContainerImage", **known
            )
        return self._images[reference]

    def _file(self, file: Event) -> Entity:
        """A data entity that stays where it is."""
        identifier = _id(file, self._story.workdir)
        if identifier not in self._files:
            facts = {
                "name": str(file.get("path") or file["uri"]),
                "contentSize": str(file["bytes"]) if "bytes" in file else None,
                "identifier": f"ETag {file['etag']}" if file.get("etag") else None,
                "version": file.get("version"),
            }
            known = {what: value for what, value in facts.items() if value}
            self._files[identifier] = self._crate.add_file(identifier, properties=known)
        return self._files[identifier]

    def _all(self, event: str, files: str) -> Iterable[Event]:
        for job in self._story.jobs:
            yield from (_last(job.events, event).get("detail") or {}).get(files) or ()

    def _context(self, identifier: str, kind: str, /, **facts: Any) -> ContextEntity:
        from rocrate.model.contextentity import ContextEntity

        found = self._crate.dereference(identifier)
        if found is not None:
            return found
        return self._crate.add(
            ContextEntity(self._crate, identifier, properties={"@type": kind, **facts})
        )


def _id(file: Event, workdir: Path) -> str:
    if "uri" in file:
        return _iri(str(file["uri"]))
    return (workdir / str(file["path"])).as_uri()


def _iri(text: str) -> str:
    """Text as an identifier: a key in S3 may hold spaces, and a `#`."""
    return quote(text, safe=":/@+,;=~")


def _last(events: Sequence[Event], *names: str) -> Event:
    """The last event of one of these names, in the order of the names where several are there; empty
    where none is."""
    for name in names:
        for event in reversed(events):
            if event.get("event") == name:
                return event
    return {}
