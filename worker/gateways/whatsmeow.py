"""Events of the whatsmeow library as its gateways pass them on: wuzapi, its forks, evolution-go. Pure.

Source: whatsmeow's `types/events`, and captured webhooks. Field names are the library's own (`Info`, `MessageIDs`, `SenderAlt`). An
event's own times are whole seconds: too coarse to tell what may happen twice within one, so presence, connection, QR
codes, and messages that came without an id, have no identity at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from worker.domain.event import Connection, EventType
from worker.gateways.identity import (
    NO_IDENTITY,
    Identity,
    by_message,
    by_time,
    canonical_id,
    digest,
    from_sender,
    in_chat,
    phone_first,
)
from worker.gateways.reading import (
    NOTHING,
    first_text,
    flag_at,
    id_at,
    instant,
    instant_at,
    list_at,
    mapping_at,
    moment_at,
    subtype_of,
    text_at,
)
from worker.gateways.whatsapp_message import content_of

_RECEIPTS = {
    "": "delivered",
    "delivered": "delivered",
    "read": "read",
    "read-self": "read",
    "readself": "read",
    "played": "played",
    "played-self": "played",
    "server-error": "failed",
}
"""Status by the library's type, or by the gateway's `state` where the type is not told."""
_STATES = {
    "Connected": "open",
    "KeepAliveRestored": "open",
    "Connecting": "connecting",
    "KeepAliveTimeout": "connecting",
    "Disconnected": "closed",
    "StreamError": "closed",
    "LoggedOut": "logged_out",
    "StreamReplaced": "replaced",
    "CATRefreshError": "failed",
    "ClientOutdated": "failed",
    "ConnectFailure": "failed",
    "TemporaryBan": "failed",
}
_LOGGED_OUT = "401"
_NOTICES = {
    EventType.QR: ("QR", "QRCode", "QRTimeout", "QRScannedWithoutMultidevice", "PairSuccess", "PairError", "PairStatus"),
    EventType.CONTACT: (
        *("Blocklist", "BlocklistChange", "BusinessName", "Contact", "IdentityChange", "Picture", "PushName", "UserAbout"),
        "UserStatusMute",
    ),
    EventType.HISTORY: ("HistorySync", "OfflineSyncCompleted", "OfflineSyncPreview"),
    EventType.SYSTEM: (
        *("AppState", "AppStateSyncComplete", "AppStateSyncError", "Archive", "ClearChat", "DeleteChat", "DeleteForMe", "MarkChatAsRead"),
        *("LabelAssociationChat", "LabelAssociationMessage", "LabelEdit", "MediaRetry", "Mute", "Pin", "Star"),
        *("NewsletterJoin", "NewsletterLeave", "NewsletterLiveUpdate", "NewsletterMessageMeta", "NewsletterMuteChange"),
        *("PrivacySettings", "PushNameSetting", "UnarchiveChatsSetting"),
    ),
}
_PARTICIPANTS = ("Join", "Leave", "Promote", "Demote")
_WITHOUT_IDENTITY = frozenset({EventType.MESSAGE, EventType.PRESENCE, EventType.CONNECTION, EventType.QR})
_RETOLD = frozenset({"Info", "RetryCount"})
"""Of a message: what is hashed already, in canonical form, and what changes while it is still the same message."""
_DEVICE = re.compile(r":([0-9]{1,5})@")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Told(NamedTuple):
    """An event as a gateway tells it.

    `state` is the gateway's own reading of it, `moment` the envelope's time where there is one, `text` the bytes that hold the event.
    """

    kind: str
    event: Any
    text: bytes
    state: str | None = None
    moment: str | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        return self.event if isinstance(self.event, dict) else NOTHING


def known_kind(name: str) -> str | None:
    """The library's name of the event, however it is written (`ChatPresence`, `CHAT_PRESENCE`); None: nobody knows it."""
    return _KNOWN.get(name.replace("_", "").lower())


def fields_of(told: Told) -> dict[str, Any]:
    """The fields of the event, `identity` among them. `told.kind` as `known_kind` gives it, or any other name."""
    read = _READERS.get(told.kind)
    if read is None:
        fields: dict[str, Any] = {"type": EventType.UNKNOWN, "subtype": subtype_of(told.kind)}
    elif told.kind in _NEEDS_AN_OBJECT and not told.fields:
        fields = {"type": EventType.UNKNOWN, "subtype": "undecodable"}
    else:
        fields = read(told)
    fields.setdefault("occurred_at", instant_at(told.fields, "Timestamp") or instant(told.moment))
    fields.setdefault("identity", _by_time(told, fields["type"]))
    return fields


# ─── messages and receipts ───


def _message(told: Told) -> dict[str, Any]:
    info = mapping_at(told.fields, "Info")
    content = content_of(mapping_at(told.fields, "Message"))
    is_edit = flag_at(told.fields, "IsEdit") is True
    who = _who(info)
    message_id = id_at(info, "ID")
    fields = {
        "type": EventType.MESSAGE,
        **who,
        "message_ids": (message_id,) if message_id else (),
        "subtype": "edited" if is_edit and content.subtype is None else content.subtype,
        "text": content.text,
        "media": content.media,
        "ref_message_id": content.ref_message_id or id_at(mapping_at(info, "MsgMetaInfo"), "TargetID"),
        "push_name": None if who["from_me"] else text_at(info, "PushName"),
        "occurred_at": instant_at(info, "Timestamp"),
    }
    if message_id:
        fields["identity"] = by_message(digest({k: v for k, v in told.fields.items() if k not in _RETOLD}, told.text))
    return fields


def _undecryptable(told: Told) -> dict[str, Any]:
    """Could not be decrypted yet; the message itself may follow with the same id."""
    return {**_message(told), "subtype": "waiting"}


def _sent(told: Told) -> dict[str, Any]:
    """What was sent through the gateway's own API; WhatsApp's echo of it is another event."""
    fields = _message(told)
    return {**fields, "subtype": fields["subtype"] or "sent", "from_me": True}


def _receipt(told: Told) -> dict[str, Any]:
    """`from_me` is of the message, as everywhere: what another device of ours has read is theirs."""
    word = told.fields.get("Type")
    word = word if isinstance(word, str) else (told.state or "")
    is_by_me = flag_at(told.fields, "IsFromMe") is True or word.lower().endswith("self")
    status = _RECEIPTS.get(word.lower(), subtype_of(word))
    listed = list_at(told.fields, "MessageIDs")
    fields = {
        "type": EventType.RECEIPT,
        "subtype": subtype_of(f"{status}_by_me") if is_by_me else status,
        "status": status,
        **_who(told.fields),
        "from_me": not is_by_me,
        "message_ids": tuple(message_id for item in listed if (message_id := id_at({"ID": item}, "ID"))),
    }
    return fields | ({"identity": by_message(*_receipt_facts(told, listed))} if fields["message_ids"] else {})


def _receipt_facts(told: Told, listed: list[Any]) -> list[str]:
    """Each device's receipt is its own. An id is unique only for its author, so where one is named it belongs to the ids."""
    device = _DEVICE.search(id_at(told.fields, "Sender") or "")
    author = id_at(told.fields, "MessageSender")
    facts = [device[1] if device else "0", canonical_id(author) if author else ""]
    # What else stands among the ids is none, and still a difference.
    if not all(id_at({"ID": item}, "ID") for item in listed):
        facts.append(digest(listed, told.text))
    return facts


def _who(source: Mapping[str, Any]) -> dict[str, Any]:
    """The library's `MessageSource`. In a private chat `SenderAlt` or `RecipientAlt` is the chat's other name too."""
    from_me = flag_at(source, "IsFromMe") is True
    chat, sender, sender_alt = id_at(source, "Chat"), id_at(source, "Sender"), id_at(source, "SenderAlt")
    is_private = chat is not None and sender is not None and canonical_id(chat) == canonical_id(sender)
    chat_alt = id_at(source, "RecipientAlt") if from_me else sender_alt if is_private else None
    return {**in_chat(phone_first(chat, chat_alt)), **from_sender(phone_first(sender, sender_alt)), "from_me": from_me}


# ─── presence, the instance itself ───


def _chat_presence(told: Told) -> dict[str, Any]:
    word = first_text(told.fields.get("State"), told.state)
    is_recording = word == "composing" and told.fields.get("Media") == "audio"
    return {"type": EventType.PRESENCE, "subtype": "recording" if is_recording else word and subtype_of(word), **_who(told.fields)}


def _presence(told: Told) -> dict[str, Any]:
    person = phone_first(id_at(told.fields, "From"))
    word = told.state or ("offline" if flag_at(told.fields, "Unavailable") else "online")
    return {"type": EventType.PRESENCE, "subtype": subtype_of(word), **in_chat(person), **from_sender(person)}


def _connection(told: Told) -> dict[str, Any]:
    state = _STATES[told.kind]
    reason = id_at(told.fields, "Reason") or id_at(told.fields, "reason")
    if told.kind == "ConnectFailure" and reason is not None and reason.startswith(_LOGGED_OUT):
        state = "logged_out"
    code = told.kind if reason is None else subtype_of(reason)
    words = first_text(told.fields.get("Message"), told.fields.get("PermanentDisconnectDescription"))
    return {"type": EventType.CONNECTION, "subtype": state, "connection": Connection(state=state, reason_code=code, reason=words)}


def _qr(told: Told) -> dict[str, Any]:
    subtype = "scan_qr_code" if told.kind in {"QR", "QRCode"} else _words(told.kind.removeprefix("QR"))
    return {"type": EventType.QR, "subtype": subtype, "connection": Connection(state="qr", reason_code=told.kind)}


# ─── people, groups, calls ───


def _call(told: Told) -> dict[str, Any]:
    group = id_at(told.fields, "GroupJID")
    caller = phone_first(id_at(told.fields, "CallCreator") or id_at(told.fields, "From"), id_at(told.fields, "CallCreatorAlt"))
    chat = phone_first(group) if group else caller
    return {"type": EventType.CALL, "subtype": _words(told.kind.removeprefix("Call")), **in_chat(chat), **from_sender(caller)}


def _group(told: Told) -> dict[str, Any]:
    subtype = "participants" if any(list_at(told.fields, name) for name in _PARTICIPANTS) else "update"
    return {
        "type": EventType.GROUP,
        "subtype": "joined" if told.kind == "JoinedGroup" else subtype,
        **in_chat(phone_first(id_at(told.fields, "JID"))),
        "is_group": True,
        **from_sender(phone_first(id_at(told.fields, "Sender"), id_at(told.fields, "SenderPN"))),
    }


def _notice(kind_type: EventType) -> Callable[[Told], dict[str, Any]]:
    def read(told: Told) -> dict[str, Any]:
        jid = id_at(told.fields, "JID") or id_at(told.fields, "ChatJID") or id_at(told.fields, "id")
        return {
            "type": kind_type,
            "subtype": _words(told.kind),
            **in_chat(phone_first(jid, id_at(told.fields, "JIDAlt"))),
            "push_name": text_at(told.fields, "NewPushName"),
            "replay": kind_type is EventType.HISTORY,
        }

    return read


def _words(camel: str) -> str:
    """`OfflineSyncCompleted` → `offline_sync_completed`."""
    return _CAMEL.sub("_", camel).lower()


def _by_time(told: Told, kind_type: EventType) -> Identity:
    """By the event's own time, else the envelope's. The year 1, which the library writes for "not known", is none."""
    if kind_type in _WITHOUT_IDENTITY:
        return NO_IDENTITY
    own = moment_at(told.fields, "Timestamp") if instant_at(told.fields, "Timestamp") else None
    moment = own or told.moment
    return NO_IDENTITY if moment is None else by_time(moment, [told.kind, told.state, told.event], told.text)


_READERS: dict[str, Callable[[Told], dict[str, Any]]] = {
    "Message": _message,
    "FBMessage": _message,
    "SendMessage": _sent,
    "UndecryptableMessage": _undecryptable,
    "Receipt": _receipt,
    "ReadReceipt": _receipt,
    "ChatPresence": _chat_presence,
    "Presence": _presence,
    "GroupInfo": _group,
    "JoinedGroup": _group,
}
_NEEDS_AN_OBJECT = frozenset(_READERS)
_READERS |= dict.fromkeys(_STATES, _connection)
_CALLS = ("Accept", "Offer", "OfferNotice", "PreAccept", "Reject", "RelayLatency", "Terminate", "Transport")
_READERS |= {f"Call{name}": _call for name in _CALLS}
_READERS |= {kind: _qr if kind_type is EventType.QR else _notice(kind_type) for kind_type, kinds in _NOTICES.items() for kind in kinds}
_KNOWN = {kind.lower(): kind for kind in _READERS}
