"""Plugins that do what no plugin should, each in one way, and two good ones; found by entry point `bad_plugins:Name`.

Put this directory on the search path of what runs them. Never ask one in the process of a test itself, unless its case
fails at once.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import signal
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pydantic

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.api.quantity import parse_quantity
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, WorkloadDataPoint
from engine_ops.plugins import BaseOptimizationPlugin

MOST_ALLOCATED_BYTES = 3 * 2**30
"""`Allocates` stops there and waits, lest a test without a watchdog takes the machine down."""

SECRET_WORDS = ("KUBECONFIG", "KUBERNETES", "PASSWORD", "SECRET", "TOKEN")
"""A variable with one of these in its name is something to hide."""

TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Parameters
    ----------
    name
        The class in this module.
    how
        ``at once``: the process lives on. ``waits``: for ever, until it is killed. ``kills``: the process dies, or has
        to be killed, without any time limit.
    reason
        A pattern that is found in the reason that the request's status gives; its case does not matter.
    when
        ``opened``: it fails before it is asked. ``asked``. ``judged``: what it returns is sent, and refused when it is
        held against the request.
    request_type
        The one type it takes.
    """

    name: str
    how: Literal["at once", "waits", "kills"]
    reason: str
    when: Literal["opened", "asked", "judged"] = "asked"
    request_type: str = "resource"

    @property
    def entry_point(self) -> str:
        return f"{__name__}:{self.name}"


_DEATH = "signal|crash|died|ended|exit|killed|memory"
_TIMEOUT = "second|time"

CASES: tuple[Case, ...] = (
    Case("Raises", "at once", "optimize failed: ZeroDivisionError"),
    Case("RaisesSystemExit", "at once", "optimize failed: SystemExit"),
    Case("RaisesKeyboardInterrupt", "at once", "optimize failed: KeyboardInterrupt"),
    Case("RaisesUnspeakable", "at once", "optimize failed"),
    Case("ReturnsNone", "at once", "must be a dict"),
    Case("ReturnsNaN", "at once", "nan is not a finite number"),
    Case("ReturnsGenerator", "at once", "generator"),
    Case("ReturnsCoroutine", "at once", "must not be async"),
    Case("ReturnsEndless", "at once", "nested"),
    Case("Returns100MB", "at once", "too large"),
    Case("NamesUnknownNode", "at once", "no-such-node", "judged", "scheduling"),
    Case("PacksTooMuch", "at once", r"result\.nodes", "judged"),
    Case("PrintsToStdout", "at once", "all is printed"),
    Case("MutatesItsInput", "at once", "all is changed"),
    Case("ReadsSecrets", "at once", "found nothing"),
    Case("Forks", "at once", "forked"),
    Case("ForksAway", "at once", "forked"),
    Case("RaisesInInit", "at once", "init failed: OSError", "opened"),
    Case("ImportsForAMinute", "waits", _TIMEOUT, "opened"),
    Case("SleepsForever", "waits", _TIMEOUT),
    Case("IgnoresSigterm", "waits", _TIMEOUT),
    Case("SpinsForever", "waits", _TIMEOUT),
    Case("Allocates", "kills", _DEATH),
    Case("Segfaults", "kills", _DEATH),
    Case("Exits", "kills", _DEATH),
    Case("WritesRubbish", "kills", f"{_DEATH}|frame|message|rubbish"),
)


def case(name: str) -> Case:
    return next(each for each in CASES if each.name == name)


class _Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True


class _Bad(MLPluginInterface):
    def __init__(self) -> None:
        name = type(self).__name__
        super().__init__(
            PluginMetadata(name.lower(), "1.0.0", "Does harm", supported_types=[case(name).request_type]), _Model(name)
        )


def _no(error: str) -> dict[str, Any]:
    return {"success": False, "error": error}


class Raises(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return {"result": 1 / 0}


class RaisesSystemExit(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        sys.exit(0)


class RaisesKeyboardInterrupt(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        raise KeyboardInterrupt


class _UnspeakableError(BaseException):
    def __str__(self) -> str:
        raise SystemExit("not even its text can be had")


class RaisesUnspeakable(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        raise _UnspeakableError


class ReturnsNone(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> Any:
        return None


class ReturnsNaN(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return {"success": True, "result": {"expected_duration": float("nan")}}


class ReturnsGenerator(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return {"success": True, "result": {"nodes": self._nodes()}}

    def _nodes(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {"items": []}


class ReturnsCoroutine(_Bad):
    async def optimize(  # type: ignore[override]
        self, request_data: dict[str, Any], historical_data: Any = None
    ) -> dict[str, Any]:
        return {"success": True, "result": {}}


class ReturnsEndless(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = {}
        result["result"] = result
        return {"success": True, "result": result}


class Returns100MB(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return {"success": True, "result": {"nodes": ["x" * 100 * 2**20]}}


class NamesUnknownNode(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        tasks = request_data.get("tasks") or [request_data["task"]]
        if "task" in request_data:
            return {"success": True, "result": {"nodeId": "no-such-node"}}
        placements = [{"taskId": task["id"], "nodeId": "no-such-node"} for task in tasks]
        return {"success": True, "result": {"placements": placements}}


class PacksTooMuch(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        """Put everything, a million times, onto one node."""
        items = [{"id": item["id"], "count": 1_000_000} for item in request_data["items"]]
        return {"success": True, "result": {"nodes": [{"id": "n1", "items": items}]}}


class PrintsToStdout(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        print("\x00\xffrubbish " * 100)  # noqa: T201
        os.write(1, b"\x00\x00\x00\x05rubbish\n")
        return _no("all is printed")


class MutatesItsInput(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        request_data.get("nodeCapacity", {}).update(cpu=-1)
        for item in request_data.get("items", []):
            item.clear()
        for point in historical_data or ():
            point.duration = -1
            point.metadata.clear()
        request_data.clear()
        request_data["type"] = "ml-driven"
        return _no("all is changed")


class ReadsSecrets(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        found = [name for name in os.environ if any(word in name.upper() for word in SECRET_WORDS)]
        for path in (TOKEN, *Path("/proc/self/fd").iterdir()):
            try:
                # What an open descriptor leads to: of a file that was left open, its content.
                if stat.S_ISREG(path.stat().st_mode) and any(word in str(path.resolve()) for word in ("token", "kube")):
                    found.append(str(path.resolve()))
            except OSError:
                continue
        return _no(f"found {', '.join(found) or 'nothing'}")


def _sleep_forever() -> None:
    while True:
        try:
            time.sleep(3600)
        except BaseException:  # noqa: BLE001, S112 -- a plugin that does not let itself be disturbed
            continue


_forked: set[int] = set()


def _fork(*, away: bool) -> None:
    """Leave a process behind that holds everything this one has open; it never returns into the plugin's host.

    One for each process: a thousand rounds shall not make a thousand of them.
    """
    if os.getpid() in _forked:
        return
    _forked.add(os.getpid())
    if os.fork():
        return
    try:
        if away:
            os.setsid()
            if os.fork():
                os._exit(0)
        _sleep_forever()
    finally:
        os._exit(1)


class Forks(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        _fork(away=False)
        return _no("forked")


class ForksAway(_Bad):
    """Its processes have a session of their own, and no parent."""

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        _fork(away=True)
        return _no("forked")


class RaisesInInit(_Bad):
    def init(self, config: Any = None) -> None:
        raise OSError("the model's server does not answer")


class _ImportsForAMinute(_Bad):
    def __init__(self) -> None:
        MLPluginInterface.__init__(self, PluginMetadata("late", "1.0.0", "Comes late"), _Model("late"))


def __getattr__(name: str) -> Any:
    """Take the time that importing a large library takes. Whoever looks for the class waits."""
    if name == "ImportsForAMinute":
        time.sleep(60)
        return _ImportsForAMinute
    raise AttributeError(name)


class SleepsForever(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        _sleep_forever()
        return _no("never")


class IgnoresSigterm(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        _sleep_forever()
        return _no("never")


class SpinsForever(_Bad):
    """Holds the interpreter's lock in one long call, so that no thread beside it runs."""

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return _no(str(re.match("(?:a|a)*b", "a" * 100)))


class Allocates(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        chunk = 16 * 2**20
        held = [b"x" * chunk for _ in range(MOST_ALLOCATED_BYTES // chunk)]
        _sleep_forever()
        return _no(str(len(held)))


class Segfaults(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return _no(str(ctypes.string_at(0)))


class Exits(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        os._exit(0)


class WritesRubbish(_Bad):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        for path in list(Path("/proc/self/fd").iterdir()):
            number = int(path.name)
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, b"\xff" * 4096)
            except OSError:
                continue
        return _no("rubbish is written")


@dataclasses.dataclass
class _Amounts:
    cpu: int
    memory: int


def _amounts(fields: Mapping[str, Any]) -> _Amounts:
    """Return the amounts in whole nanos, as sums of floats are not exact."""
    return _Amounts(*(round(parse_quantity(fields[name]) * 10**9) for name in ("cpu", "memory")))


def _fits(amounts: _Amounts, free: _Amounts) -> bool:
    return amounts.cpu <= free.cpu and amounts.memory <= free.memory


class Good(BaseOptimizationPlugin):
    """Packs items first-fit, the largest first: `{items: [{id, cpu, memory, count?}], nodeCapacity: {cpu, memory}}`."""

    metadata = PluginMetadata("good", "1.0.0", "Packs first-fit", supported_types=["resource"])

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        if not {"items", "nodeCapacity"} <= request.data.keys():
            return self.refuse(request, "it packs items of a nodeCapacity only")
        capacity = _amounts(request.data["nodeCapacity"])
        items = [(item["id"], _amounts(item), item.get("count", 1)) for item in request.data["items"]]
        items.sort(key=lambda item: -max(item[1].cpu / capacity.cpu, item[1].memory / capacity.memory))
        nodes: list[tuple[_Amounts, Counter[str]]] = []
        for name, amounts, count in items:
            for _ in range(count if _fits(amounts, capacity) else 0):
                node = next((each for each in nodes if _fits(amounts, each[0])), None)
                if node is None:
                    node = dataclasses.replace(capacity), Counter()
                    nodes.append(node)
                free, held = node
                free.cpu -= amounts.cpu
                free.memory -= amounts.memory
                held[name] += 1
        packed = [
            {"id": f"node-{number}", "items": [{"id": name, "count": count} for name, count in held.items()]}
            for number, (_, held) in enumerate(nodes, 1)
        ]
        return self.answer(request, {"nodes": packed}, algorithm="first-fit")


class SleepySettings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    seconds: float = pydantic.Field(default=0.1, ge=0)


class Sleepy(Good):
    """Answers as `Good` does, after a while."""

    metadata = PluginMetadata("sleepy", "1.0.0", "Takes its time", supported_types=["resource"])
    config_schema: ClassVar[type[pydantic.BaseModel] | None] = SleepySettings

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        time.sleep(self.config["seconds"])
        return super().optimize(request, historical_data)
