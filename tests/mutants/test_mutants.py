"""Each hand-made mutant is killed by the tests that guard its rule; and a typed proof cannot be left out."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.contacts import CONTACTS
from tests.mutants.mutants import MUTANTS, Mutant
from tests.mutants.rotations import ROTATIONS
from tests.mutants.sessions import SESSIONS
from tests.mutants.streams import STREAMS

ROOT = Path(__file__).parents[2]
EVERY = (*MUTANTS, *CONTACTS, *ROTATIONS, *SESSIONS, *STREAMS)
COPIED = ("worker", "tests", "config", "pyproject.toml")
RUN_WITHIN_S = 60
ASSERTION = re.compile(r"AssertionError|DID NOT RAISE|^E +assert ", re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources, where they may be broken."""
    place = tmp_path_factory.mktemp("mutants")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
        elif source.exists():
            shutil.copy(source, place / name)
    return place


def run(place: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short", *tests]
    return subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=RUN_WITHIN_S, check=False)


@pytest.mark.timeout(120)
def test_the_killers_pass_where_nothing_is_broken(copy: Path) -> None:
    killers = tuple(dict.fromkeys(killer for mutant in EVERY for killer in mutant.killers))
    done = run(copy, killers)
    assert done.returncode == 0, done.stdout[-4_000:]
    assert f"{len(killers)} passed" in done.stdout


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mutant", EVERY, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_mutant_is_killed_by_an_assertion(copy: Path, mutant: Mutant) -> None:
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


SNIPPET = """
from worker.client_registry.proofs import Drained, Quiesced
from worker.client_registry.registry import Registry
from worker.handover import Handover
from worker.shutdown import Shutdown


async def too_early(registry: Registry, shutdown: Shutdown, handover: Handover, drained: Drained, quiesced: Quiesced) -> None:
    await registry.release(drained, to=None)
    await registry.release(to=None)
    await shutdown.tear_down([quiesced])
    await handover.close_sockets(quiesced, by_s=1.0)
    Drained(after=quiesced)
"""


@pytest.mark.timeout(120)
def test_leaving_out_a_typed_proof_does_not_type_check(tmp_path: Path) -> None:
    snippet = tmp_path / "too_early.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(snippet)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    found = [line.split(":", 1)[1] for line in done.stdout.splitlines() if "error" in line]
    assert [(line.split(":")[0], line.rsplit("[", 1)[1]) for line in found] == [
        ("9", "arg-type]"),
        ("10", "call-arg]"),
        ("11", "list-item]"),
        ("12", "arg-type]"),
        ("13", "call-arg]"),
    ], done.stdout
