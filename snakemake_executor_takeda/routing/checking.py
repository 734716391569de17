"""Everything that can be wrong with a policy file, found at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from snakemake_executor_takeda.routing.condition_words import complaint, hint
from snakemake_executor_takeda.routing.conditions import CLOCK_WORDS, TEXT_WORDS, When
from snakemake_executor_takeda.routing.mistakes import did_you_mean, report
from snakemake_executor_takeda.routing.policy_file import (
    NAME_PATTERN,
    PolicyFile,
    RetryEntry,
    RouteEntry,
    common_words,
)
from snakemake_executor_takeda.routing.source import Document, Location, Place, shown

HEALTHOMICS = "healthomics"
"""The backend of hand-offs: it runs workflows, not commands."""


class Checked:
    """A policy file that has passed: its entries, the options of its targets, and hints."""

    def __init__(self, document: Document, option_models: Mapping[str, type[BaseModel]]) -> None:
        """Raises TakedaError listing every mistake."""
        self.document = document
        self.options: dict[str, BaseModel] = {}
        self.warnings: list[str] = []
        self._option_models = option_models
        self._problems = document.problems
        if not isinstance(document.value, dict):
            self._add((), "a policy begins with `version: 1`, then targets:, routes:, default:.")
            self._problems.raise_any()
        value = dict(document.value)
        value["routes"] = self._routes(value.get("routes"))
        entry: PolicyFile | None = None
        try:
            entry = PolicyFile.model_validate(value)
        except ValidationError as error:
            report(error, PolicyFile, document, self._problems)
        self._check_targets(value.get("targets"))
        self._check_names(value)
        if entry is not None:
            self._check_meaning(entry)
            self._check_budgets(entry)
        self._problems.raise_any()
        assert entry is not None
        self.entry = entry

    def _add(self, location: Location, text: str) -> None:
        self._problems.add(self.document.place(location), text)

    def _owner(self, location: Location) -> str:
        return self.document.owner(location)

    # Routes.

    def _routes(self, routes: Any) -> Any:
        """The routes with text where text is meant, without the words already complained about."""
        if routes is None:
            return []
        if not isinstance(routes, list):
            return routes
        return [
            {**route, "when": self._when(route["when"], ("routes", number, "when"))}
            if isinstance(route, dict) and isinstance(route.get("when"), dict)
            else route
            for number, route in enumerate(routes)
        ]

    def _when(self, when: dict[str, Any], here: Location) -> dict[str, Any]:
        if not when:
            self._add(
                here,
                f"{self._owner(here)} has no condition and would take every job: name its target in "
                "`default` instead, or add a condition.",
            )
        kept: dict[str, Any] = {}
        for word, value in when.items():
            at = (*here, word)
            mistake = complaint(word, value, self.document.written(at))
            doubt = hint(word)
            if mistake:
                self._add(at, f"{self._owner(here)}: {mistake}")
                continue
            if doubt:
                self.warnings.append(f"{self.document.place(at)}: {self._owner(here)}: {doubt}")
            if word == "wildcards" and isinstance(value, dict):
                kept[word] = {name: self._text(v, (*at, name)) for name, v in value.items()}
            else:
                kept[word] = self._text(value, at) if word in TEXT_WORDS else value
        if "timezone" in when and not CLOCK_WORDS & when.keys():
            self._add(
                (*here, "timezone"),
                f"{self._owner(here)}: `timezone` says how `time` and `weekday` are meant, and there "
                "is neither: add one, or remove it.",
            )
        # A `when` left empty here was complained about above.
        return kept

    def _text(self, value: Any, at: Location) -> Any:
        """What stands in the file where YAML saw a number: sample `1.50` is not sample `1.5`."""
        return self.document.marks[at].text if isinstance(value, int | float) else value

    # Targets.

    def _check_targets(self, targets: Any) -> None:
        for name, target in targets.items() if isinstance(targets, dict) else ():
            here: Location = ("targets", name)
            if not re.fullmatch(NAME_PATTERN, name):
                self._add(
                    here,
                    f"{self._owner(here)}: a name is 1 to 63 letters, digits, `-`, `_` and `.`, and begins "
                    "with a letter or digit.",
                )
            backend = target.get("backend") if isinstance(target, dict) else None
            if not isinstance(backend, str):
                continue  # the model has complained
            if backend not in self._option_models:
                hint = did_you_mean(backend, self._option_models.keys(), "Backends")
                self._add(
                    (*here, "backend"),
                    f"{self._owner(here)}: unknown backend {shown(backend)}. {hint}",
                )
                continue
            if backend == HEALTHOMICS and "limits" in target:
                self._add(
                    (*here, "limits"),
                    f"{self._owner(here)}: `limits` are about what a rule asks for itself, and what "
                    f"{HEALTHOMICS} runs asks in its own workflow: remove it.",
                )
            self._check_options(here, backend, target)

    def _check_options(self, here: Location, backend: str, target: dict[str, Any]) -> None:
        model = self._option_models[backend]
        common = common_words()
        own = {word: value for word, value in target.items() if word not in common}
        try:
            self.options[str(here[-1])] = model.model_validate(own)
        except ValidationError as error:
            foreign = {
                word: other
                for other, other_model in self._option_models.items()
                if other != backend
                for word in other_model.model_fields
            }
            report(error, model, self.document, self._problems, here, words=common, foreign=foreign)

    # Names of targets, and what the whole means.

    def _check_names(self, value: dict[str, Any]) -> None:
        targets = value.get("targets")
        if not isinstance(targets, dict):
            return
        for at, name in _references(value):
            if isinstance(name, str) and name not in targets:
                *above, word = at[:-1] if isinstance(at[-1], int) else at
                others = targets.keys() - {at[1]} if word == "fallback" else targets.keys()
                self._add(
                    at,
                    f"{self._owner(tuple(above))}: `{word}: {shown(name)}` is no target. "
                    f"{did_you_mean(name, others, 'Targets')}",
                )
        self._check_fallbacks(targets)

    def _check_fallbacks(self, targets: dict[str, Any]) -> None:
        follows: dict[str, str] = {
            name: target["fallback"]
            for name, target in targets.items()
            if isinstance(target, dict) and isinstance(target.get("fallback"), str)
        }
        reported: set[str] = set()
        for name, fallback in follows.items():
            at: Location = ("targets", name, "fallback")
            trail = dict.fromkeys([name])
            step = fallback
            while step in follows and step not in trail:
                trail[step] = None
                step = follows[step]
            if step == name and name not in reported:
                reported.update(trail)
                circle = " → ".join(shown(n) for n in (*trail, name))
                self._add(
                    at, f"{self._owner(at[:-1])}: fallbacks go in a circle ({circle}): cut it."
                )
            other = targets.get(fallback)
            kinds = [t.get("backend") for t in (targets[name], other) if isinstance(t, dict)]
            if kinds.count(HEALTHOMICS) == 1 and len(kinds) == 2:
                self._add(
                    at,
                    f"{self._owner(at[:-1])}: {shown(fallback)} cannot take its jobs, as {HEALTHOMICS} runs "
                    "hand-offs and nothing else does: name a target of the same kind.",
                )

    def _check_budgets(self, entry: PolicyFile) -> None:
        """Budgets of `retry` that end with its `total` before they are spent."""
        for at, retry in _retries(entry):
            for word in sorted(retry.model_fields_set - {"total", "out_of_memory"}):
                budget = getattr(retry, word)
                if budget is not None and budget >= entry.retry.total:
                    self.warnings.append(
                        f"{self.document.place((*at, word))}: {self._owner(at)}: "
                        f"`{word}: {budget}` is never reached, as a job is sent {entry.retry.total} "
                        "times at most: raise `total` of the policy's own `retry`"
                    )

    def _check_meaning(self, entry: PolicyFile) -> None:
        """Routes that can never take a job."""
        facts = [_facts(route.when) for route in entry.routes]
        for position, route in enumerate(entry.routes):
            here: Location = ("routes", position)
            self._check_handoffs(here, route, entry)
            for earlier in range(position):
                before = self.document.place(("routes", earlier))
                # A file may well come before what it includes: those routes are overridden.
                is_lock = entry.routes[earlier].locked and not route.locked
                if not is_lock and before.file != self.document.place(here).file:
                    continue
                if (
                    facts[earlier]
                    and facts[earlier] <= facts[position]
                    and _covers(entry.routes[earlier], route, entry)
                ):
                    which = f"route {self.document.number(earlier)} ({_line(before, here, self.document)}"
                    remedy = "Remove it" if is_lock else "Move it up, or remove it"
                    self._add(
                        here,
                        f"{self._owner(here)} can never match: {which}{', locked' if is_lock else ''}) "
                        f"takes all of its jobs. {remedy}.",
                    )
                    break

    def _check_handoffs(self, here: Location, route: RouteEntry, entry: PolicyFile) -> None:
        wanted = route.when.handoff
        for name in route.to:
            target = entry.targets.get(name)
            if target is None or wanted is None or wanted is (target.backend == HEALTHOMICS):
                continue
            what = "can never match" if len(route.to) == 1 else f"can never use {name}"
            self._add(
                here,
                f"{self._owner(here)} {what}: `handoff: {str(wanted).lower()}` does not go with {name}, "
                f"whose backend is {target.backend}. Hand-offs run on {HEALTHOMICS}, other jobs "
                "elsewhere: change `to` or `when`.",
            )


def _references(value: dict[str, Any]) -> Iterator[tuple[Location, Any]]:
    """Every place of a policy that names a target."""
    for name, target in value["targets"].items():
        if isinstance(target, dict):
            yield ("targets", name, "fallback"), target.get("fallback")
    routes = value["routes"]
    for number, route in enumerate(routes if isinstance(routes, list) else ()):
        if isinstance(route, dict):
            yield from _each(("routes", number, "to"), route.get("to"))
    yield from _each(("default",), value.get("default"))


def _each(at: Location, names: Any) -> Iterator[tuple[Location, Any]]:
    """One name, or those of a list."""
    if isinstance(names, list):
        yield from (((*at, position), name) for position, name in enumerate(names))
    else:
        yield at, names


def _covers(before: RouteEntry, route: RouteEntry, entry: PolicyFile) -> bool:
    """Whether no rule's own backend=, capacity= or instance_type= can pass the earlier route over and
    be served by the later one."""

    def kinds(one: RouteEntry) -> set[tuple[object, ...]]:
        found = [entry.targets[name] for name in one.to if name in entry.targets]
        return {(t.backend, t.capacity, t.instances, t.efa) for t in found}

    return bool(kinds(route)) and (before.locked or kinds(route) <= kinds(before))


def _line(place: Place, here: Location, document: Document) -> str:
    """Without the file where it is the same."""
    return f"line {place.line}" if place.file == document.place(here).file else str(place)


def _retries(entry: PolicyFile) -> Iterator[tuple[Location, RetryEntry]]:
    """Every `retry` of a policy, and where it stands."""
    yield ("retry",), entry.retry
    for name, target in entry.targets.items():
        if target.retry:
            yield ("targets", name, "retry"), target.retry


def _facts(when: When) -> frozenset[tuple[str, Any]]:
    """The conditions one by one, so that those of two routes can be compared."""
    given = when.given()
    wildcards = given.pop("wildcards", {})
    return frozenset(given.items()) | frozenset(
        (f"wildcards.{name}", glob) for name, glob in wildcards.items()
    )
