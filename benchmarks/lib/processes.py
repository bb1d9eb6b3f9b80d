"""A system under test as a process of its own: started, awaited, measured from /proc, stopped."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


class SystemUnderTestError(RuntimeError):
    """A system under test did not start or did not answer; the message ends with what it said last."""


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of one process, in bytes.

    Parameters
    ----------
    resident_bytes
        RSS: what the kernel shows; pages shared with other processes count in full.
    peak_bytes
        The highest RSS since its start.
    proportional_bytes
        PSS: shared pages divided among those that share them.
    """

    resident_bytes: int
    peak_bytes: int
    proportional_bytes: int


def cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process, all its threads, without its children."""
    return sum(_ticks(pid)[:2]) / TICKS_PER_SECOND


def others_cpu_seconds(pid: int) -> float:
    """Return user plus system time of all descendants of a process, those that have ended included."""
    ended = sum(_ticks(pid)[2:])
    return (ended + sum(sum(_ticks(child)) for child in descendants(pid))) / TICKS_PER_SECOND


def all_cpu_seconds(pid: int) -> float:
    """Return user plus system time of a process and all its descendants, those that have ended included."""
    return cpu_seconds(pid) + others_cpu_seconds(pid)


def child_running(pid: int, module: str) -> int | None:
    """Return the child of a process that runs ``python -m module``, or None."""
    for task in (PROC / str(pid) / "task").glob("*/children"):
        for child in task.read_text().split():
            words = (PROC / child / "cmdline").read_bytes().split(b"\0")
            if module.encode() in words:
                return int(child)
    return None


def memory(pid: int) -> Memory:
    """Return what a process occupies."""
    status = _kibibytes(PROC / str(pid) / "status", "VmRSS", "VmHWM")
    proportional = _kibibytes(PROC / str(pid) / "smaps_rollup", "Pss")
    return Memory(status["VmRSS"] * 1024, status["VmHWM"] * 1024, proportional["Pss"] * 1024)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for task in (PROC / str(parent) / "task").glob("*/children"):
            children = [int(child) for child in task.read_text().split()]
            found += children
            waiting += children
    return found


def _ticks(pid: int) -> tuple[int, int, int, int]:
    """Return user and system time of a process, then those of its children that were waited for."""
    # The command's name is in parentheses and may hold anything; the fields are counted from behind it.
    fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])


def _kibibytes(path: Path, *names: str) -> dict[str, int]:
    lines = (line.partition(":") for line in path.read_text().splitlines())
    return {name: int(rest.split()[0]) for name, _, rest in lines if name in names}


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """How a system under test is started.

    Parameters
    ----------
    name
        For tables.
    command
        Its argument list.
    ready
        A line of its output that begins so says that it serves.
    """

    name: str
    command: Sequence[str]
    ready: str


class RunningSystem:
    """A system under test that runs. A context manager that starts it and ends it.

    Parameters
    ----------
    system
        Which.
    environment
        Its whole environment.
    """

    def __init__(self, system: System, environment: Mapping[str, str]) -> None:
        self.system = system
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.NamedTemporaryFile(prefix="system-under-test-", suffix=".log")  # noqa: SIM115

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self.system.command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=dict(self._environment),
        )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the main process."""
        if self._process is None:
            raise SystemUnderTestError(f"{self.system.name} was not started")
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of what it printed."""
        return Path(self._log.name).read_text(errors="replace")[-3000:]

    def cpu_seconds(self) -> float:
        """Return user plus system time of the main process so far."""
        return cpu_seconds(self.pid)

    def settle(self, *, deadline_seconds: float = 15.0) -> float:
        """Wait until the main process rests, and return its CPU time so far.

        After the last answer it has the echo of its own writes to look at; that belongs to the requests.
        """
        deadline = time.monotonic() + deadline_seconds
        before = self.cpu_seconds()
        calm = 0
        while calm < 3 and time.monotonic() < deadline:
            time.sleep(0.2)
            now = self.cpu_seconds()
            calm = calm + 1 if now - before <= 1.5 / TICKS_PER_SECOND else 0
            before = now
        return before

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            lines = Path(self._log.name).read_text(errors="replace").splitlines()
            if any(line.startswith(self.system.ready) for line in lines):
                return
            if process.poll() is not None:
                break
            time.sleep(_POLL_SECONDS)
        raise SystemUnderTestError(f"{self.system.name} does not serve (exit code {process.poll()}):\n{self.said}")

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
