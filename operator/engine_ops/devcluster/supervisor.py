"""The process above the components: it starts them, and ends them when its parent ends, however that comes about.

Run as ``python -m engine_ops.devcluster.supervisor``; its order comes as JSON on stdin, its answer goes as one line of
JSON to stdout: ``{}`` once the cluster is ready, ``{"error": ...}`` if it is not going to be.

The chain that leaves nothing behind: this process polls a pidfd of its parent, which becomes readable at the parent's
end even on SIGKILL, and, unlike PR_SET_PDEATHSIG, does not depend on the thread that started it. The components have
PR_SET_PDEATHSIG set; they are started by the only thread of this process, so that the signal comes at its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from engine_ops.devcluster.binaries import Binaries
from engine_ops.devcluster.control_plane import ControlPlane
from engine_ops.devcluster.errors import DevClusterError
from engine_ops.devcluster.state import ClusterState, claim


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the supervisor is to do.

    Parameters
    ----------
    name : str
        The cluster's name.
    binaries : str
        The directory of the binaries.
    components : tuple of str
        What to start.
    log_directory : str, optional
        Where logs go; by default into the cluster's directory, to go with it.
    deadline_seconds : float
        How long the start may take.
    parent_pid : int, optional
        The process to end with; by default none.
    """

    name: str
    binaries: str
    components: tuple[str, ...]
    deadline_seconds: float
    log_directory: str | None = None
    parent_pid: int | None = None

    def to_json(self) -> str:
        """Encode it for the supervisor's stdin."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Decode it."""
        fields = json.loads(text)
        return cls(**{**fields, "components": tuple(fields["components"])})


class _StopRequestedError(Exception):
    """The parent ended, or a signal came."""


class _Stopper:
    """Tells when to stop: at a signal, or when the parent has ended."""

    def __init__(self, parent_pid: int | None) -> None:
        self._signalled = False
        self._poll = select.poll()
        self._parent: int | None = None
        if parent_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                self._parent = os.pidfd_open(parent_pid)
                self._poll.register(self._parent, select.POLLIN)
            # The number may belong to another process by now, if the parent ended before the line above.
            if self._parent is None or os.getppid() != parent_pid:
                self._signalled = True
        # Signals wake the poll: those that end the supervisor, and the end of a child.
        self._wake, wake_writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_writer, False)
        signal.set_wakeup_fd(wake_writer)
        self._poll.register(self._wake, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._signalled = True

    def check(self) -> None:
        """Raise if it is time to stop."""
        if self._wait(0):
            raise _StopRequestedError

    def wait(self) -> bool:
        """Wait for the next event; return whether it is time to stop."""
        return self._wait(None)

    def _wait(self, timeout_ms: int | None) -> bool:
        events = {descriptor for descriptor, _ in self._poll.poll(timeout_ms)}
        if self._wake in events:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        return self._signalled or (self._parent is not None and self._parent in events)


def _answer(document: dict[str, str]) -> None:
    """Send the one line, and close the pipe: the parent may be gone, and nobody reads it any more."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def supervise(order: Order) -> int:
    """Start a cluster, keep it until it is time to stop, and clean up.

    Parameters
    ----------
    order : Order
        What to do.

    Returns
    -------
    int
        The exit code: 0 after an orderly stop, 1 if the cluster did not come up.
    """
    stopper = _Stopper(order.parent_pid)
    try:
        with claim(order.name) as directory:
            log_directory = Path(order.log_directory) if order.log_directory else directory / "logs"
            log_directory.mkdir(parents=True, exist_ok=True)
            state = ClusterState(
                name=order.name, pid=os.getpid(), binaries=order.binaries, log_directory=str(log_directory)
            )
            state.write(directory)
            plane = ControlPlane(
                directory,
                state,
                binaries=Binaries(Path(order.binaries)),
                chosen=order.components,
                deadline_seconds=order.deadline_seconds,
                checkpoint=stopper.check,
            )
            try:
                plane.start()
                _answer({})
                while not stopper.wait():
                    plane.note_exits()
            finally:
                plane.stop()
    except _StopRequestedError:
        return 0
    except (DevClusterError, OSError) as error:
        _answer({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(supervise(Order.from_json(sys.stdin.read())))
