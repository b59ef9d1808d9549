"""How a mutant is killed: a copy of the sources with one text replaced, and the tests that guard it run over that."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.mutants import Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("worker", "tests", "config", "pyproject.toml")
RUN_WITHIN_S = 100
ASSERTION = re.compile(r"AssertionError|DID NOT RAISE|^E +assert ", re.MULTILINE)


def copied(place: Path) -> Path:
    """The sources, where they may be broken. Compiled once; whether that still holds is decided by content, not by time."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
        elif source.exists():
            shutil.copy(source, place / name)
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "worker"]
    subprocess.run(command, cwd=place, capture_output=True, timeout=RUN_WITHIN_S, check=True)
    return place


def run(place: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short", *tests]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)


def assert_nothing_is_broken(copy: Path, mutants: Sequence[Mutant]) -> None:
    """The killers pass over sound sources."""
    killers = tuple(dict.fromkeys(killer for mutant in mutants for killer in mutant.killers))
    done = run(copy, killers)
    assert done.returncode == 0, done.stdout[-4_000:]
    assert f"{len(killers)} passed" in done.stdout


def assert_is_killed(copy: Path, mutant: Mutant) -> None:
    """Each of its killers fails, by an assertion."""
    file = copy / mutant.file
    sound = file.read_text()
    assert sound.count(mutant.old) == 1, (
        f"{mutant.file}: the text to replace stands there {sound.count(mutant.old)} times; follow the change"
    )
    file.write_text(sound.replace(mutant.old, mutant.new))
    try:
        done = run(copy, mutant.killers)
    finally:
        file.write_text(sound)
    assert done.returncode == 1, f"survived:\n{done.stdout[-4_000:]}"
    assert f"{len(mutant.killers)} failed" in done.stdout
    assert " error" not in done.stdout.splitlines()[-1], "killed by an assertion, not by a file that cannot be loaded"
    assert ASSERTION.search(done.stdout), done.stdout[-4_000:]
