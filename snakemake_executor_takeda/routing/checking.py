"""Everything that can be wrong with a policy file, found at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from snakemake_executor_takeda.routing.condition_words import complaint, hint
from snakemake_executor_takeda.routing.conditions import TEXT_WORDS, When
from snakemake_executor_takeda.routing.mistakes import did_you_mean, owner, report
from snakemake_executor_takeda.routing.policy_file import (
    NAME_PATTERN,
    PolicyFile,
    RetryEntry,
    common_words,
)
from snakemake_executor_takeda.routing.source import Document, Location, shown

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
        self._problems.add(self.document.line(location), text)

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
                f"{owner(here)} has no condition and would take every job: name its target in "
                "`default` instead, or add a condition.",
            )
        kept: dict[str, Any] = {}
        for word, value in when.items():
            at = (*here, word)
            mistake = complaint(word, value, self.document.written(at))
            doubt = hint(word)
            if mistake:
                self._add(at, f"{owner(here)}: {mistake}")
                continue
            if doubt:
                self.warnings.append(
                    f"{self.document.file}:{self.document.line(at)}: {owner(here)}: {doubt}"
                )
            if word == "wildcards" and isinstance(value, dict):
                kept[word] = {name: self._text(v, (*at, name)) for name, v in value.items()}
            else:
                kept[word] = self._text(value, at) if word in TEXT_WORDS else value
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
                    f"{owner(here)}: a name is 1 to 63 letters, digits, `-`, `_` and `.`, and begins "
                    "with a letter or digit.",
                )
            backend = target.get("backend") if isinstance(target, dict) else None
            if not isinstance(backend, str):
                continue  # the model has complained
            if backend not in self._option_models:
                hint = did_you_mean(backend, self._option_models.keys(), "Backends")
                self._add(
                    (*here, "backend"), f"{owner(here)}: unknown backend {shown(backend)}. {hint}"
                )
                continue
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
                word = str(at[-1])
                others = targets.keys() - {at[1]} if word == "fallback" else targets.keys()
                self._add(
                    at,
                    f"{owner(at[:-1])}: `{word}: {shown(name)}` is no target. "
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
                self._add(at, f"{owner(at[:-1])}: fallbacks go in a circle ({circle}): cut it.")
            other = targets.get(fallback)
            kinds = [t.get("backend") for t in (targets[name], other) if isinstance(t, dict)]
            if kinds.count(HEALTHOMICS) == 1 and len(kinds) == 2:
                self._add(
                    at,
                    f"{owner(at[:-1])}: {shown(fallback)} cannot take its jobs, as {HEALTHOMICS} runs "
                    "hand-offs and nothing else does: name a target of the same kind.",
                )

    def _check_budgets(self, entry: PolicyFile) -> None:
        """Budgets of `retry` that end with its `total` before they are spent."""
        for at, retry in _retries(entry):
            for word in sorted(retry.model_fields_set - {"total", "out_of_memory"}):
                budget = getattr(retry, word)
                if budget is not None and budget >= entry.retry.total:
                    self.warnings.append(
                        f"{self.document.file}:{self.document.line((*at, word))}: {owner(at)}: "
                        f"`{word}: {budget}` is never reached, as a job is sent {entry.retry.total} "
                        "times at most: raise `total` of the policy's own `retry`"
                    )

    def _check_meaning(self, entry: PolicyFile) -> None:
        """Routes that can never take a job."""
        facts = [_facts(route.when) for route in entry.routes]
        for number, route in enumerate(entry.routes):
            here: Location = ("routes", number)
            target = entry.targets.get(route.to)
            if target is None:
                continue
            runs_handoffs = target.backend == HEALTHOMICS
            if route.when.handoff is not None and route.when.handoff is not runs_handoffs:
                self._add(
                    here,
                    f"{owner(here)} can never match: `handoff: {str(route.when.handoff).lower()}` does "
                    f"not go with {route.to}, whose backend is {target.backend}. Hand-offs run on "
                    f"{HEALTHOMICS}, other jobs elsewhere: change `to` or `when`.",
                )
            for earlier in range(number):
                before = entry.targets.get(entry.routes[earlier].to)
                # A rule's own backend=, capacity= or instance_type= can pass the earlier route over.
                if (
                    before is not None
                    and facts[earlier]
                    and facts[earlier] <= facts[number]
                    and before.backend == target.backend
                    and before.capacity == target.capacity
                    and before.instances == target.instances
                ):
                    self._add(
                        here,
                        f"{owner(here)} can never match: route {earlier + 1} (line "
                        f"{self.document.line(('routes', earlier))}) takes all of its jobs. Move it "
                        "up, or remove it.",
                    )
                    break


def _references(value: dict[str, Any]) -> Iterator[tuple[Location, Any]]:
    """Every place of a policy that names a target."""
    for name, target in value["targets"].items():
        if isinstance(target, dict):
            yield ("targets", name, "fallback"), target.get("fallback")
    routes = value["routes"]
    for number, route in enumerate(routes if isinstance(routes, list) else ()):
        if isinstance(route, dict):
            yield ("routes", number, "to"), route.get("to")
    yield ("default",), value.get("default")


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
