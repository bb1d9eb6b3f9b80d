"""kube-scheduler's own filters, asked through the program in ``benchmarks/scheduler_oracle``.

    with SchedulerOracle(build_oracle(print)) as oracle:
        oracle.load(nodes, pods, namespaces)
        oracle.ask(pod).feasible
        oracle.place(pod, "node-1", nodes=["node-1"]).accepted

The program is built with Go from modules (`engine_ops.devcluster.toolchain`), once, into the user's cache. Two plugins
of the default profile are left out: DynamicResources (there are no claims to allocate) and DefaultPreemption (it is no
filter). Those of volumes are there and know of no claims, so that a pod with one is feasible nowhere.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from engine_ops.devcluster.build import cache_root
from engine_ops.devcluster.errors import BuildError
from engine_ops.devcluster.toolchain import find_go

SOURCE: Final = Path(__file__).parents[1] / "scheduler_oracle"
_BINARY: Final = "scheduler-oracle"
Document = Mapping[str, Any]


class OracleError(RuntimeError):
    """The oracle could not answer: it says why, or it has ended."""


def build_oracle(report: Callable[[str], None]) -> Path:
    """Build the program unless it was built from the same sources before.

    Parameters
    ----------
    report
        Takes a line for the user.

    Returns
    -------
    Path
        The executable file, in the user's cache.

    Raises
    ------
    engine_ops.devcluster.errors.BuildError
        If there is no Go and none can be had, or it does not build.
    """
    digest = hashlib.sha256()
    for source in sorted(SOURCE.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    built = cache_root().parent / _BINARY / digest.hexdigest()[:16] / _BINARY
    if built.exists():
        return built
    report("building the scheduler oracle once: seconds with Go's cache filled, minutes without")
    built.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=built.parent, prefix=".build-"))
    try:
        go = find_go(work / "go", report)
        command = [str(go), "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-o", str(work / _BINARY), "."]
        environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local"}
        done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"the scheduler oracle: exit code {done.returncode}:\n{done.stderr[-3000:]}")
        (work / _BINARY).replace(built)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return built


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the scheduler says of a pod.

    Parameters
    ----------
    feasible
        The nodes that every filter accepts, of those that were asked about; sorted.
    statuses
        For the others ``Plugin: reason``.
    accepted
        After `SchedulerOracle.place` and `SchedulerOracle.check`: whether the pod's own node is feasible.
    """

    feasible: list[str]
    statuses: Mapping[str, str]
    accepted: bool = False


class SchedulerOracle:
    """The running program. A context manager that starts it and ends it; it holds one cluster at a time.

    Parameters
    ----------
    binary
        From `build_oracle`.
    """

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._process = subprocess.Popen([self._binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        process, self._process = self._process, None
        assert process is not None
        process.communicate()  # closes its input, at which it ends

    def load(self, nodes: Iterable[Document], pods: Iterable[Document], namespaces: Iterable[Document] = ()) -> int:
        """Replace the cluster by v1 objects.

        Returns
        -------
        int
            How many of the pods count: pending and finished ones do not.
        """
        cluster = {"nodes": list(nodes), "pods": list(pods), "namespaces": list(namespaces)}
        count: int = self._answer({"cluster": cluster}).get("pods", 0)
        return count

    def ask(self, pod: Document, nodes: Sequence[str] | None = None) -> Verdict:
        """Ask where a pod could go, which is not there yet.

        Parameters
        ----------
        pod
            A v1.Pod, as the API server shows it.
        nodes
            Ask about these alone; by default about all.
        """
        return self._verdict({"ask": pod}, nodes)

    def place(self, pod: Document, node: str, nodes: Sequence[str] | None = None) -> Verdict:
        """Ask where a pod could go, then put it on a node, whatever the answer was.

        Parameters
        ----------
        pod, nodes
            As of `ask`; the answer knows whether ``node`` is feasible only if ``nodes`` has it.
        node
            Where it goes.
        """
        return self._verdict({"place": {"pod": pod, "node": node}}, nodes)

    def check(self, pod_id: str) -> Verdict:
        """Ask whether a pod, ``namespace/name``, could go to the node that it is on, if it were not on it."""
        return self._verdict({"check": pod_id}, None)

    def remove(self, pod_id: str) -> None:
        """Take a pod, ``namespace/name``, off its node."""
        self._answer({"remove": pod_id})

    def requests(self, pod: Document) -> dict[str, int]:
        """Return what the scheduler counts for a pod on a node: milli-cores of cpu, bytes, or a plain count."""
        requests: dict[str, int] = self._answer({"requests": pod})["requests"]
        return requests

    def _verdict(self, question: dict[str, Any], nodes: Sequence[str] | None) -> Verdict:
        if nodes is not None:
            question["nodes"] = list(nodes)
        said = self._answer(question)
        return Verdict(said["feasible"], said.get("statuses", {}), said["accepted"])

    def _answer(self, question: Document) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise OracleError("the oracle is not running: use it in a with statement")
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise OracleError("the oracle has ended; its last words are on stderr") from error
        line = process.stdout.readline()
        if not line:
            raise OracleError("the oracle has ended; its last words are on stderr")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise OracleError(answer["error"])
        return answer
