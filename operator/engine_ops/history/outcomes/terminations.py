"""What ended badly in the pods of a workload: restarts, OOM kills, exit codes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from engine_ops.history.outcomes.records import ContainerStatus, PodRecord
from engine_ops.history.outcomes.usage import MAX_CONTAINERS

MAX_REMEMBERED: Final = 128
"""Containers of living pods that were restarted or failed; what happens in more than these is not counted."""

MAX_KINDS: Final = 8
"""Kinds of failures told apart; more are ``Other``."""

NOT_ITS_FAULT: Final = frozenset(
    {"Preempting", "Preempted", "NodeShutdown", "NodeLost", "Shutdown", "Terminated", "NodeAffinity", "Deleted"}
)
"""Reasons of failed pods that say something of the cluster and nothing of the workload."""


class Terminations:
    """Restarts and failures of a workload's containers, each counted once however often it is looked at.

    A pod's status tells how often a container was started again, and its last termination only. So restarts are exact;
    of several failures of one container between two looks, one is seen.

    Attributes
    ----------
    restarts, oom_kills
        By container.
    failed_restarts
        Those after which the last termination was none with exit code 0.
    failures
        How often by kind, such as ``OOMKilled(137)`` or ``Error(1)``: containers, and pods that failed without one
        (``Evicted``).
    exit_code
        Of the failure that came last; None where there was none.
    """

    __slots__ = ("_exit", "_remembered", "failed_restarts", "failures", "oom_kills", "restarts")

    def __init__(self) -> None:
        self.restarts: dict[str, int] = {}
        self.oom_kills: dict[str, int] = {}
        self.failed_restarts = 0
        self.failures: dict[str, int] = {}
        self._exit: tuple[int, int] | None = None  # when, and the code
        # Restarts and time of the last termination that are counted already. Only of what has any: a container that
        # is not in it was never restarted when it was looked at.
        self._remembered: dict[str, tuple[int, int]] = {}

    @property
    def exit_code(self) -> int | None:
        """See the class."""
        return None if self._exit is None else self._exit[1]

    def look(self, pods: Sequence[PodRecord], since_ms: int, *, first: bool) -> None:
        """Count what is new.

        Parameters
        ----------
        pods
            All pods of the workload that there are.
        since_ms
            What ended before is not counted; 0 where the pods are the workload's own from its beginning.
        first
            Whether nothing was looked at before: restarts that a pod has already came before, then, except the last
            one if its time says otherwise.
        """
        since_ms -= since_ms % 1000  # Kubernetes writes whole seconds
        alive = set()
        for pod in pods:
            if _failed_as_a_whole(pod, since_ms):
                key = _key(pod.uid, "")
                alive.add(key)
                self._pod_failed(key, pod)
            for status in pod.statuses:
                if not status.restarts and not _failed(status):
                    continue
                key = _key(pod.uid, status.name)
                alive.add(key)
                earlier = first and (pod.started_ms is None or pod.started_ms < since_ms)
                self._container(key, pod, status, since_ms, earlier=earlier)
        self._remembered = {key: value for key, value in self._remembered.items() if key in alive}

    def _container(self, key: str, pod: PodRecord, status: ContainerStatus, since_ms: int, *, earlier: bool) -> None:
        finished_ms = status.finished_ms if status.finished_ms is not None else pod.finished_ms
        counted, counted_ms = self._remembered.get(key, (0, since_ms - 1))
        if key not in self._remembered:
            if len(self._remembered) >= MAX_REMEMBERED:
                return
            if earlier:
                ended_since = finished_ms is not None and finished_ms >= since_ms
                counted = max(0, status.restarts - ended_since)
        new = max(0, status.restarts - counted)
        ended = finished_ms > counted_ms if finished_ms is not None else new > 0
        # Without its time, a termination is remembered by its restart.
        self._remembered[key] = (status.restarts, max(counted_ms, finished_ms or 0))
        if new:
            _count(self.restarts, status.name, new)
            if _failed(status) or status.exit_code is None:
                self.failed_restarts += new
        forgiven = pod.deleting or (pod.phase == "Failed" and bool(pod.reason))  # then that is what failed
        if not ended or not _failed(status) or (forgiven and not status.oom_killed):
            return
        code = status.exit_code if status.exit_code is not None else 137
        reason = "OOMKilled" if status.oom_killed else status.reason or "Error"
        self._failure(f"{reason}({code})")
        if status.oom_killed:
            _count(self.oom_kills, status.name, 1)
        if self._exit is None or (finished_ms or 0) >= self._exit[0]:
            self._exit = (finished_ms or 0, code)

    def _pod_failed(self, key: str, pod: PodRecord) -> None:
        if key in self._remembered or len(self._remembered) >= MAX_REMEMBERED:
            return
        self._remembered[key] = (0, 0)
        if not pod.deleting and pod.reason not in NOT_ITS_FAULT:
            self._failure(pod.reason or "Failed")

    def _failure(self, kind: str) -> None:
        kind = kind[:64]
        if kind not in self.failures and len(self.failures) >= MAX_KINDS:
            kind = "Other"
        self.failures[kind] = self.failures.get(kind, 0) + 1

    def summary(self) -> str:
        """Return the failures as text, the most frequent first: ``OOMKilled(137) x2, Error(1)``."""
        kinds = sorted(self.failures.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(kind if count == 1 else f"{kind} x{count}" for kind, count in kinds)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "restarts": self.restarts,
            "oom": self.oom_kills,
            "failed": self.failed_restarts,
            "kinds": self.failures,
            "exit": None if self._exit is None else list(self._exit),
            "seen": {key: list(value) for key, value in self._remembered.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Terminations:
        """Return what `to_json` gave.

        Raises
        ------
        TypeError, ValueError, KeyError, AttributeError
            If it is something else.
        """
        made = cls()
        made.restarts = {str(name): int(count) for name, count in data["restarts"].items()}
        made.oom_kills = {str(name): int(count) for name, count in data["oom"].items()}
        made.failed_restarts = int(data["failed"])
        made.failures = {str(kind): int(count) for kind, count in data["kinds"].items()}
        if data["exit"] is not None:
            finished_ms, code = data["exit"]
            made._exit = (int(finished_ms), int(code))
        made._remembered = {str(key): (int(count), int(at_ms)) for key, (count, at_ms) in data["seen"].items()}
        return made


def _failed_as_a_whole(pod: PodRecord, since_ms: int) -> bool:
    if pod.phase != "Failed" or (pod.finished_ms is not None and pod.finished_ms < since_ms):
        return False
    return bool(pod.reason) or not any(_failed(s) and (s.finished_ms or since_ms) >= since_ms for s in pod.statuses)


def _failed(status: ContainerStatus) -> bool:
    return status.oom_killed or status.exit_code not in {None, 0}


def _count(counts: dict[str, int], name: str, count: int) -> None:
    if name not in counts and len(counts) >= MAX_CONTAINERS:
        return
    counts[name] = counts.get(name, 0) + count


def _key(pod_uid: str, container: str) -> str:
    return blake2b(f"{pod_uid}/{container}".encode(), digest_size=6).hexdigest()
