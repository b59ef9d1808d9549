"""What is wrong with the settings, in lines for people: `setting: value: what is allowed`. Never a secret. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from worker.settings.model import Settings
from worker.settings.sections import Allowed

PREFIX = "WORKER_"
HIDDEN = frozenset(
    {"secrets", "ingest_secrets", "ingest_verify_token", "headers", "api_key", "api_keys_sha256", "admin_key", "metrics_key"}
)
SHOWN_CHARS = 60

_OF_A_LIST = frozenset({"tuple_type", "too_short", "too_long"})
_PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "tuple_type": "a list",
        "too_short": "{min_length} or more",
        "too_long": "at most {max_length}",
        "dict_type": "a table",
        "model_type": "a table",
        "model_attributes_type": "a table",
        "string_type": "text in quotes",
        "string_too_short": "{min_length} or more characters",
        "string_too_long": "at most {max_length} characters",
    }
)
"""By pydantic's name of the fault, where the setting's own words do not say it."""

_SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP)|$)")

Loc = tuple[int | str, ...]


class _Place(NamedTuple):
    """Where a fault lies: the class that holds the setting, and the setting itself where it is known."""

    owner: type[BaseModel]
    field: FieldInfo | None


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """`WORKER_…` variables that mean nothing here; pydantic-settings alone would ignore them."""
    known = known_variables()
    faults = []
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name.upper() in known:
            continue
        near = get_close_matches(name.upper().removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known], n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "allowed: the settings in config/default.toml"
        if _SERVICE_LINK.search(name):
            hint += " (a Kubernetes service named worker sets such variables: enableServiceLinks: false)"
        faults.append(f"{name}: unknown setting: {hint}")
    return faults


def known_variables() -> frozenset[str]:
    names = {"WORKER_CONFIG"}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            names.update(f"{PREFIX}{name}__{setting}".upper() for setting in section.model_fields)
        else:
            names.add(PREFIX + name.upper())
    return frozenset(names)


def fault_lines(error: ValidationError, document: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """One line per fault of a validation; what an unknown variable caused is left to `unknown_variables`."""
    upper = {name.upper() for name in environment}
    lines = []
    details = error.errors(include_url=False, include_context=True)
    for detail in details:
        loc = detail["loc"]
        if detail["type"] == "too_short" and any(other["loc"][: len(loc)] == loc != other["loc"] for other in details):
            continue  # too short only because the entries it has are wrong, which is told already
        variable = PREFIX + "__".join(str(part) for part in loc[:2] if isinstance(part, str)).upper()
        from_environment = variable in upper
        if detail["type"] == "extra_forbidden" and from_environment:
            continue
        lines.append(f"{variable if from_environment else _dotted(loc, document)}: {_shown(detail)}: {_allowed(detail)}")
    return lines


def _dotted(loc: Loc, document: Mapping[str, Any]) -> str:
    """`delivery.deadline_s`; a declared object by its id: `webhooks[crm].url`."""
    text = ""
    node: Any = document
    for part in loc:
        node = _step(node, part)
        if isinstance(part, int):
            text += f"[{node['id'] if isinstance(node, dict) and isinstance(node.get('id'), str) else part}]"
        else:
            text += f".{part}" if text else part
    return text


def _step(node: object, part: int | str) -> object:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _shown(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "missing"
    if detail["type"] == "extra_forbidden":
        return "unknown setting"
    if HIDDEN.intersection(detail["loc"]):
        return "(not shown)"
    value = detail["input"]
    if detail["loc"][-1] == "url":
        return _shown_url(value)
    if isinstance(value, dict | list | tuple):
        return f"{len(value)} entries"
    text = str(value)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _shown_url(value: object) -> str:
    """`scheme://host:port`: user, path and query may be secrets. Where an @ stands behind the host, what looks like it may be one too."""
    try:
        parts = urlsplit(str(value))
    except ValueError:
        return "(not shown)"
    if not parts.netloc or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "(not shown)"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:SHOWN_CHARS]


def _allowed(detail: ErrorDetails) -> str:
    place = _place(detail["loc"])
    if detail["type"] == "extra_forbidden":
        names = list(place.owner.model_fields)
        near = get_close_matches(str(detail["loc"][-1]), names, n=1)
        return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(names)}"
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    words = _words(place.field) if place.field is not None else None
    phrase = _PHRASES.get(detail["type"], "").format(**detail.get("ctx", {})) or None
    told = [phrase, words] if detail["type"] in _OF_A_LIST else [words or phrase]
    return "allowed: " + (", each ".join(part for part in told if part) or detail["msg"][0].lower() + detail["msg"][1:])


def range_text(field: FieldInfo) -> str | None:
    """`1 to 30` for a bounded number, None for anything else."""
    return _range(field.metadata)


def _range(metadata: Sequence[Any]) -> str | None:
    low = next((m.ge for m in metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in metadata if hasattr(m, "le")), None)
    return None if low is None or high is None else f"{low} to {high}"


def _words(field: FieldInfo) -> str | None:
    """What the setting, or each entry of the list that it is, may hold."""
    if field.annotation is bool:
        return "true, false"
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    metadata = [*field.metadata, *_of_entries(field.annotation)]
    said = next((m.words for m in metadata if isinstance(m, Allowed)), None)
    return said or _range(metadata)


def _of_entries(kind: object) -> list[Any]:
    """The metadata of a list's entries; bounds stand in a `FieldInfo` of their own."""
    metadata = [m for entry in get_args(kind) for m in getattr(entry, "__metadata__", ())]
    return [inner for m in metadata for inner in (m.metadata if isinstance(m, FieldInfo) else [m])]


def _place(loc: Loc) -> _Place:
    owner: type[BaseModel] = Settings
    field: FieldInfo | None = None
    for part in loc:
        if isinstance(part, int):
            continue
        if field is not None:
            owner = _section(field) or owner
        field = owner.model_fields.get(part)
    return _Place(owner, field)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a nested section, or of the objects in a list."""
    kind = field.annotation
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None
