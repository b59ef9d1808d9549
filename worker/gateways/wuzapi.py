"""wuzapi and its forks: one event of the whatsmeow library per body, as a form, as JSON, or beside a file. Pure.

Source: wuzapi's code of 2025-05 and 2026 and its API.md, bodies captured from it and from a fork (ZuckZapGo). By default the JSON is
the field `jsonData` of a form; `token`, the user's key to the gateway's API, stands beside it or in it and is overwritten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from worker.domain.errors import MalformedEvent
from worker.gateways.forms import MULTIPART, Form, form_of
from worker.gateways.port import JSON, Decoded, Push
from worker.gateways.reading import id_at, json_body, json_value, mapping_at, moment_at, text_at
from worker.gateways.signatures import matches_any
from worker.gateways.whatsmeow import Told, fields_of, known_kind

ACCEPTED_STATUS = 202
PUBLISHED_SECRETS = frozenset({"your_global_hmac_key_here_minimum_32_chars"})

_ALGORITHM = "sha256"
_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class _Body(NamedTuple):
    """A body, opened: the gateway's envelope, where the event stands in it, and the bytes to keep."""

    whole: Mapping[str, Any]
    posted: Mapping[str, Any]
    text: bytes
    raw: bytes
    content_type: str


def verify(push: Push, secrets: Sequence[str]) -> bool:
    """`x-hmac-signature`: hex HMAC-SHA256 of the raw body, form or JSON; beside a file, of the form's fields as Go writes them as JSON."""
    signed = push.body
    content_type = push.headers.get("content-type", "")
    if content_type.strip().lower().startswith(MULTIPART):
        try:
            signed = _as_go_writes(form_of(push.body, content_type).values())
        except MalformedEvent:
            return False
    return matches_any(push.headers.get("x-hmac-signature"), signed, secrets, _ALGORITHM)


def decode(push: Push) -> list[Decoded]:
    """Exactly one. Raises `MalformedEvent` where the body is neither form nor JSON, or names no event."""
    content_type = push.headers.get("content-type", "")
    is_json = push.body.lstrip()[:1] in (b"{", b"[") or "json" in content_type.lower()
    body = _json_body(push.body) if is_json else _form_body(form_of(push.body, content_type).redacted())
    name = text_at(body.posted, "type") or text_at(body.whole, "eventType")
    if name is None:
        raise MalformedEvent("type", "must be a text that is not empty")
    told = Told(
        kind=known_kind(name) or name,
        event=body.posted.get("event"),
        text=body.text,
        state=text_at(body.posted, "state"),
        moment=moment_at(body.whole, "timestamp"),
    )
    fields = fields_of(told)
    named = id_at(body.whole, "instanceName") or id_at(body.whole, "userID")
    return [Decoded(gateway_instance=named, raw=body.raw, raw_content_type=body.content_type, **_with_file(fields, body.posted))]


def _json_body(written: bytes) -> _Body:
    raw, whole = json_body(written)
    if not isinstance(whole, dict):
        raise MalformedEvent("body", "must be an object")
    # The forks put wuzapi's whole object under `data`.
    inner = mapping_at(whole, "data")
    return _Body(whole, inner if "event" in inner or "type" in inner else whole, raw, raw, JSON)


def _form_body(form: Form) -> _Body:
    text = form.value("jsonData")
    if text is None:
        raise MalformedEvent("jsonData", "missing in the form")
    posted = json_value(text, "jsonData")
    if not isinstance(posted, dict):
        raise MalformedEvent("jsonData", "must be an object")
    beside = {name: value.decode(errors="replace") for name in ("instanceName", "userID") if (value := form.value(name)) is not None}
    return _Body({**posted, **beside}, posted, text, form.body, form.content_type)


def _with_file(fields: dict[str, Any], posted: Mapping[str, Any]) -> dict[str, Any]:
    """The media where the gateway has put it: inlined as `base64`, or stored (`s3`)."""
    media = fields.get("media")
    if media is None:
        return fields
    url = text_at(mapping_at(posted, "s3"), "url") or media.url
    return fields | {"media": replace(media, url=url, inline=media.inline or text_at(posted, "base64") is not None)}


def _as_go_writes(values: Mapping[str, bytes]) -> bytes:
    """Texts as Go's encoder writes them: keys in order, and the characters escaped that mean something in HTML."""
    written = orjson.dumps({name: value.decode(errors="replace") for name, value in values.items()}, option=orjson.OPT_SORT_KEYS)
    return written.decode().translate(_GO_ESCAPES).encode()
