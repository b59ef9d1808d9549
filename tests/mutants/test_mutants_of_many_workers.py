"""Each hand-made mutant of the many workers' parts is killed too; and a typed proof cannot be left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.contacts import CONTACTS
from tests.mutants.killing import ROOT, assert_is_killed, assert_nothing_is_broken, copied
from tests.mutants.mutants import Mutant
from tests.mutants.rotations import ROTATIONS
from tests.mutants.sessions import SESSIONS
from tests.mutants.streams import STREAMS

EVERY = (*CONTACTS, *ROTATIONS, *SESSIONS, *STREAMS)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("mutants"))


@pytest.mark.timeout(180)
def test_the_killers_pass_where_nothing_is_broken(copy: Path) -> None:
    assert_nothing_is_broken(copy, EVERY)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mutant", EVERY, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_mutant_is_killed_by_an_assertion(copy: Path, mutant: Mutant) -> None:
    assert_is_killed(copy, mutant)


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
