"""The rig as a fixture, and what the end-to-end tests measured at the end of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.e2e import figures
from tests.e2e.rig import Rig


@pytest.fixture
async def rig(anyio_backend: object) -> AsyncIterator[Rig]:
    async with Rig() as rig:
        yield rig


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures.measured:
        terminalreporter.section("measured")
        for line in figures.table():
            terminalreporter.write_line(line)
