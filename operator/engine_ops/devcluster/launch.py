"""Starts and stops the supervisor of a cluster."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile

from engine_ops.devcluster.errors import DevClusterError, StartError
from engine_ops.devcluster.state import cluster_directory, is_live, read_state, sweep
from engine_ops.devcluster.supervisor import Order

#: The supervisor gives each component five seconds.
_STOP_SECONDS = 40.0


def launch(order: Order) -> subprocess.Popen[bytes]:
    """Start a supervisor and wait until its cluster is ready.

    Parameters
    ----------
    order : Order
        What it is to do.

    Returns
    -------
    subprocess.Popen
        The supervisor.

    Raises
    ------
    StartError
        If the cluster does not come up; with what the supervisor said.
    """
    with tempfile.TemporaryFile() as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "engine_ops.devcluster.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Ctrl-C in a terminal goes to the whole group; the supervisor ends after its parent, not with it.
            start_new_session=True,
        )
        try:
            answer = _exchange(supervisor, order.to_json().encode(), order.deadline_seconds + _STOP_SECONDS)
            if not answer:
                errors.seek(0)
                said = errors.read().decode("utf-8", "replace")
                raise StartError(f"the supervisor ended with exit code {supervisor.poll()}:\n{said}")
            document = json.loads(answer)
            if "error" in document:
                raise StartError(document["error"])
        except BaseException:
            supervisor.terminate()
            wait_or_kill(supervisor)
            raise
    return supervisor


def stop_cluster(name: str) -> bool:
    """End a cluster that another process started, whether it is ready yet or not.

    Parameters
    ----------
    name : str
        Its name.

    Returns
    -------
    bool
        Whether there was one.
    """
    directory = cluster_directory(name)
    if not is_live(directory):
        sweep()
        return False
    state = read_state(directory)
    if state is None:
        raise DevClusterError(f"cluster {name!r} is just being made: try again")
    try:
        supervisor = os.pidfd_open(state.pid)
    except ProcessLookupError:
        sweep()
        return True
    try:
        # It lives after the descriptor was opened, so the descriptor is its own, not a later process's of its number.
        if is_live(directory):
            signal.pidfd_send_signal(supervisor, signal.SIGTERM)
            ended, _, _ = select.select([supervisor], [], [], _STOP_SECONDS)
            if not ended:
                signal.pidfd_send_signal(supervisor, signal.SIGKILL)
                select.select([supervisor], [], [])
    finally:
        os.close(supervisor)
    sweep()
    return True


def _exchange(supervisor: subprocess.Popen[bytes], order: bytes, timeout_seconds: float) -> bytes:
    """Send the order, and read the one line that comes back; empty if none comes."""
    if supervisor.stdin is None or supervisor.stdout is None:
        raise ValueError("the supervisor needs pipes")
    with supervisor.stdout as output:
        with supervisor.stdin as stdin:
            stdin.write(order)
        ready, _, _ = select.select([output], [], [], timeout_seconds)
        return output.readline() if ready else b""


def wait_or_kill(supervisor: subprocess.Popen[bytes]) -> None:
    """Wait for a supervisor that was told to stop, and kill it if it does not."""
    try:
        supervisor.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # The kernel ends the components after it; the next start sweeps the directory.
        supervisor.kill()
        supervisor.wait()
