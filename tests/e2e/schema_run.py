"""One run of schemathesis over a worker's `/openapi.json`: every phase, every check, and a book of what came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

SHOWN = 5


@dataclass
class Book:
    """What a run saw. `failures`: which check of which operation failed, how often, and one example each."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    by_operation: dict[str, Counter[int]] = field(default_factory=dict)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Empty when everything conformed."""
        told = [f"{count} × {what}: {self.examples[what]}" for what, count in self.failures.most_common(SHOWN)]
        return "\n".join([*told, *self.errors[:SHOWN]])

    def note(self, event: events.EngineEvent) -> None:
        if isinstance(event, events.ScenarioFinished):
            self._note_scenario(event)
        elif isinstance(event, events.NonFatalError):
            self.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            self.errors.append(repr(event.exception))

    def _note_scenario(self, event: events.ScenarioFinished) -> None:
        recorder = event.recorder
        for interaction in recorder.interactions.values():
            self.cases += 1
            status = interaction.response.status_code if interaction.response is not None else 0
            self.statuses[status] += 1
            self.by_operation.setdefault(recorder.label or "", Counter())[status] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.status is not Status.SUCCESS and check.failure_info is not None:
                    what = (recorder.label or "", check.name)
                    self.failures[what] += 1
                    answer = recorder.interactions[case_id].response if case_id in recorder.interactions else None
                    shown = f"{answer.status_code} {answer.content[:300]!r}" if answer is not None else "no answer"
                    failure = check.failure_info
                    self.examples.setdefault(what, f"{failure.failure.message}\n{failure.code_sample}\n{shown}")


def run(url: str, headers: Mapping[str, str], *, examples: int, seed: int, known: Mapping[str, Sequence[str]]) -> Book:
    """Blocks until all phases have ended. `known`: values that exist, by the name of the path parameter."""
    config = SchemathesisConfig.from_dict(_settings(url, headers, examples=examples, seed=seed, known=known))
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    book = Book()
    for event in from_schema(schema).execute():
        book.note(event)
    return book


def _settings(url: str, headers: Mapping[str, str], *, examples: int, seed: int, known: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    accepted = ["2xx", "401", "403", "404", "409", "429"]
    return {
        "base-url": url,
        "seed": seed,
        "headers": dict(headers),
        "continue-on-failure": True,
        "generation": {"max-examples": examples, "database": "none"},
        "dictionaries": {name: {"values": list(values)} for name, values in known.items()},
        "parameters": {f"path.{name}": {"dictionary": name, "probability": 0.6} for name in known},
        # "5xx" is among what these two let pass by default. What is left of server errors `not_a_server_error` finds.
        "checks": {"positive_data_acceptance": {"expected-statuses": accepted}},
        "operations": [
            {  # the same key with another body
                "include-operation-id": "postIntegrationsWhatsappInstances",
                "checks": {"positive_data_acceptance": {"expected-statuses": [*accepted, "422"]}},
            }
        ],
    }
