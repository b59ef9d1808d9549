"""Reading what ECS says of a task: the documented answer, and any JSON at all."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.adapters.ecs import EcsTask, NoTask, task_of

ARN = "arn:aws:ecs:sa-east-1:111122223333:task/default/158d1c8083dd49d6b527399fd6414f5c"
ANSWER: dict[str, Any] = {
    "Cluster": "default",
    "TaskARN": ARN,
    "Family": "whatsapp-worker",
    "ServiceName": "workers",
    "Revision": "26",
    "DesiredStatus": "RUNNING",
    "KnownStatus": "RUNNING",
    "Limits": {"CPU": 0.25, "Memory": 512},
    "AvailabilityZone": "sa-east-1a",
    "LaunchType": "FARGATE",
    "ClockDrift": {"ClockErrorBound": 0.4829, "ReferenceTimestamp": "2026-11-22T19:00:00Z", "ClockSynchronizationStatus": "SYNCHRONIZED"},
    "Containers": [],
}


def test_the_documented_answer_is_read() -> None:
    assert task_of(ANSWER) == EcsTask(
        arn=ARN,
        family="whatsapp-worker",
        revision=26,
        zone="sa-east-1a",
        cluster="default",
        service="workers",
        desired_status="RUNNING",
        clock_error_s=0.0004829,
    )


@pytest.mark.parametrize("name", ["TaskARN", "Family", "Revision"])
@pytest.mark.parametrize("value", [None, "", [], {}, True, 1.5, "x\nforged", "v" * 3_000])
def test_without_a_name_of_its_own_there_is_no_task(name: str, value: object) -> None:
    with pytest.raises(NoTask, match=name):
        task_of(ANSWER | {name: value})


@pytest.mark.parametrize("value", ["-1", "0", "1e3", "\u0667", " 7", "99999999999", 0, -4, 1 << 40, True])
def test_a_revision_is_a_small_number_of_digits(value: object) -> None:
    with pytest.raises(NoTask, match="Revision"):
        task_of(ANSWER | {"Revision": value})


def test_a_revision_may_come_as_a_number() -> None:
    assert task_of(ANSWER | {"Revision": 26}).revision == 26


@pytest.mark.parametrize(
    "drift", [None, [], "0.4", {}, *({"ClockErrorBound": b} for b in (None, "1", True, -1, math.nan, math.inf, 10**400))]
)
def test_an_unreadable_clock_error_is_an_unknown_one(drift: object) -> None:
    assert task_of(ANSWER | {"ClockDrift": drift}).clock_error_s is None


def test_what_is_told_beside_the_name_may_be_missing() -> None:
    assert task_of({"TaskARN": ARN, "Family": "f", "Revision": "1"}) == EcsTask(arn=ARN, family="f", revision=1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
SPOILT = st.dictionaries(st.sampled_from(sorted(ANSWER)), JSON, max_size=4).map(lambda some: ANSWER | some)


@given(JSON | SPOILT | st.dictionaries(st.sampled_from(sorted(ANSWER)), JSON))
def test_any_json_is_a_task_of_sound_fields_or_none(document: object) -> None:
    try:
        task = task_of(document)
    except NoTask:
        return
    assert task.arn
    assert task.family
    assert task.revision > 0
    texts = (task.arn, task.family, task.zone, task.cluster, task.service, task.desired_status)
    assert all(text.isprintable() and len(text) <= 2_048 for text in texts)
    assert task.clock_error_s is None or 0 <= task.clock_error_s < math.inf
