"""What is wrong with an input, for whoever sent it: the field as they wrote it, and what is allowed. Never what was sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from worker.api.endpoints import ApiError

INVALID = "INVALID_REQUEST"
MAX_TOLD = 20
SHOWN_CHARS = 64
_WHOLE = "body"

_PHRASES: Mapping[str, str] = MappingProxyType(
    {
        "missing": "is required",
        "model_type": "an object",
        "model_attributes_type": "an object",
        "dict_type": "an object",
        "list_type": "a list",
        "tuple_type": "a list",
        "frozen_set_type": "a list",
        "set_type": "a list",
        "string_type": "a string",
        "int_type": "a whole number",
        "int_parsing": "a whole number",
        "int_from_float": "a whole number",
        "float_type": "a number",
        "float_parsing": "a number",
        "bool_type": "true or false",
        "bool_parsing": "true or false",
        "string_too_short": "at least {min_length} characters",
        "string_too_long": "at most {max_length} characters",
        "string_pattern_mismatch": "text that matches {pattern}",
        "too_short": "at least {min_length} entries",
        "too_long": "at most {max_length} entries",
        "greater_than_equal": "{ge} or more",
        "greater_than": "more than {gt}",
        "less_than_equal": "{le} or less",
        "less_than": "less than {lt}",
        "literal_error": "one of {expected}",
        "enum": "one of {expected}",
    }
)
"""By pydantic's name of the fault. What stands in braces are facts of the schema, never of the input."""


def invalid(field: str, hint: str) -> ApiError:
    """400 for one field."""
    return _refusal([{"field": field, "hint": hint}])


def invalid_by(fault: ValidationError, model: type[BaseModel], *, whole: str = _WHOLE) -> ApiError:
    """400 for what pydantic found; `whole` names the input where no field of it is to blame."""
    details = fault.errors(include_url=False, include_input=False)
    return _refusal([{"field": _field(detail, whole), "hint": _hint(detail, model)} for detail in details[:MAX_TOLD]])


def _refusal(faults: list[dict[str, str]]) -> ApiError:
    """`details` has the first fault, and all of them as a list."""
    first = faults[0]
    message = f"{first['field']}: {first['hint']}; correct it and send the request again"
    return ApiError(400, INVALID, message, details={**first, "faults": faults})


def _field(detail: ErrorDetails, whole: str) -> str:
    return ".".join(shown(str(part)) for part in detail["loc"]) or whole


def shown(name: str) -> str:
    """A name from outside, fit for a message: short, printable."""
    return "".join(char if char.isprintable() else "?" for char in name[:SHOWN_CHARS])


def _hint(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown(detail, model)
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    phrase = _PHRASES.get(kind)
    if phrase is None:
        return "not allowed here; /openapi.json says what is"
    told = phrase.format_map(detail.get("ctx", {}))
    return told if kind == "missing" else f"allowed: {told}"


def _unknown(detail: ErrorDetails, model: type[BaseModel]) -> str:
    known = [field.alias or name for name, field in model.model_fields.items()] if len(detail["loc"]) == 1 else []
    near: list[Any] = get_close_matches(str(detail["loc"][-1]), known, n=1)
    if near:
        return f"unknown; did you mean {near[0]}?"
    return f"unknown; allowed: {', '.join(known)}" if known else "unknown; leave it out"
