"""What a run left, by path → the rule's outputs, for workflows that do not name what they produce."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from snakemake_executor_takeda.backends.healthomics.definition import Delivery, Patterns
from snakemake_executor_takeda.backends.healthomics.fitting import parsed
from snakemake_executor_takeda.backends.healthomics.mistakes import Mistake, did_you_mean
from snakemake_executor_takeda.values import UNKNOWN, File, JobSpec, NamedFiles, TakedaError

NAME = "handoff_outputs"
_MAX_LISTED = 20
_WILD = re.compile(r"[*?\[]")


def patterns_of(job: JobSpec) -> Patterns:
    """Of a rule's param or resource. Raises TakedaError."""
    given = job.params.get(NAME)
    given = job.resources.get(NAME) if given is None else given
    return read_patterns(given)


def read_patterns(given: Any) -> Patterns:
    """`{"vcf": "variants/*.vcf.gz"}`, or the text of one. Raises TakedaError."""
    if given is None or given == "" or given is UNKNOWN:
        return {}
    found = parsed(given) if isinstance(given, str) else given
    example = f'{NAME} wants globs by output name, such as {{"vcf": "variants/*.vcf.gz"}}'
    if not isinstance(found, Mapping):
        raise TakedaError(f"{example}, not {given!r}")
    patterns = {}
    for name, globs in found.items():
        words = [globs] if isinstance(globs, str) else globs
        if not (isinstance(words, (list, tuple)) and words and all(map(_is_glob, words))):
            raise TakedaError(
                f"{example}: `{name}` has {globs!r}; paths are below what the run publishes, without .."
            )
        patterns[str(name)] = tuple(word.removeprefix("./").rstrip("/") for word in words)
    return patterns


def unused(patterns: Patterns, workflow: str, where: str) -> list[Mistake]:
    """For a workflow that names its outputs."""
    if not patterns:
        return []
    message = (
        f"{NAME} is for workflows that do not name their outputs; {workflow} does: leave it out"
    )
    return [Mistake(message, NAME, "", where)]


def mistakes(outputs: Sequence[NamedFiles], where: str, patterns: Patterns) -> list[Mistake]:
    """What can be said before a run: globs of outputs that the rule does not have, or too few of them."""
    found = []
    by_name = {one.name: one for one in outputs if one.name is not None}
    for name, globs in patterns.items():
        if name not in by_name:
            hint = did_you_mean(name, by_name)
            message = f"{NAME} names `{name}`, which is no output of the rule.{hint}"
            found.append(Mistake(message, name, "", where))
            continue
        wanted = len(by_name[name].files)
        if len(globs) not in (1, wanted):
            message = f"{NAME} has {len(globs)} globs for the {wanted} file(s) of output `{name}`: one for all, or one for each"
            found.append(Mistake(message, name, "", where))
    return found


def match(
    outputs: Sequence[NamedFiles], produced: Mapping[str, str], where: str, patterns: Patterns
) -> tuple[Delivery, ...]:
    """Which of the run's files goes where. `produced` has URIs by path.

    By the output's globs; without one by the files' own names: each that the rule wants has to be there
    once, below a folder of the output's name if there is one. Raises TakedaError that lists what was
    produced.
    """
    deliveries: list[Delivery] = []
    for named in outputs:
        globs = patterns.get(named.name or "", ())
        try:
            if not globs:
                deliveries += _by_name(named, produced)
            elif len(globs) == len(named.files):
                for glob, target in zip(globs, named.files, strict=True):
                    deliveries += _by_glob(glob, (target,), produced)
            else:
                deliveries += _by_glob(globs[0], named.files, produced)
        except _Unmatched as trouble:
            said = f"{trouble}. {_listing(produced, trouble.wanted)}"
            raise TakedaError(f"{where}: {said}" if where else said) from None
    return tuple(deliveries)


class _Unmatched(Exception):
    """The text says what is missing, or too many."""

    def __init__(self, message: str, wanted: str) -> None:
        super().__init__(message)
        self.wanted = wanted


def _by_glob(glob: str, targets: Sequence[File], produced: Mapping[str, str]) -> list[Delivery]:
    if len(targets) == 1 and targets[0].is_directory:
        return _tree(glob, targets[0], produced)
    found = sorted(path for path in produced if _matches(path, glob))
    if len(found) != len(targets):
        said = f"{glob} matches {_number(found)} of the run, the rule wants {len(targets)}"
        raise _Unmatched(said, glob)
    if len(targets) == 1:
        return [Delivery(produced[found[0]], targets[0])]
    # In the order of a listing they could get each other's content: names decide.
    by_name = {PurePosixPath(path).name: path for path in found}
    wanted = [PurePosixPath(target.path).name for target in targets]
    if len(by_name) < len(found) or set(wanted) != by_name.keys():
        raise _Unmatched(
            f"the names of the {len(targets)} files that match {glob} are not those that the rule wants "
            f"({', '.join(wanted)}); give a list with one glob for each",
            glob,
        )
    return [
        Delivery(produced[by_name[name]], target)
        for name, target in zip(wanted, targets, strict=True)
    ]


def _tree(glob: str, target: File, produced: Mapping[str, str]) -> list[Delivery]:
    """All files that match, and all below folders that match, by their paths below the glob's own
    folder."""
    found: dict[str, str] = {}
    base = _literal_folder(glob)
    for path in sorted(produced):
        folders = [parent.as_posix() for parent in PurePosixPath(path).parents][:-1]
        if glob == ".":
            found[path] = path
        elif glob in folders:
            found[PurePosixPath(path).relative_to(glob).as_posix()] = path
        elif _matches(path, glob) or any(_matches(one, glob) for one in folders):
            found[PurePosixPath(path).relative_to(base).as_posix()] = path
    if not found:
        raise _Unmatched(f"the run published nothing that matches {glob}", glob)
    return [Delivery(produced[path], target, member) for member, path in found.items()]


def _by_name(named: NamedFiles, produced: Mapping[str, str]) -> list[Delivery]:
    among = _below(produced, named.name)
    deliveries = []
    for target in named.files:
        if target.is_directory:
            deliveries.append(_directory(target, named.name, among))
            continue
        wanted = PurePosixPath(target.path).name
        found = [path for path in among if PurePosixPath(path).name == wanted]
        if len(found) != 1:
            many = f"{len(found)} files" if found else "no file"
            raise _Unmatched(f"the run made {many} named {wanted}", wanted)
        deliveries.append(Delivery(among[found[0]], target))
    return deliveries


def _below(produced: Mapping[str, str], name: str | None) -> Mapping[str, str]:
    """What lies in a folder of this name; everything where there is none."""
    found = {p: uri for p, uri in produced.items() if name in PurePosixPath(p).parts[:-1]}
    return found or produced


def _directory(target: File, name: str | None, among: Mapping[str, str]) -> Delivery:
    """All that lies in the folder of the output's name or, without one, of the directory's own."""
    for folder in (name, PurePosixPath(target.path).name):
        for path, uri in among.items():
            parts = PurePosixPath(path).parts[:-1]
            if folder in parts:
                below = len(parts) - parts.index(folder)
                return Delivery(uri.rsplit("/", below)[0] + "/", target, is_directory=True)
    wanted = name or PurePosixPath(target.path).name
    raise _Unmatched(f"the run made no folder named {wanted}", wanted)


def _matches(path: str, glob: str) -> bool:
    """`*` and `?` stay within a folder, `**` does not; `{a,b}` is either."""
    return re.fullmatch(_regex(glob), path) is not None


def _regex(glob: str) -> str:
    parts, at = [], 0
    while at < len(glob):
        if glob.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            parts.append(".*")
            at += 2
        elif glob[at] == "*":
            parts.append("[^/]*")
            at += 1
        elif glob[at] == "?":
            parts.append("[^/]")
            at += 1
        elif glob[at] == "{" and "}" in glob[at:]:
            end = glob.index("}", at)
            choices = "|".join(_regex(one) for one in glob[at + 1 : end].split(","))
            parts.append(f"(?:{choices})")
            at = end + 1
        elif glob[at] == "[" and "]" in glob[at + 1 :]:
            end = glob.index("]", at + 1)
            inside = glob[at + 1 : end].replace("\\", "\\\\")
            parts.append(f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
            at = end + 1
        else:
            parts.append(re.escape(glob[at]))
            at += 1
    return "".join(parts)


def _literal_folder(glob: str) -> str:
    """The folders of a glob before the first that has a wildcard, and not its last part."""
    kept = []
    for part in PurePosixPath(glob).parts[:-1]:
        if _WILD.search(part) or "{" in part:
            break
        kept.append(part)
    return "/".join(kept)


def _number(found: Sequence[str]) -> str:
    if not found:
        return "no file"
    return f"{len(found)} file{'s' if len(found) > 1 else ''}"


def _listing(produced: Mapping[str, str], wanted: str) -> str:
    """The nearest first."""
    if not produced:
        return "It made nothing"
    names = sorted(produced, key=lambda path: (-_likeness(path, wanted), path))
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"It made {', '.join(names[:_MAX_LISTED])}{more}"


def _likeness(path: str, wanted: str) -> float:
    wanted = _WILD.sub("", wanted)
    names = (path, PurePosixPath(path).name)
    return max(difflib.SequenceMatcher(None, one, wanted).ratio() for one in names)


def _is_glob(word: Any) -> bool:
    return (
        isinstance(word, str)
        and bool(word)
        and not word.startswith("/")
        and "://" not in word
        and ".." not in PurePosixPath(word).parts
        and _is_regular(word)
    )


def _is_regular(glob: str) -> bool:
    """Whether its brackets are a set of letters: `[b-a]` is none."""
    try:
        re.compile(_regex(glob))
    except re.error:
        return False
    return True
