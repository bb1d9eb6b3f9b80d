"""`engine-ops serve` as a process, on a free port."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from engine_ops import EngineOpsClient
from process_groups import kill_group

T = TypeVar("T")

START_SECONDS = 120.0
END_SECONDS = 60.0


class Served:
    """What was started, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.url = ""
        self._said: queue.Queue[str | None] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as said:
            for line in said:
                self.lines.append(line.rstrip("\n"))
                self._said.put(self.lines[-1])
        self._said.put(None)

    def wait_until_served(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self.url:
            line = self._said.get(timeout=deadline - time.monotonic())
            assert line is not None, "\n".join(self.lines)
            if line.startswith("REST API: "):
                self.url = line.removeprefix("REST API: ")

    def wait_until_ended(self) -> int:
        """Return its exit code, when all that it said is in `lines`."""
        code = self.process.wait(END_SECONDS)
        self._reading.join(END_SECONDS)
        return code

    def client(self) -> EngineOpsClient:
        return EngineOpsClient(self.url, timeout=60)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait_until_ended()


def start(*options: str, path: Path | None = None, home: Path | None = None) -> Served:
    environment = dict(os.environ)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    if home is not None:
        environment |= {"HOME": str(home)}
        environment.pop("XDG_DATA_HOME", None)
    program = "from engine_ops.cli.main import main; main(prog_name='engine-ops')"
    command = [sys.executable, "-c", program, "serve", *options]
    return Served(
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
    )


@contextlib.contextmanager
def serving(*options: str, path: Path | None = None, home: Path | None = None) -> Iterator[Served]:
    """Serve until the end of the block, which must be in good order.

    Parameters
    ----------
    options
        Of the command, besides ``--api``.
    path
        Where Python finds further modules and packages.
    home
        Of the user.
    """
    served = start("--api", "http://127.0.0.1:0", "--workers", "1", *options, path=path, home=home)
    try:
        served.wait_until_served()
        yield served
        if served.process.poll() is None:
            assert served.end() == 0, "\n".join(served.lines)
    finally:
        kill_group(served.process)
        served.wait_until_ended()


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float = 60.0) -> T:
    """Look until what is seen is good."""
    deadline = time.monotonic() + seconds
    while not good(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)
    return seen
