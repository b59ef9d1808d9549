"""Taking Meta's envelope apart into changes, and making it again around one event of several. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from worker.gateways.reading import MAX_ID_CHARS, NOTHING, id_at, mapping_at

_AROUND_THE_ITEMS = frozenset({"contacts", "metadata", "messaging_product"})
_ONE_EVENT_FIELDS = frozenset({"history", "smb_app_state_sync"})
"""Their lists are parts of one synchronisation step, kept together."""
_MAX_FRAME_BYTES = 2048
"""What is repeated around each event of a body; a larger frame is cut to its ids, so that n events never cost n bodies."""
_MAX_CONTACT_BYTES = 1024
_MAX_CONTACTS = 4


class Change:
    """One element of `changes`, with what stands around it. Anything may be of the wrong type."""

    __slots__ = ("_contacts", "_frame", "entry", "entry_written", "field", "is_one_event", "lists", "object", "value")

    def __init__(self, body: Mapping[str, Any], entry: Any, written: Any) -> None:
        self.object = id_at(body, "object")
        self.entry_written = entry
        self.entry: Mapping[str, Any] = entry if isinstance(entry, dict) else NOTHING
        change = written if isinstance(written, dict) else NOTHING
        self.field = id_at(change, "field")
        self.value = mapping_at(change, "value")
        self.lists: list[tuple[str, list[Any]]] = [
            (name, items) for name, items in self.value.items() if isinstance(items, list) and items and name not in _AROUND_THE_ITEMS
        ]
        self.is_one_event = self.field in _ONE_EVENT_FIELDS or any(len(name) > MAX_ID_CHARS for name, _ in self.lists)
        self._contacts: dict[str, list[Mapping[str, Any]]] | None = None
        self._frame: dict[str, Any] | None = None

    @property
    def phone_number_id(self) -> str | None:
        return id_at(mapping_at(self.value, "metadata"), "phone_number_id")

    def contacts_of(self, item: Any) -> list[Mapping[str, Any]]:
        """The contacts that the item speaks of, at most four."""
        if self._contacts is None:
            self._contacts = {}
            written = self.value.get("contacts")
            # A contact that is no small one is left out, or n events of it would cost n bodies.
            for contact in filter(_is_small, written if isinstance(written, list) else []):
                for name in _ids_of(contact, ("wa_id", "user_id")):
                    self._contacts.setdefault(name, []).append(contact)
        found: list[Mapping[str, Any]] = []
        for name in _ids_of(item, ("from", "to", "recipient_id", "from_user_id", "recipient_user_id")):
            found += [contact for contact in self._contacts.get(name, ())[:_MAX_CONTACTS] if not any(contact is known for known in found)]
        return found[:_MAX_CONTACTS]

    def frame(self) -> dict[str, Any]:
        """The fields of the value that are no lists, where they are small; else the instance alone."""
        if self._frame is None:
            frame = {name: value for name, value in self.value.items() if not isinstance(value, list)}
            self._frame = frame if _is_small(frame, _MAX_FRAME_BYTES) else {"metadata": {"phone_number_id": self.phone_number_id}}
        return self._frame


def around(change: Change, name: str | None, item: Any) -> bytes | None:
    """The body that Meta would have sent for this one event; None where it is nested too deeply to be written again."""
    if name is None:
        changes = [item]
    else:
        contacts = change.contacts_of(item)
        value = change.frame() | ({"contacts": contacts} if contacts else {}) | {name: [item]}
        changes = [{"value": value, "field": change.field}]
    entry = {key: change.entry[key] for key in ("id", "time") if id_at(change.entry, key) is not None}
    written = item if item is change.entry_written else entry | {"changes": changes}
    try:
        return orjson.dumps({"object": change.object, "entry": [written]})
    except TypeError:
        return None


def _ids_of(source: Any, names: tuple[str, ...]) -> list[str]:
    return [text for name in names if (text := id_at(source, name))] if isinstance(source, dict) else []


def _is_small(part: Any, max_bytes: int = _MAX_CONTACT_BYTES) -> bool:
    try:
        return len(orjson.dumps(part)) <= max_bytes
    except TypeError:
        return False
