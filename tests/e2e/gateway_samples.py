"""Bodies as gateways push them, and how each gateway signs: what the end-to-end tests send to the real door.

The repo's own fixtures; with `GATEWAY_SAMPLES` in the environment also those of a directory that holds a folder per gateway. A
document that is `{headers, body}` there stands for its body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import orjson

from tests.unit.gateway_bodies import FIXTURES
from worker.gateways import GATEWAYS

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
BOUNDARY = "sample-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
TOKEN = "INVENTED-FORM-TOKEN"
GENERIC = {"type": "message", "message_ids": ["A"], "chat_id": "5511900000001@s.whatsapp.net", "text": "Good morning"}

_ELSEWHERE = os.environ.get("GATEWAY_SAMPLES")
_GATEWAY_OF = {
    "evolution-api": "evolution",
    "meta-cloud-api": "cloud-api",
    "z-api": "zapi",
    "baileys-acessuswpp": "baileys",
    "zuckzapgo": "wuzapi",
}
"""Folders that bear another name than the gateway they belong to."""
_BAILEYS_PAYLOAD = "webhook-payload."
"""How documents begin that are only the payload of baileys' envelope."""
_GO_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})

_SECRET = re.compile(rb"""((?:"|%22)[a-z_]*(?:token|apikey)(?:"|%22)[\s+]*(?::|%3A)[\s+]*(?:"|%22))([^"%]+)""", re.IGNORECASE)


class Sample(NamedTuple):
    """A body, and the content type it is sent with."""

    name: str
    gateway: str
    body: bytes
    content_type: str = JSON


def samples() -> list[Sample]:
    """In order of their names; those of wuzapi also as the forms it sends by default."""
    found = [*_in(FIXTURES), *(_in(Path(_ELSEWHERE)) if _ELSEWHERE else ())]
    found += [Sample("generic/one", "generic", orjson.dumps(GENERIC))]
    found += [Sample("generic/two", "generic", orjson.dumps([GENERIC, {**GENERIC, "message_ids": ["B"]}]))]
    forms = [as_form(sample) for sample in found if sample.gateway == "wuzapi"]
    parts = [as_parts(sample) for sample in found if sample.name.endswith("wuzapi/message.media")]
    return sorted([*found, *forms, *parts])


def as_form(sample: Sample) -> Sample:
    fields = {"jsonData": sample.body.decode(), "token": TOKEN, "instanceName": "sales"}
    return sample._replace(name=f"{sample.name} (form)", body=urlencode(fields).encode(), content_type=FORM)


def as_parts(sample: Sample) -> Sample:
    """As wuzapi posts it beside the file that it tells of."""
    written = [_part("jsonData", sample.body), _part("token", TOKEN.encode()), _part('file"; filename="a.jpg', b"a picture\0\r\n--no")]
    body = b"".join(written) + f"--{BOUNDARY}--\r\n".encode()
    return sample._replace(name=f"{sample.name} (multipart)", body=body, content_type=MULTIPART)


def headers_of(sample: Sample, secret: str) -> dict[str, str]:
    """The content type and the gateway's own proof that it holds `secret`, by its documentation."""
    return {"content-type": sample.content_type, **_PROOFS[sample.gateway](sample, secret.encode())}


def starred(body: bytes) -> bytes:
    """`body` (JSON, or a form made here) with the values of what it calls a token or a key overwritten with as many `*`."""
    return _SECRET.sub(lambda found: found[1] + b"*" * len(found[2]), body).replace(TOKEN.encode(), b"*" * len(TOKEN))


def _in(directory: Path) -> Iterator[Sample]:
    for path in directory.glob("*/*.json"):
        gateway = _GATEWAY_OF.get(path.parent.name, path.parent.name)
        assert gateway in GATEWAYS, f"{path.parent.name} is no gateway"
        body, document = path.read_bytes(), orjson.loads(path.read_bytes())
        if isinstance(document, dict) and document.keys() == {"headers", "body"}:
            body = orjson.dumps(document["body"])
        elif path.name.startswith(_BAILEYS_PAYLOAD):
            body = orjson.dumps({"event": "MESSAGE_INBOUND", "instanceId": "sales", "timestamp": 1763797538, "payload": document})
        yield Sample(f"{directory.name}/{path.parent.name}/{path.stem}".removeprefix("fixtures/"), gateway, body)


def _part(name: str, value: bytes) -> bytes:
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"


def _json_field(sample: Sample) -> bytes:
    """Of a form made here, `jsonData`."""
    if sample.content_type == FORM:
        return parse_qs(sample.body.decode())["jsonData"][0].encode()
    return sample.body.split(b"\r\n\r\n", 1)[1].split(f"\r\n--{BOUNDARY}".encode(), 1)[0]


def _hex(sample: Sample, secret: bytes, algorithm: Callable[..., Any] = hashlib.sha256) -> str:
    return hmac.new(secret, sample.body, algorithm).hexdigest()


def _wuzapi(sample: Sample, secret: bytes) -> dict[str, str]:
    """Beside a file it signs the form's fields, as Go writes them as JSON."""
    if sample.content_type == MULTIPART:
        fields = {"jsonData": _json_field(sample).decode(), "token": TOKEN}
        written = json.dumps(fields, sort_keys=True, ensure_ascii=False, separators=(",", ":")).translate(_GO_ESCAPES)
        sample = sample._replace(body=written.encode())
    return {"x-hmac-signature": _hex(sample, secret)}


def _json_web_token(_: Sample, secret: bytes) -> dict[str, str]:
    def part(value: bytes) -> bytes:
        return urlsafe_b64encode(value).rstrip(b"=")

    now_s = int(time.time())
    told = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(orjson.dumps({"iat": now_s, "exp": now_s + 600, "app": "evolution"}))
    token = told + b"." + part(hmac.digest(secret, told, "sha256"))
    return {"authorization": f"Bearer {token.decode()}"}


_PROOFS: Mapping[str, Callable[[Sample, bytes], dict[str, str]]] = {
    "baileys": lambda sample, secret: {"x-signature": _hex(sample, secret)},
    "cloud-api": lambda sample, secret: {"x-hub-signature-256": "sha256=" + _hex(sample, secret)},
    "evolution": _json_web_token,
    "generic": lambda sample, secret: {"x-signature": "sha256=" + _hex(sample, secret)},
    "gowa": lambda sample, secret: {"x-hub-signature-256": "sha256=" + _hex(sample, secret)},
    "waha": lambda sample, secret: {
        "x-webhook-hmac-algorithm": "sha512",
        "x-webhook-hmac": _hex(sample, secret, hashlib.sha512),
    },
    "wuzapi": _wuzapi,
    "zapi": lambda _, secret: {"z-api-token": secret.decode()},
}
