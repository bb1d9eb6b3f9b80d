"""One task, answered in this process; and the solvers that the tests of the pool preload."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
import queue
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine_ops.api.faults import Fault, InvalidDataError, WaitingError
from engine_ops.api.reasons import WAITING, Reason
from engine_ops.engine import solvers
from engine_ops.engine.contract import Answer, Budget, Report
from engine_ops.workers import solve
from engine_ops.workers import throttle as throttle_module
from engine_ops.workers.frames import encode_frame
from engine_ops.workers.messages import Failed, Outcome, Solved, SolveTask
from engine_ops.workers.solve import evaluate
from engine_ops.workers.throttle import Throttle


class TrialSolver:
    """Does what ``data.do`` says."""

    def solve(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, report: Report) -> Answer:
        action: Callable[..., Answer] = getattr(self, data.get("do", "echo"))
        return action(data, constraints, budget, report)

    def echo(self, data: Mapping[str, Any], constraints: Mapping[str, Any], budget: Budget, _report: Report) -> Answer:
        return answer({"data": data, "constraints": constraints, "seed": budget.seed, "steps": budget.max_steps})

    def climb(self, data: Mapping[str, Any], _constraints: object, _budget: Budget, report: Report) -> Answer:
        """Report an answer, say so where the test listens, then work until killed."""
        report(lambda: answer({"pid": os.getpid()}, objective=float(data.get("objective", 7))))
        if "reached" in data:
            Path(data["reached"]).write_text(str(os.getpid()), encoding="ascii")
        while True:
            time.sleep(0.01)

    def hoard(self, data: Mapping[str, Any], _constraints: object, _budget: Budget, report: Report) -> Answer:
        """Take memory and keep it."""
        report(lambda: answer({"first": True}))
        hoard = np.ones(int(data["bytes"]), dtype=np.uint8)
        while data.get("wait", True):
            time.sleep(0.01)
        return answer({"pid": os.getpid(), "sum": int(hoard[::4096].sum())})

    def facts(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        np.ones((300, 300)) @ np.ones((300, 300))
        descriptors = {}
        for entry in Path("/proc/self/fd").iterdir():
            try:
                descriptors[entry.name] = str(entry.readlink())
            except FileNotFoundError:
                continue  # the listing's own
        return answer(
            {
                "pid": os.getpid(),
                "niceness": os.getpriority(os.PRIO_PROCESS, 0),
                "core": resource.getrlimit(resource.RLIMIT_CORE),
                "threads": int(status.split("Threads:")[1].split()[0]),
                "environment": {name: os.environ.get(name) for name in names},
                "descriptors": descriptors,
                "group": os.getpgid(0),
                "oomScore": Path("/proc/self/oom_score_adj").read_text(encoding="ascii").strip(),
            }
        )

    def invalid(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        raise InvalidDataError(
            [Fault("data.items[3].cpu", "must not be negative"), Fault("constraints.strategy", "unknown")]
        )

    def wait(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        raise WaitingError(Reason.NOT_ENOUGH_DATA, "3 of 10 points")

    def crash(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        raise ZeroDivisionError("a secret of the data")

    def quit(self, data: Mapping[str, Any], _constraints: object, _budget: Budget, _report: Report) -> Answer:
        os._exit(int(data["code"]))

    def beget(self, data: Mapping[str, Any], _constraints: object, _budget: Budget, _report: Report) -> Answer:
        """Start a process; work until killed, or leave it behind with this worker's socket."""
        if data.get("fork"):
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)
                time.sleep(600)
                os._exit(0)
        else:
            pid = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid
        Path(data["reached"]).write_text(str(pid), encoding="ascii")
        if "code" in data:
            os._exit(int(data["code"]))
        while True:
            time.sleep(0.01)

    def size(self, data: Mapping[str, Any], _constraints: object, _budget: Budget, report: Report) -> Answer:
        text = "ab" * (int(data["bytes"]) // 2)
        if data.get("random"):
            text = np.random.default_rng(0).bytes(int(data["bytes"]) // 2).hex()
        report(lambda: answer({"text": text}))
        return answer({"text": text}, summary={"short": True})

    def slips(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        return answer(
            {"a": np.float64(1.5), "b": np.int64(2), "c": np.arange(3), "d": np.bool_(True)},
            objective=np.float64(3),
            score=np.float64(0.5),
            gap=float("inf"),
            lower_bound=float("nan"),
        )

    def strange(self, _data: object, _constraints: object, _budget: Budget, _report: Report) -> Answer:
        return answer({"a": object()})


def answer(result: Mapping[str, Any], **fields: Any) -> Answer:
    return Answer(result=result, algorithm="trial", message="tried", **fields)


def register() -> None:
    """Add the type `trial`; preloaded by the tests of the pool."""
    solvers._HOMES["trial"] = ("test_workers_solve", "TrialSolver")
    solve.TYPES = (*solvers.TYPES, "trial")


@pytest.fixture(autouse=True)
def _trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(solvers._HOMES, "trial", (__name__, "TrialSolver"))
    monkeypatch.setattr(solve, "TYPES", (*solvers.TYPES, "trial"))


def trial(data: Mapping[str, Any] | bytes, **fields: Any) -> SolveTask:
    encoded = data if isinstance(data, bytes) else json.dumps(data).encode()
    return SolveTask("t", "trial", encoded, **fields)


def solved(outcome: Outcome) -> Solved:
    assert isinstance(outcome, Solved), outcome
    return outcome


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def test_an_answer_is_encoded_compactly_with_all_that_status_needs() -> None:
    got = solved(evaluate(trial({"x": [1, 2]}, constraints=b'{"y": 1}', seed=5, max_steps=9)))
    assert got.result == b'{"data":{"x":[1,2]},"constraints":{"y":1},"seed":5,"steps":9}'
    assert got.size_bytes == len(got.result)
    assert got.compressed is None
    assert (got.reason, got.message, got.algorithm) == ("Solved", "tried", "trial")
    assert got.version
    assert got.duration_ms >= 0


def test_absent_constraints_are_empty() -> None:
    assert json.loads(solved(evaluate(trial({}))).result)["constraints"] == {}


def test_yaml_is_read_where_the_task_allows_it() -> None:
    assert json.loads(solved(evaluate(trial(b"cpu: 500m\n", data_format="json-or-yaml"))).result)["data"] == {
        "cpu": "500m"
    }
    got = failed(evaluate(trial(b"cpu: 500m\n")))
    assert got.reason == Reason.INVALID_DATA
    assert got.message.startswith("spec.data: is not JSON")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": b"[]"}, "here: must be an object, is a list"),
        ({"data": b"{}", "constraints": b"3"}, "there: must be an object, is a number"),
    ],
)
def test_what_is_no_object_is_named_by_its_path(fields: dict[str, Any], message: str) -> None:
    got = failed(evaluate(trial(**fields, data_path="here", constraints_path="there")))
    assert (got.reason, got.message, got.waiting) == (Reason.INVALID_DATA, message, False)


def test_paths_in_faults_are_those_of_the_resource() -> None:
    got = failed(evaluate(trial({"do": "invalid"}, data_path="spec.dataFrom")))
    assert got.faults == (
        ("spec.dataFrom.items[3].cpu", "must not be negative"),
        ("spec.constraints.strategy", "unknown"),
    )
    assert got.message == "spec.dataFrom.items[3].cpu: must not be negative; spec.constraints.strategy: unknown"
    assert not got.waiting


def test_waiting_is_not_failing() -> None:
    got = failed(evaluate(trial({"do": "wait"})))
    assert (got.reason, got.message, got.waiting) == (Reason.NOT_ENOUGH_DATA, "3 of 10 points", True)
    assert got.reason in WAITING


def test_a_type_without_solver_is_an_invalid_field() -> None:
    got = failed(evaluate(SolveTask("t", "astrology", b"{}")))
    assert got.faults[0][0] == "spec.type"
    assert "astrology" in got.message


def test_an_unexpected_exception_names_its_type_only_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        got = failed(evaluate(trial({"do": "crash"})))
    assert got.reason == Reason.SOLVER_CRASHED
    assert "ZeroDivisionError" in got.message
    assert "secret" not in got.message
    assert "a secret of the data" in caplog.text


def test_numpy_never_leaks_into_messages() -> None:
    got = solved(evaluate(trial({"do": "slips"})))
    assert json.loads(got.result) == {"a": 1.5, "b": 2, "c": [0, 1, 2], "d": True}
    assert [type(value) for value in (got.objective, got.score)] == [float, float]
    assert (got.gap, got.lower_bound) == (None, None)
    assert msgspec.msgpack.decode(encode_frame(got)[4:], type=Solved) == got


def test_a_result_that_is_no_json_is_the_solvers_fault(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        got = failed(evaluate(trial({"do": "strange"})))
    assert got.reason == Reason.SOLVER_CRASHED
    assert "must be JSON values, not object" in caplog.text


def test_a_large_result_comes_compressed_with_its_summary() -> None:
    got = solved(evaluate(trial({"do": "size", "bytes": 50_000})))
    assert got.compressed is not None
    whole = gzip.decompress(got.compressed)
    assert len(whole) == got.size_bytes > 32768
    assert len(json.loads(whole)["text"]) == 50_000
    assert json.loads(got.result) == {"short": True}


def test_the_inline_limit_holds_to_the_byte() -> None:
    size_bytes = solved(evaluate(trial({"do": "size", "bytes": 100}))).size_bytes
    assert solved(evaluate(trial({"do": "size", "bytes": 100}, inline_limit_bytes=size_bytes))).compressed is None
    assert solved(evaluate(trial({"do": "size", "bytes": 100}, inline_limit_bytes=size_bytes - 1))).compressed


def test_a_result_too_large_to_be_stored_is_refused_and_is_no_incumbent() -> None:
    offered = []
    task = trial({"do": "size", "bytes": 400_000, "random": True}, stored_limit_bytes=100_000)
    got = failed(evaluate(task, lambda encode: offered.append(encode())))
    assert got.reason == Reason.RESULT_TOO_LARGE
    assert "100000" in got.message
    assert offered == [None]


def test_better_answers_are_encoded_only_when_they_are_wanted() -> None:
    offered: list[Callable[[], Solved | None]] = []
    evaluate(trial({"do": "size", "bytes": 10}), offered.append)
    (encode,) = offered
    incumbent = encode()
    assert incumbent is not None
    assert len(json.loads(incumbent.result)["text"]) == 10


INTERVAL_SECONDS = 3600.0
"""It passes where a test says so."""


class HandAlarm:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.calls: dict[int, tuple[float, Callable[[], None]]] = {}
        self._numbers = itertools.count()

    def set(self, due: float, call: Callable[[], None]) -> int:
        number = next(self._numbers)
        self.calls[number] = due, call
        return number

    def cancel(self, number: int) -> None:
        del self.calls[number]


@pytest.fixture
def alarm(monkeypatch: pytest.MonkeyPatch) -> HandAlarm:
    """Take the place of the process's own."""
    by_hand = HandAlarm()
    monkeypatch.setattr(throttle_module, "ALARM", by_hand)
    return by_hand


class TestThrottle:
    """The first at once, then the newest after a while, and nothing after the end."""

    def test_the_first_is_sent_at_once_and_the_newest_follows(self, alarm: HandAlarm) -> None:
        sent: list[int] = []
        throttle: Throttle[int] = Throttle(sent.append, interval_seconds=INTERVAL_SECONDS)
        throttle.offer(lambda: 1)
        assert sent == [1]
        began = time.monotonic()
        for value in range(2, 10):
            throttle.offer(lambda value=value: value)
        assert sent == [1]
        ((due, call),) = alarm.calls.values()
        assert began < due <= time.monotonic() + INTERVAL_SECONDS
        call()
        throttle.finish()
        assert sent == [1, 9]

    def test_where_the_first_waits_nothing_is_sent_before_the_end_nor_after_it(self, alarm: HandAlarm) -> None:
        sent: list[int] = []
        throttle: Throttle[int] = Throttle(sent.append, first_at_once=False, interval_seconds=INTERVAL_SECONDS)
        throttle.offer(lambda: 1)
        ((_, call),) = alarm.calls.values()
        throttle.finish()
        assert not alarm.calls
        throttle.offer(lambda: 2)
        assert not alarm.calls
        call()  # as one does that had begun when it was cancelled
        assert sent == []

    def test_an_error_of_the_builder_is_logged_and_costs_one_value(self, caplog: pytest.LogCaptureFixture) -> None:
        sent: queue.Queue[int] = queue.Queue()
        throttle: Throttle[int] = Throttle(sent.put, interval_seconds=0.01)

        def broken() -> int:
            raise ZeroDivisionError("no answer")

        with caplog.at_level(logging.ERROR):
            throttle.offer(broken)
        assert "no answer" in caplog.text
        throttle.offer(lambda: 3)
        assert sent.get(timeout=60) == 3
        throttle.finish()
        assert sent.empty()
