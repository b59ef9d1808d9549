"""The words of `whatsapp-worker replay` become calls of the API, or a line that says what is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.commands.replay import Asked, plan_of
from worker.domain.errors import ConfigurationError

URL = "http://127.0.0.1:8080"
NOTHING: dict[str, str | None] = dict.fromkeys(("webhookId", "instanceId", "reason", "since", "until"))
ASKED = Asked(events=False, wanted=NOTHING, to_webhook=None, rate_per_s=50, cursor=None)


def faults(asked: Asked, key: str | None = "k") -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        plan_of(URL, key, None, asked)
    return [fault.split(":")[0] for fault in refused.value.faults]


def test_dead_letters_are_asked_for_by_what_was_named() -> None:
    plan = plan_of(URL, "k", "acme", replace(ASKED, wanted={**NOTHING, "webhookId": "crm", "since": "s"}, to_webhook="erp", cursor="c"))
    assert plan.path == "/api/dead-letters/replay?webhookId=erp"
    assert plan.body == {"webhookId": "crm", "since": "s", "ratePerS": 50, "limit": 1000}
    assert plan.headers == {"authorization": "Bearer k", "x-tenant-id": "acme"}
    assert plan.cursor == "c"


def test_events_are_asked_of_the_webhook() -> None:
    wanted = {**NOTHING, "webhookId": "../crm", "since": "s", "until": "u"}
    plan = plan_of(URL, "k", None, replace(ASKED, events=True, wanted=wanted))
    assert plan.path == "/api/webhooks/..%2Fcrm/replay"
    assert plan.body == {"since": "s", "until": "u", "ratePerS": 50, "limit": 1000}
    assert plan.headers == {"authorization": "Bearer k"}


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"events": True}, ["--webhook", "--since"]),
        ({"events": True, "wanted": {**NOTHING, "webhookId": "crm", "since": "s", "reason": "poison"}}, ["--reason"]),
        ({"events": True, "wanted": {**NOTHING, "webhookId": "crm", "since": "s"}, "to_webhook": "erp"}, ["--to-webhook"]),
    ],
)
def test_what_is_missing_or_has_no_meaning_is_named(changes: dict[str, Any], missing: list[str]) -> None:
    assert faults(replace(ASKED, **changes)) == missing


def test_without_a_key_nothing_is_asked() -> None:
    assert faults(ASKED, key=None) == ["--key"]


def test_a_plan_shows_no_key() -> None:
    assert "secret-key" not in repr(plan_of(URL, "secret-key", None, ASKED))
