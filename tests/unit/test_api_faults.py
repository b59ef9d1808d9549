"""What is wrong with an input is said in words that help, and that quote nothing of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, Field, ValidationError

from worker.api.endpoints import ApiModel
from worker.api.faults import MAX_TOLD, invalid_by

SECRET = "s3cr3t"


def refuse(value: str) -> str:
    raise ValueError("allowed: something else")


class Sent(ApiModel):
    name: Annotated[str, AfterValidator(refuse)] = ""
    at_time: datetime | None = None
    count: int = Field(0, gt=0, lt=5)
    share: float = Field(0.5, gt=0, lt=1)
    entries: list[str] = Field([], min_length=1, max_length=2)
    inner: Sent | None = None


def told(**sent: Any) -> list[dict[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Sent.model_validate(sent, by_alias=True, by_name=False)
    refusal = invalid_by(caught.value, Sent)
    assert SECRET not in str(refusal)
    assert SECRET not in str(refusal.details)
    found: list[dict[str, str]] = refusal.details["faults"]
    return found


@pytest.mark.parametrize(
    ("sent", "field", "hint"),
    [
        ({"name": SECRET}, "name", "allowed: something else"),
        ({"atTime": SECRET}, "atTime", "not allowed here; /openapi.json says what is"),
        ({"count": 0}, "count", "allowed: more than 0"),
        ({"count": 5}, "count", "allowed: less than 5"),
        ({"count": SECRET}, "count", "allowed: a whole number"),
        ({"share": SECRET}, "share", "allowed: a number"),
        ({"entries": []}, "entries", "allowed: at least 1 entries"),
        ({"entries": SECRET}, "entries", "allowed: a list"),
        ({"inner": SECRET}, "inner", "allowed: an object"),
        ({"inner": {"count": 9}}, "inner.count", "allowed: less than 5"),
        ({"inner": {"odd": SECRET}}, "inner.odd", "unknown; leave it out"),
        ({"cuont": 1}, "cuont", "unknown; did you mean count?"),
        ({"zzzzzz": 1}, "zzzzzz", "unknown; allowed: name, atTime, count, share, entries, inner"),
        ({"x\n\x00" + "y" * 100: 1}, "x??" + "y" * 61, "unknown; allowed: name, atTime, count, share, entries, inner"),
    ],
)
def test_the_field_is_named_as_it_was_written_and_the_hint_says_what_is_allowed(sent: dict[str, Any], field: str, hint: str) -> None:
    assert told(**sent) == [{"field": field, "hint": hint}]


def test_of_very_many_faults_the_first_are_told() -> None:
    assert len(told(**{f"odd{n}": SECRET for n in range(100)})) == MAX_TOLD
