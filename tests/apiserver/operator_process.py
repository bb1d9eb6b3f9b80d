"""`engine-ops run` as a process of its own, for tests of what it does."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sysconfig
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self

from process_groups import kill_group

START_SECONDS = 60.0
"""Generous: the machine may be busy with everybody else's tests."""
STOP_SECONDS = 60.0
READ_SECONDS = 60.0
"""For what it said last: its end is seen before its last line is read, and workers that are ending hold the pipe."""
SERVING = re.compile(r"^watching optimizationrequests\b")


class OperatorError(RuntimeError):
    """The operator did not do what was waited for; the message ends with what it said."""


class OperatorProcess:
    """One operator. A context manager that starts it, waits until it serves, and stops it.

    Parameters
    ----------
    kubeconfig
        Whose rights it has.
    *arguments
        Further arguments of ``engine-ops run``.
    environment
        Variables that it sees besides the test's own.
    """

    def __init__(self, kubeconfig: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._command = [str(Path(sysconfig.get_path("scripts"), "engine-ops")), "run", *arguments]
        # A test must not reach a cluster of the user's, nor be taken for a Pod.
        outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
        inherited = {key: value for key, value in os.environ.items() if key not in outside}
        self._environment = {**inherited, "KUBECONFIG": str(kubeconfig), **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader: threading.Thread | None = None

    def start(self, *, wait: bool = True) -> Self:
        """Start it and, unless told otherwise, wait until it serves.

        Raises
        ------
        OperatorError
            If it ends first, or takes too long.
        """
        if self._process is not None:
            raise OperatorError("it was started already; make another one")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",  # plugins write there what they like
            env=self._environment,
            # Its workers are in its group: what is left of them after a test is ended with the group.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="operator's stderr", daemon=True)
        self._reader.start()
        if wait:
            self.wait_for_line(SERVING, START_SECONDS)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The main process."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, or None while it runs; negative for a signal."""
        return self._running().poll()

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_line(self, pattern: str | re.Pattern[str], seconds: float = START_SECONDS) -> str:
        """Wait until a line of its stderr matches anywhere, and return that line.

        Raises
        ------
        OperatorError
            If it ends first, or takes too long.
        """
        searched, deadline = 0, time.monotonic() + seconds
        with self._changed:
            while True:
                for line in self._lines[searched:]:
                    if re.search(pattern, line):
                        return line
                searched = len(self._lines)
                ended = self._reader is None or not self._reader.is_alive()
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    if ended:
                        self._reap()
                    what = f"it ended with {self.returncode}" if ended else f"{seconds:.0f} s passed"
                    raise OperatorError(f"{what} before a line with {pattern!r}:\n{''.join(self._lines)}")
                self._changed.wait(min(left, 0.5))

    def wait_for_exit(self, seconds: float = START_SECONDS) -> int:
        """Wait until it ends by itself, and return its exit code.

        Raises
        ------
        OperatorError
            If it takes too long.
        """
        process = self._running()
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise OperatorError(f"it has not ended within {seconds:.0f} s:\n{self.stderr}") from error
        self._finish_reading()
        return code

    def stop(self) -> int | None:
        """End it with SIGTERM, after a while with SIGKILL, and with it whatever is left of its workers.

        Returns
        -------
        int or None
            Its exit code: 0 or the negated signal. None if it never ran.
        """
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        # Otherwise a worker that outlived it would hold the pipe, and the reader.
        kill_group(self._process)
        self._finish_reading()
        return self._process.returncode

    def kill9(self) -> None:
        """Kill the main process, and only it, as an OOM kill would."""
        process = self._running()
        process.kill()
        process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise OperatorError("it was not started")
        return self._process

    def _read(self) -> None:
        stream = self._running().stderr
        if stream is None:
            raise AssertionError("stderr is not a pipe")
        with stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()

    def _reap(self) -> None:
        """Wait for the exit code: a process closes its files a moment before it has one."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running().wait(READ_SECONDS)

    def _finish_reading(self) -> None:
        if self._reader is not None:
            self._reader.join(READ_SECONDS)
        with self._changed:
            self._changed.notify_all()


class StartOperator(Protocol):
    """What the `start_operator` fixture gives."""

    def __call__(
        self,
        *arguments: str,
        kubeconfig: Path | None = None,
        namespaces: tuple[str, ...] | None = None,
        environment: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> OperatorProcess:
        """Start an operator that ends with the test.

        By default it has the rights of the ServiceAccount of manifests/base and watches the test's namespace; an
        empty ``namespaces`` stands for all.
        """
