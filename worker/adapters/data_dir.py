"""The embedded server's data directory: who holds it, and what a former life left there.

One worker holds a directory at a time, by `flock`, which the kernel gives back however the holder ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.domain.errors import ConfigurationError, DependencyUnreachable

SOCKET_FOLDER_PREFIX = "wa-redis-"
_GENTLE_S = 5.0
_FIRM_S = 5.0
_LOOK_EVERY_S = 0.01


@contextmanager
def held_data_dir(path: Path) -> Iterator[Path]:
    """The directory, made where it is missing, absolute, ours alone until the end.

    Raises `ConfigurationError` where it cannot be written or somebody else holds it (naming the holder's process id).
    """
    folder = path.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            [f"data_dir (WORKER_DATA_DIR): {path}: {exc.strerror}; name a directory that this user can write"]
        ) from exc
    try:
        _take(lock, path)
        yield folder
    finally:
        os.close(lock)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        why = f"data_dir (WORKER_DATA_DIR): {path}: held by the worker with process id {holder}; stop that one, or name another directory"
        raise ConfigurationError([why]) from exc
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as exc:
        raise ConfigurationError(
            [f"data_dir (WORKER_DATA_DIR): {path}: {exc.strerror}; make room there, or name another directory"]
        ) from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """Which server runs on the directory. `born` tells it from a later process with the same id."""

    pid: int
    born: str
    socket: str


def remember_server(folder: Path, pid: int, socket: str) -> None:
    """Written before the server is spoken to, so that a next life finds it."""
    draft = folder / "server.json.new"
    draft.write_text(json.dumps(asdict(ServerRecord(pid=pid, born=_born(pid), socket=socket))))
    draft.replace(folder / "server.json")


def stop_former_server(folder: Path) -> int | None:
    """Ends the server that a former life left on this directory, and its socket folder; answers its process id, None if there was none.

    Call while holding the directory. Blocks up to 10 s: gently first, then by SIGKILL. Raises `DependencyUnreachable` when it stays.
    """
    record = _former(folder)
    if record is None:
        return None
    stopped = _stop(record)
    (folder / "server.json").unlink(missing_ok=True)
    remains = Path(record.socket).parent
    if remains.name.startswith(SOCKET_FOLDER_PREFIX):
        shutil.rmtree(remains, ignore_errors=True)
    return record.pid if stopped else None


def _former(folder: Path) -> ServerRecord | None:
    try:
        return ServerRecord(**json.loads((folder / "server.json").read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):  # torn by a crash or a full disk: its server died with that worker
        return None


def _stop(record: ServerRecord) -> bool:
    if not _is_alive(record):
        return False
    for signum, patience_s in ((signal.SIGTERM, _GENTLE_S), (signal.SIGKILL, _FIRM_S)):
        with suppress(ProcessLookupError):
            os.kill(record.pid, signum)
        end_s = time.monotonic() + patience_s
        while time.monotonic() < end_s:
            if not _is_alive(record):
                return True
            time.sleep(_LOOK_EVERY_S)  # noqa: TID251 - not our child, so there is nothing to wait on; no loop runs anything yet
    msg = f"the Redis server of a former run (process id {record.pid}) does not end; end it by hand"
    raise DependencyUnreachable(msg)


def _is_alive(record: ServerRecord) -> bool:
    return bool(record.born) and _born(record.pid) == record.born


def _born(pid: int) -> str:
    """When the process started, in the system's own words; empty when there is no such process (or only its zombie)."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if after_name[0] in "ZX" else after_name[19]
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=5, check=False)  # noqa: S603, S607
    return told.stdout.strip()
