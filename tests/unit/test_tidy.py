"""The size ratchet: files and functions stay small, and what is too large may only shrink.

`too_large.txt` holds the offenders, one a line: `<what> <lines>`. A line may be lowered or removed, never raised or added.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
REFUSED_NAMES = {"utils", "helpers", "common", "base", "manager"}


def sources() -> list[Path]:
    return sorted(path for room in ("worker", "tests", "benchmarks") for path in (ROOT / room).rglob("*.py"))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, text: list[str]) -> int:
    """Lines of the body that hold code: no docstring, no comment, no blank."""
    body = function.body
    first = body[1] if ast.get_docstring(function) is not None and len(body) > 1 else body[0]
    return sum(1 for line in text[first.lineno - 1 : function.end_lineno] if line.strip() and not line.strip().startswith("#"))


def sizes() -> Iterator[tuple[str, int, int]]:
    """What, its size, its limit."""
    for path in sources():
        name, text = str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        lines = text.splitlines()
        yield name, len(lines), MAX_FILE_LINES
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", code_lines(node, lines), MAX_FUNCTION_LINES


def known_offenders() -> dict[str, int]:
    listed = (Path(__file__).parent / "too_large.txt").read_text(encoding="utf-8")
    return {what: int(size) for what, size in (line.rsplit(maxsplit=1) for line in listed.splitlines() if line)}


def test_nothing_is_larger_than_it_may_be_and_offenders_only_shrink() -> None:
    now = {what: size for what, size, limit in sizes() if size > limit}
    assert now == known_offenders(), "split what grew; lower or remove the lines of too_large.txt that are better now"


def test_no_file_is_named_after_nothing() -> None:
    assert [str(path) for path in sources() if path.stem in REFUSED_NAMES] == []
