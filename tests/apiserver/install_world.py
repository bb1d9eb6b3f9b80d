"""An installation in a control plane of its own: these tests take away what others need."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from manifest_files import MANIFESTS
from operator_process import OperatorProcess
from plugin_objects import SEARCH_PATH
from rights_in_effect import wait_until_installed

from engine_ops.devcluster import DevCluster

ROOT: Final = MANIFESTS.parent
INSTALL: Final = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
OWN: Final = "engine-ops-system"
DELETE_SECONDS: Final = 120.0


def commands_of(heading: str) -> list[list[str]]:
    """Return the kubectl commands that docs/install.md shows under a heading, before the next one."""
    _, _, after = INSTALL.partition(f"\n{heading}\n")
    assert after, f"docs/install.md has no heading {heading!r}"
    section = re.split(r"^#{1,6} ", after, maxsplit=1, flags=re.MULTILINE)[0]
    text = "\n".join(re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
    lines = [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]
    commands = [shlex.split(line, comments=True) for line in lines]
    assert all(command[0] == "kubectl" for command in commands), commands
    return [
        [str(MANIFESTS / "base") if word == "manifests/base" else word for word in command[1:]] for command in commands
    ]


class Installation:
    """A cluster, and what is in it of this project.

    Parameters
    ----------
    cluster
        Of its own.
    """

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster

    def run(self, heading: str) -> list[str]:
        """Do as docs/install.md says there, and return what was printed."""
        return [
            self.cluster.kubectl(*command, timeout_seconds=DELETE_SECONDS).stdout for command in commands_of(heading)
        ]

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Return objects, by kind and namespace as ``kubectl get`` takes them."""
        found: list[dict[str, Any]] = json.loads(self.cluster.kubectl("get", *arguments, "-o", "json").stdout)["items"]
        return found

    def rolled_out(self) -> None:
        """Wait until the Pod of the Deployment as it is now is ready."""
        self.cluster.kubectl("rollout", "status", "-n", OWN, "deployment/engine-ops", "--timeout=50s")

    def points(self) -> int:
        """Return how many points the history has, as whoever has a kubeconfig reads it."""
        program = str(Path(sysconfig.get_path("scripts")) / "engine-ops")
        command = [program, "history", "stats", "-o", "json", "--kubeconfig", str(self.cluster.kubeconfig), "-n", OWN]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True)
        return int(json.loads(done.stdout)["count"])

    @contextlib.contextmanager
    def operator(self, *arguments: str) -> Iterator[OperatorProcess]:
        """Run the operator, with the rights that its ServiceAccount has now: there is no kubelet to start the Pod."""
        wait_until_installed(self.cluster, OWN)
        kubeconfig = self.cluster.service_account_kubeconfig(OWN, "engine-ops")
        options = ("--workers=1", "--probes=none", "--history-flush-seconds=0.1", *arguments)
        process = OperatorProcess(kubeconfig, *options, environment={"PYTHONPATH": SEARCH_PATH})
        try:
            yield process.start()
        finally:
            process.stop()
            sys.stderr.write(process.stderr)  # pytest shows it with a test that failed
