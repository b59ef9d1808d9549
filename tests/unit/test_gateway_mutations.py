"""Spoilt bodies in great number: each becomes events that can be kept and delivered, or is refused by name, and tells no secret."""

from __future__ import annotations

import gc
import resource
import time
import tracemalloc
from base64 import b64decode
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson
import pytest

from tests.conftest import scaled
from tests.e2e.figures import state
from tests.unit.gateway_bodies import RECEIVED_AT, changed
from tests.unit.mutations import SHAPES, Mutant, is_bared, mutants, tells
from worker.domain import record
from worker.domain.catalog import Instance
from worker.domain.errors import MalformedEvent
from worker.domain.ids import InstanceId, TenantId
from worker.gateways import GATEWAYS
from worker.gateways.identity import fresh_key
from worker.gateways.port import Decoded, Push, finish

BODIES = scaled(300, 100_000)
LARGE_MB = scaled(4, 16) / 10
MOST_TIMES = 32
"""What eight times the length may take, in times of the short one's; a square would take 64."""
ROUNDS = 20
SEED = 7
_numbers = count(1)


@dataclass(slots=True)
class Tally:
    """What became of one gateway's bodies. `raised`, `told`: what must not be, by the body's number."""

    refused: int = 0
    events: int = 0
    bared: int = 0
    """Bodies whose damage put a secret where nobody can know it for one."""
    slowest_ms: float = 0
    """Of the processor's time."""
    slowest_bytes: int = 0
    raised: list[str] = field(default_factory=list)
    told: list[int] = field(default_factory=list)


@pytest.mark.timeout(scaled(20, 3_600))
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_spoilt_body_raises_is_kept_broken_or_tells_a_secret(gateway: str) -> None:
    tally = Tally()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, mutant in enumerate(mutants(gateway, BODIES, SEED)):
        try:
            _count(tally, gateway, mutant, number)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is the finding
            tally.raised.append(f"{number}: {exc!r:.300}")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    state(
        f"spoilt bodies: {gateway}",
        bodies=BODIES,
        refused=tally.refused,
        events=tally.events,
        bared=tally.bared,
        raised=len(tally.raised),
        told=len(tally.told),
        slowest_ms=tally.slowest_ms,
        slowest_bytes=tally.slowest_bytes,
        grown_mb=grown_kb / 1024,
    )
    assert tally.raised[:3] == []
    assert tally.told[:10] == []
    assert tally.refused > BODIES / 20
    assert tally.events > BODIES / 20


def _count(tally: Tally, gateway: str, mutant: Mutant, number: int) -> None:
    push = Push(headers=mutant.headers, body=mutant.body)
    began_s = time.thread_time()
    try:
        decoded = GATEWAYS[gateway].decode(push)
    except MalformedEvent as refused:
        decoded = []
        tally.refused += 1
        kept = f"{refused} {refused.__cause__} {refused.__context__}".encode()
    took_ms = (time.thread_time() - began_s) * 1e3
    if took_ms > tally.slowest_ms:
        tally.slowest_ms, tally.slowest_bytes = took_ms, len(mutant.body)
    if decoded:
        tally.events += len(decoded)
        kept = b"".join(_kept(one, gateway) for one in decoded)
    if tells(kept):
        if is_bared(mutant):
            tally.bared += 1
        else:
            tally.told.append(number)


def _kept(decoded: Decoded, gateway: str) -> bytes:
    """The record and both bodies that a receiver may get; all of them what they must be."""
    instance = Instance(id=InstanceId("i"), tenant_id=TenantId("t"), gateway=gateway, gateway_instance="default")
    event = finish(decoded, instance, RECEIVED_AT, "webhook", lambda: fresh_key(1_763_797_538_300, next(_numbers).to_bytes(10, "big")))
    written = record.encode(event)
    opened = record.decode(written)
    raw, content_type = record.raw_body(opened)
    normalized = record.normalized_body(opened)
    told = orjson.loads(normalized)
    assert (raw, content_type) == (decoded.raw, decoded.raw_content_type)
    assert told["event_key"] == event.event_key
    if record.is_json(content_type):
        assert b',"raw":%b,"raw_content_type":' % raw in normalized
    else:
        assert b64decode(told["raw"]) == raw
    assert (decoded.subtype or "").isprintable()
    assert len(decoded.subtype or "") <= 64
    return written + normalized


def _text(megabytes: float) -> Any:
    return "QUJD" * int(megabytes * 250_000)


def _quotes(megabytes: float) -> Any:
    return '"\\' * int(megabytes * 250_000)


def _items(megabytes: float) -> Any:
    return [{"token": "abc", "a": [1]} for _ in range(int(megabytes * 40_000))]


def _keys(megabytes: float) -> Any:
    return {f"key {number}": number for number in range(int(megabytes * 60_000))}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("gateway", GATEWAYS)
def test_a_body_of_megabytes_takes_memory_and_time_by_its_length(gateway: str) -> None:
    """In memory at most so many times itself; in time, of eight times the length, far from the sixty-four-fold of a square."""
    ms, memory_times = {}, {}
    for much in (_text, _quotes, _items, _keys):
        small, large = (Push(headers={}, body=orjson.dumps(_carrying(gateway, much(size)))) for size in (LARGE_MB / 8, LARGE_MB))
        small_s, large_s = _least_cpu_s(gateway, small, large)
        memory_times[much.__name__] = round(_peak_bytes(gateway, large) / len(large.body), 1)
        ms[much.__name__] = round(large_s * 1e3, 1)
        assert large_s < MOST_TIMES * small_s, much.__name__
    state(f"large bodies: {gateway}", mb=LARGE_MB, ms=ms, memory_times=memory_times)
    assert max(memory_times.values()) < 40


def _carrying(gateway: str, value: Any) -> Any:
    shape = SHAPES[gateway][0]
    inner = next((name for name in ("payload", "data", "event", "entry") if isinstance(shape.get(name), dict)), None)
    return changed(shape, *((inner, "sample") if inner else ("sample",)), to=value)


def _least_cpu_s(gateway: str, small: Push, large: Push) -> tuple[float, float]:
    """The least that each was seen to take, looked at in turn until they are in proportion: a busy machine only ever adds.

    The collector is off meanwhile: what it walks is the whole suite's heap, in proportion to nothing here.
    """
    least = [float("inf"), float("inf")]
    gc.disable()
    try:
        for _ in range(ROUNDS):
            least = [min(seen_s, _cpu_s(gateway, push)) for seen_s, push in zip(least, (small, large), strict=True)]
            if least[1] < MOST_TIMES * least[0]:
                break
    finally:
        gc.enable()
    return least[0], least[1]


def _cpu_s(gateway: str, push: Push) -> float:
    began_s = time.process_time()
    _decoded(gateway, push)
    return time.process_time() - began_s


def _peak_bytes(gateway: str, push: Push) -> int:
    tracemalloc.start()
    _decoded(gateway, push)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _decoded(gateway: str, push: Push) -> None:
    try:
        GATEWAYS[gateway].decode(push)
    except MalformedEvent:
        assert gateway == "generic", "it takes no field that it does not know"
