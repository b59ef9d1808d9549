"""What an operator can mend becomes a line on stderr and an exit code; everything else stays an exception."""

from __future__ import annotations

import sys
from collections.abc import Callable

from worker.domain.errors import ConfigurationError, DependencyUnreachable, StoreUnavailable
from worker.lifecycle import ExitCode
from worker.settings import Settings, load


def guarded(command: Callable[[Settings], int]) -> int:
    """Loads the settings and runs the command with them; one line per fault, 78 for a wrong setting, 69 for what cannot be reached."""
    try:
        return command(load())
    except ConfigurationError as error:
        print(*error.faults, sep="\n", file=sys.stderr)
        return ExitCode.MISCONFIGURED
    except (DependencyUnreachable, StoreUnavailable) as error:
        print(error, file=sys.stderr)
        return ExitCode.UNREACHABLE
