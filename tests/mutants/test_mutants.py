"""Each hand-made mutant of the spine is killed by the tests that guard its rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.killing import assert_is_killed, assert_nothing_is_broken, copied
from tests.mutants.mutants import MUTANTS, Mutant

EVERY = MUTANTS


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
