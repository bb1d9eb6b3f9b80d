"""An API server that hangs, dies and comes back, in a control plane of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from history_place import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiError
from engine_ops.devcluster.processes import end, spawn

START_SECONDS = 60.0


class ApiServer:
    """The kube-apiserver of a cluster, as a process.

    Parameters
    ----------
    cluster
        Nobody else's: every client of it notices.
    directory
        For its log.
    """

    def __init__(self, cluster: DevCluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        (component,) = [one for one in cluster.state.components if one.name == "kube-apiserver"]
        self._pid = component.pid
        process = Path(f"/proc/{self._pid}")
        self._command = process.joinpath("cmdline").read_text().rstrip("\0").split("\0")
        variables = process.joinpath("environ").read_text().rstrip("\0").split("\0")
        self._environment = dict(variable.split("=", 1) for variable in variables)
        self._again: subprocess.Popen[bytes] | None = None

    def hang(self) -> None:
        """Stop it: connections stay, and nothing is answered. What was sent is read if it ever goes on."""
        os.kill(self._pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End `hang`."""
        os.kill(self._pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it: connections are refused."""
        os.kill(self._pid, signal.SIGKILL)

    def start(self) -> None:
        """Start it again, at the same address and with the same data, and wait until it is ready."""
        self._again = spawn(
            self._command,
            log_file=self._directory / "kube-apiserver.log",
            working_directory=self._cluster.directory,
            environment=self._environment,
        )
        self._pid = self._again.pid
        wait_until(self._is_ready, "the API server is back", seconds=START_SECONDS)

    def stop(self) -> None:
        """End what `start` started."""
        if self._again is not None:
            end(self._again, 5.0)

    def _is_ready(self) -> bool:
        with self._cluster.client() as client:
            try:
                return bool(client.request("GET", "/readyz"))
            except (OSError, ApiError):
                return False
