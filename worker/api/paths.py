"""Which endpoint a path leads to, and with which parameters. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from worker.api.endpoints import Endpoint
from worker.domain.ids import NAME_PATTERN


@dataclass(frozen=True, slots=True)
class Match:
    """All that one path offers: its endpoints by method, and what its parameters are in this request."""

    endpoints: Mapping[str, Endpoint]
    values: Mapping[str, str]

    @property
    def allowed(self) -> list[str]:
        """For `Allow`: what GET answers HEAD does too, and everybody may ask for the OPTIONS."""
        return sorted({*self.endpoints, "OPTIONS", *(("HEAD",) if "GET" in self.endpoints else ())})

    def endpoint(self, method: str) -> Endpoint | None:
        return self.endpoints.get("GET" if method == "HEAD" else method)


class Paths:
    """The table of all paths. As in OpenAPI, a path said literally comes before one with parameters."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        by_path: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            methods = by_path.setdefault(endpoint.path, {})
            assert endpoint.method not in methods, f"{endpoint.method} {endpoint.path} is declared twice"
            methods[endpoint.method] = endpoint
        self._templates = sorted(((path.split("/"), methods) for path, methods in by_path.items()), key=lambda t: _parameters(t[0]))

    def find(self, raw_path: str) -> Match | None:
        """`raw_path` as sent, without the query: an encoded slash is part of a value, never of the path."""
        segments = raw_path.split("/")
        for template, methods in self._templates:
            if (values := _values(template, segments)) is not None:
                return Match(methods, values)
        return None


def allows(endpoint: Endpoint, values: Mapping[str, str]) -> bool:
    """Whether each value may be an id at all; what may not is no key of anything."""
    return all(re.fullmatch(endpoint.path_patterns.get(name, NAME_PATTERN), value, re.ASCII) for name, value in values.items())


def parameters(path: str) -> list[str]:
    """The names in braces, in their order."""
    return [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]


def _parameters(template: list[str]) -> int:
    return sum(segment.startswith("{") for segment in template)


def _values(template: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    values = {}
    for wanted, got in zip(template, segments, strict=True):
        if wanted.startswith("{") and got:
            values[wanted[1:-1]] = unquote(got, errors="replace")
        elif wanted != got:
            return None
    return values
