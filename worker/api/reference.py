"""`GET /docs`: the OpenAPI document as one page for people. Self-contained: no script, nothing loaded from anywhere. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

Json = Mapping[str, Any]

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
MAX_DEPTH = 6

_STYLE = """
:root { color-scheme: light dark; --line: #8883; --dim: #777; --mark: #0a7d55 }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem 1.2rem 6rem }
h1 { font-size: 1.5rem } h2 { margin-top: 2.6rem; border-bottom: 2px solid var(--mark) }
code, pre { font: 13.5px/1.5 ui-monospace, monospace } pre { overflow-x: auto; padding: .7rem; background: #8881; border-radius: 6px }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } summary code { font-weight: 600 } summary b { color: var(--mark); display: inline-block; min-width: 4.2rem }
table { border-collapse: collapse; width: 100%; margin: .3rem 0 1rem } th { font-weight: 600 }
td, th { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line) }
 .dim { color: var(--dim) } nav a { margin-right: 1rem } h4 { margin: .8rem 0 .2rem }
"""


def page(document: Json) -> bytes:
    """One HTML page."""
    info, by_tag = document["info"], _by_tag(document)
    contents = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in by_tag)
    everywhere = _everywhere(document)
    sections = "".join(_section(tag, operations, document, everywhere) for tag, operations in by_tag.items())
    refusals = "".join(f"<h4>{status}</h4>{_prose(line)}" for status, line in sorted(everywhere))
    body = (
        f"<h1>{escape(info['title'])}: the API</h1>{_prose(info['description'])}"
        f'<p>The same for programs: <a href="/openapi.json"><code>/openapi.json</code></a> (OpenAPI {escape(document["openapi"])}).</p>'
        f"<nav>{contents}</nav>{sections}<h2>What every call may answer</h2>{refusals}"
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>The API</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'.encode()


Operation = tuple[str, str, Json]
Refusals = set[tuple[str, str]]
"""Status and line."""


def _by_tag(document: Json) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            found[operation["tags"][0]].append((method.upper(), path, operation))
    return found


def _section(tag: str, operations: Iterable[Operation], document: Json, everywhere: Refusals) -> str:
    told = "".join(_operation(operation, document, everywhere) for operation in operations)
    return f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{told}'


def _operation(declared: Operation, document: Json, everywhere: Refusals) -> str:
    method, path, operation = declared
    is_operators = operation.get("security") == [{"adminKey": []}]
    key = "the operator’s key" if is_operators else "a tenant’s key, or the operator’s with X-Tenant-Id"
    parts = [f"<p class=dim>Wants {key}.</p>"]
    if operation["parameters"]:
        rows = [_parameter(parameter, document) for parameter in operation["parameters"]]
        parts.append("<h4>Parameters</h4>" + _table(("name", "where", "allowed", ""), rows))
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append("<h4>Body</h4>" + _fields(schema, document))
    parts.append(f"<h4>Example</h4><pre>{escape(_curl(method, path, operation, document, is_operators=is_operators))}</pre>")
    parts += [_answer(status, answer, document, everywhere) for status, answer in operation["responses"].items()]
    title = f"<summary><b>{method}</b> <code>{escape(path)}</code> {escape(operation['summary'])}</summary>"
    return f'<details id="{escape(operation["operationId"])}">{title}{"".join(parts)}</details>'


def _parameter(parameter: Json, document: Json) -> tuple[str, ...]:
    needed = " (required)" if parameter.get("required") else ""
    return (
        f"<code>{escape(parameter['name'])}</code>",
        parameter["in"] + needed,
        _allowed(parameter["schema"], document),
        _prose_line(parameter),
    )


def _everywhere(document: Json) -> Refusals:
    """Refusals that all calls have in common, as status and line: said once."""
    calls = [operation["responses"] for methods in document["paths"].values() for operation in methods.values()]
    told = [{(status, line) for status, answer in call.items() for line in answer["description"].split("\n")} for call in calls]
    return {(status, line) for status, line in set.intersection(*told) if status >= "400"} if told else set()


def _answer(status: str, answer: Json, document: Json, everywhere: Refusals) -> str:
    if status >= "400":
        lines = [line for line in answer["description"].split("\n") if (status, line) not in everywhere]
        return f"<h4>{status}</h4>{_prose(chr(10).join(lines))}" if lines else ""
    content = answer.get("content", {})
    schema = content.get("application/json", {}).get("schema")
    told = _fields(schema, document) if schema is not None else f"<p>{escape(', '.join(content) or 'no body')}</p>"
    return f"<h4>{status} {escape(answer['description'])}</h4>{told}"


def _fields(schema: Json, document: Json) -> str:
    return _table(("field", "allowed", ""), list(_rows(schema, document, "", MAX_DEPTH)))


def _rows(schema: Json, document: Json, before: str, depth: int) -> Iterable[tuple[str, ...]]:
    found = _resolved(schema, document)
    required = found.get("required", ())
    for name, field in found.get("properties", {}).items():
        needed = "" if name in required else ' <span class="dim">optional</span>'
        yield f"<code>{escape(before + name)}</code>{needed}", _allowed(field, document), _prose_line(field)
        inner, suffix = _inside(field, document)
        if inner is not None and depth:
            yield from _rows(inner, document, f"{before}{name}{suffix}.", depth - 1)


def _inside(field: Json, document: Json) -> tuple[Json | None, str]:
    """The object in a field, in its list, or in its alternative to null."""
    found = _resolved(field, document)
    if found.get("type") == "array":
        inner, suffix = _inside(found.get("items", {}), document)
        return inner, f"[]{suffix}"
    for one in found.get("anyOf", ()):
        inner, suffix = _inside(one, document)
        if inner is not None:
            return inner, suffix
    return (found if "properties" in found else None), ""


def _allowed(schema: Json, document: Json) -> str:
    found = _resolved(schema, document)
    if "anyOf" in found:
        return " or ".join(_allowed(one, document) for one in found["anyOf"])
    if "const" in found or "enum" in found:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in found.get("enum", [found.get("const")]))
    if found.get("type") == "array":
        return f"list of {_allowed(found.get('items', {}), document)}{_bounds(found)}"
    return escape(str(found.get("type", "anything"))) + _bounds(found)


_BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "more than {}", "maximum": "at most {}", "exclusiveMaximum": "less than {}",
    "minLength": "at least {} characters", "maxLength": "at most {} characters", "minItems": "at least {} entries",
    "maxItems": "at most {} entries", "pattern": "<code>{}</code>", "format": "{}", "default": "default <code>{}</code>",
}  # fmt: skip


def _bounds(schema: Json) -> str:
    bounds = {key: schema[key] for key in _BOUNDS if isinstance(schema.get(key), str | int | float) and schema[key] != ""}
    said = [_BOUNDS[key].format(escape(_shown(value))) for key, value in bounds.items()]
    return f", {', '.join(said)}" if said else ""


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _curl(method: str, path: str, operation: Json, document: Json, *, is_operators: bool) -> str:
    key = "$ADMIN_KEY" if is_operators else "$KEY"
    shown = re.sub(r"\{(\w+)\}", lambda match: f"${match[1]}", path)
    lines = [f'curl -X {method} "$WORKER{shown}" -H "Authorization: Bearer {key}"']
    if "requestBody" in operation:
        body = _example(operation["requestBody"]["content"]["application/json"]["schema"], document)
        lines.append(f"-H 'Content-Type: application/json' -d '{json.dumps(body)}'")
    return " \\\n  ".join(lines)


def _example(schema: Json, document: Json) -> object:
    """What must be there, and what has an example of its own."""
    found = _resolved(schema, document)
    required = found.get("required", ())
    fields = found.get("properties", {}).items()
    return {name: _value(field, document) for name, field in fields if name in required or "examples" in field}


def _value(field: Json, document: Json) -> object:
    found = _resolved(field, document)
    if "examples" in field:
        return field["examples"][0]
    if "enum" in found:
        return found["enum"][0]
    return {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(found.get("type", ""), "…")


def _resolved(schema: Json, document: Json) -> Json:
    if "$ref" in schema:
        found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    told = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{told}</table>"


def _prose_line(said: Json) -> str:
    return _marked(said.get("description", ""))


def _prose(text: str) -> str:
    """Paragraphs and lists of the little Markdown that we write."""
    told = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("- ") for line in lines):
            told.append("<ul>" + "".join(f"<li>{_marked(line[2:])}</li>" for line in lines) + "</ul>")
        else:
            told.append(f"<p>{_marked(' '.join(lines))}</p>")
    return "".join(told)


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
