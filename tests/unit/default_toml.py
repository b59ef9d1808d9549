"""Renders `config/default.toml` from the settings themselves: `python -m tests.unit.default_toml > config/default.toml`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from worker.settings import Settings
from worker.settings.faults import range_text

HEAD = """\
# Every setting with its default. Copy what you change into a file of your own and name it by WORKER_CONFIG.
# An environment variable comes first: WORKER_DELIVERY__DEADLINE_S=5 is deadline_s of [delivery]; lists are JSON there.
# Unknown keys and unknown WORKER_ variables are errors. `whatsapp-worker check` says what is wrong with a file.
"""

DECLARED = """\

# What is declared here is read-only elsewhere. One table each:
#
# [[tenants]]
# id = "acme"
# api_keys_sha256 = []                    # hex SHA-256 of each API key
#
# [[brokers]]                             # a gateway's REST side; not needed for events that a gateway pushes
# id = "main"
# gateway = "waha"                        # baileys, evolution, waha, wuzapi
# url = "http://waha:3000"
# api_key = "..."
# tenant_ids = []                         # none = every tenant
# timeout_s = 15                          # 1 to 120
# sockets = true                          # read its events from its stream too, where it has one (baileys, waha); false = push only
#
# [[instances]]                           # a WhatsApp number at a gateway
# id = "acme-sales"                       # ours: in ingest paths, envelopes, shards
# tenant_id = "acme"
# gateway = "waha"                        # baileys, cloud-api, evolution, generic, gowa, waha, wuzapi, zapi
# gateway_instance = "default"            # the name the gateway uses; unset: the id
# broker = "main"                         # optional
# ingest_secrets = ["..."]                # optional; any one matches; with one, unsigned pushes get 401
# ingest_verify_token = "..."             # Meta's GET challenge
#
# [[webhooks]]                            # where a tenant wants its events
# id = "crm"
# tenant_id = "acme"
# instance_ids = ["acme-sales"]           # none = all of the tenant
# url = "https://crm.example.com/hooks/whatsapp"
# events = ["message", "receipt/*"]       # none = all; type or type/subtype, * allowed
# format = "normalized"                   # or "raw": the gateway's own bytes
# ordering = "none"                       # or "chat": the events of one chat strictly in order; a failing one holds back only its chat
# deadline_s = 10                         # 1 to 30; unset: delivery.deadline_s
# max_in_flight = 8                       # unset: delivery.max_in_flight_per_webhook
# secrets = ["whsec_..."]                 # whsec_ and the base64 of 24 to 64 random bytes; the first signs first; all sign
# headers = { authorization = "Bearer ..." }
# enrich_contact = false                  # true: a normalized body tells the contact's name and picture, as far as known within 250 ms
"""


def main() -> None:
    sys.stdout.write(render())


def render() -> str:
    settings = Settings.model_construct()
    lines = [HEAD]
    sections: list[tuple[str, BaseModel]] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            sections.append((name, value))
        elif field.description is not None:
            lines += _setting(name, field, value)
    for name, section in sections:
        lines += ["", f"[{name}]"]
        for key, field in type(section).model_fields.items():
            lines += _setting(key, field, getattr(section, key))
    return "\n".join(lines) + "\n" + DECLARED


def _setting(name: str, field: FieldInfo, value: object) -> Iterator[str]:
    bounds = range_text(field)
    yield f"# {field.description}{f' ({bounds})' if bounds else ''}"
    yield f"# {name} =" if value is None else f"{name} = {_toml(value)}"


def _toml(value: object) -> str:
    if isinstance(value, BaseModel):
        return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.model_dump().items()) + " }"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:_}" if value >= 10_000 else str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    main()
