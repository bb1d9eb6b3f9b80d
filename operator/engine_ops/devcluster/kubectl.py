"""kubectl, run to its end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine_ops.devcluster.errors import DevClusterError


def run_kubectl(
    binary: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: str | None = None,
    check: bool = True,
    timeout_seconds: float,
) -> subprocess.CompletedProcess[str]:
    """Run kubectl.

    Parameters
    ----------
    binary : Path
        The program.
    arguments : sequence of str
        Its arguments, such as ``["get", "nodes"]``.
    environment : mapping
        All of its environment; KUBECONFIG says which cluster it speaks to, and as whom.
    stdin : str, optional
        What it reads, such as manifests for ``apply -f -``.
    check : bool
        Whether to raise on failure.
    timeout_seconds : float
        When to give up.

    Returns
    -------
    subprocess.CompletedProcess
        With its output as text.

    Raises
    ------
    DevClusterError
        If it fails and `check` is set; with what it said.
    subprocess.TimeoutExpired
        If it takes too long.
    """
    done = subprocess.run(
        [str(binary), *arguments],
        input="" if stdin is None else stdin,
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=timeout_seconds,
        check=False,
    )
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise DevClusterError(f"kubectl {' '.join(arguments)}: exit code {done.returncode}: {said}")
    return done
