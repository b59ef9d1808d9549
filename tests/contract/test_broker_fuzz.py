"""Whatever a broker says, an adapter answers in the port's own types or raises one of its own errors; nothing else comes out."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import scaled
from tests.contract.serving import serving
from worker.adapters.brokers import open_broker
from worker.fake_gateway.server import GATEWAYS
from worker.instances.broker import (
    AlreadyExists,
    Broker,
    BrokerConfig,
    BrokerFailure,
    BrokerInstance,
    InstanceStatus,
    NoSuchInstance,
    NotConnected,
    QrCode,
)

pytestmark = pytest.mark.anyio

NAME = "acme-1"
WORDS = st.sampled_from(
    ("open", "WORKING", "SCAN_QR_CODE", "STOPPED", "connecting", NAME, "ok", "already exists", "No session", "session not found", "5@c.us")
)
FIELDS = """name status me id error message code data instance instanceName state ownerJid connectionStatus connectionState user qrcode
 QRCode base64 value connected loggedIn jid token response exception URL profilePicUrl profilePictureUrl profilePictureURL timestamps"""
NAMES = st.sampled_from(FIELDS.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=15,
)
STATUSES = st.sampled_from([200, 200, 200, 201, 202, 204, 400, 403, 404, 409, 422, 429, 500, 503])
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=9)
ANSWERS = st.lists(st.tuples(STATUSES, BODIES), min_size=1, max_size=4)


def is_instance(found: object) -> bool:
    return (
        isinstance(found, BrokerInstance)
        and isinstance(found.name, str)
        and isinstance(found.status, InstanceStatus)
        and all(isinstance(text, str | None) for text in (found.phone_number, found.profile_name, found.last_activity))
        and (found.phone_number is None or found.phone_number.isdigit())
    )


OPERATIONS: tuple[tuple[Callable[[Broker], Awaitable[object]], Callable[[Any], bool]], ...] = (
    (lambda broker: broker.health(), lambda found: found is None),
    (lambda broker: broker.instances(), lambda found: isinstance(found, list) and all(map(is_instance, found))),
    (lambda broker: broker.create(NAME, None), is_instance),
    (lambda broker: broker.status(NAME), is_instance),
    (lambda broker: broker.qr(NAME), lambda found: found is None or (isinstance(found, QrCode) and bool(found.text or found.png))),
    (lambda broker: broker.disconnect(NAME), lambda found: found is None),
    (lambda broker: broker.delete(NAME), lambda found: found is None),
    (lambda broker: broker.picture(NAME, "5511900000001@s.whatsapp.net"), lambda found: found is None or isinstance(found, str)),
)


@pytest.mark.parametrize("gateway", GATEWAYS)
@settings(max_examples=scaled(40, 1_000), suppress_health_check=[HealthCheck.too_slow])
@given(answers=ANSWERS)
async def test_whatever_it_says(gateway: str, answers: list[tuple[int, bytes]]) -> None:
    turn = 0

    async def say(_request: web.Request) -> web.Response:
        nonlocal turn
        status, body = answers[turn % len(answers)]
        turn += 1
        return web.Response(status=status, body=b"" if status == 204 else body, content_type="application/json")

    async with serving(say) as url:
        broker = open_broker(BrokerConfig(id="main", gateway=gateway, url=url, api_key="k"))
        with anyio.fail_after(30):
            for ask, is_right in OPERATIONS:
                turn = 0
                try:
                    assert is_right(await ask(broker))
                except (BrokerFailure, NoSuchInstance, NotConnected, AlreadyExists):
                    continue  # its own words for what it was told
        await broker.close()
