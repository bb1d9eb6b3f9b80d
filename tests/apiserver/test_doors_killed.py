"""The operator ends, by signal 9 or when told to, while questions come in over HTTP."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import logging
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests
from api_world import ApiWorld, api_world
from history_objects import HistoryObjects, Point, key_of
from plugin_objects import own_errors
from request_objects import SMALL, hard
from waiting import wait_until

from engine_ops import EngineOpsClient, OptimizationResult
from engine_ops.client import BusyError, EngineOpsError, UnreachableError
from engine_ops.devcluster import DevCluster

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("ENGINE_OPS_KILLS", "4"))
ASKERS = 3
WAIT_SECONDS = 60.0


@pytest.fixture
def world(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[ApiWorld]:
    with api_world(cluster, operator_kubeconfig, "--workers=2", "--history-flush-seconds=0.5") as made:
        yield made


def numbered(request_id: str, number: int) -> dict[str, Any]:
    """Return a question that nobody has asked: what the cache answers is no point of the history."""
    data = {**SMALL, "nodeCapacity": {"cpu": 2, "memory": f"{8192 + number}Mi"}}
    return {"id": request_id, "type": "resource", "data": data, "searchSeconds": 0}


def by_id(points: list[Point]) -> collections.Counter[str]:
    """Count the points of each question."""
    return collections.Counter(p["metadata"]["requestId"] for p in points if "requestId" in p["metadata"])


class Askers:
    """Ask on and on, each question until it has been answered. A context manager.

    Parameters
    ----------
    world
        Whom.
    """

    def __init__(self, world: ApiWorld) -> None:
        self._world = world
        self._token = world.users.token("editor")
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), name=f"asker {n}") for n in range(ASKERS)]
        self.answered: dict[str, int] = {}
        """By id: how many attempts had been in vain before the answer."""
        self.refusals: collections.Counter[str] = collections.Counter()
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(2 * WAIT_SECONDS)
            assert not thread.is_alive(), f"{thread.name} waits for ever"

    def _run(self, asker: int) -> None:
        try:
            with self._world.client(self._token, timeout=20) as client:
                number = 0
                while not self._over.wait(0.02):
                    number += 1
                    self._ask(client, f"{asker}-{number}", number * ASKERS + asker)
        except BaseException as error:  # noqa: BLE001 - the test raises it, in its own thread
            self.errors.append(error)

    def _ask(self, client: EngineOpsClient, request_id: str, number: int) -> None:
        in_vain = 0
        while True:
            try:
                answer = client.optimize(numbered(request_id, number))
            except (UnreachableError, BusyError) as error:
                in_vain += 1
                self.refusals[type(error).__name__] += 1
                self._over.wait(0.02)
                if in_vain > 20 * WAIT_SECONDS and self._over.is_set():
                    raise
                continue
            assert (answer.request_id, answer.success) == (request_id, True)
            assert answer.result["nodeCount"] == 2
            self.answered[request_id] = in_vain
            return


def test_kill_9_among_questions_loses_no_flushed_answer_and_doubles_none(world: ApiWorld) -> None:
    history = HistoryObjects(world.cluster, world.namespace)
    instants = random.Random(8)
    flushed: set[str] = set()
    with Askers(world) as askers:
        for _ in range(KILLS):
            before = set(askers.answered)
            # Flushed, and so are points of this life: of questions that were acknowledged first.
            acknowledged = wait_until(
                lambda b=before: set(askers.answered) - b, lambda new: len(new) >= 20 or askers.errors, "answers"
            )
            assert not askers.errors, askers.errors
            points = history.wait(lambda found, new=acknowledged: new & by_id(found).keys() != set())
            flushed |= by_id(points).keys() & askers.answered.keys()
            threading.Event().wait(instants.uniform(0, 0.7))
            refused = askers.refusals["UnreachableError"]
            world.operator.kill9()
            world.operator.stop()  # what is left of its workers
            assert world.operator.returncode == -signal.SIGKILL
            wait_until(lambda: askers.refusals["UnreachableError"], lambda now, n=refused: now > n, "it is missed")
            world.restart()
    assert not askers.errors, askers.errors
    with world.client(world.users.token("editor")) as client:
        shown = collections.Counter(point.metadata["requestId"] for point in client.export())
    # What was acknowledged in the last life is flushed in the end; what was flushed in any is there. The API shows the
    # same as the ConfigMaps hold: it shows what is not flushed yet, too, and nobody asks any more.
    points = history.wait(lambda found: by_id(found).total() >= shown.total(), WAIT_SECONDS)
    counts = by_id(points)
    logger.info("%d kills, %d answers, %d seen in the history before one", KILLS, len(askers.answered), len(flushed))
    assert len(flushed) >= KILLS, "each life had one at least"
    assert flushed <= counts.keys()
    assert not [key for key, count in collections.Counter(map(key_of, points)).items() if count != 1]
    # Asked once, there once at most. Who asks again after an answer that was lost on its way has asked twice.
    assert not {i: n for i, n in counts.items() if n > 1 + askers.answered.get(i, 0)}
    assert shown == counts


LONG: dict[str, Any] = {"type": "resource", "searchSeconds": 120, "timeoutSeconds": 300}
SHORT: dict[str, Any] = {"type": "resource", "searchSeconds": 5, "timeoutSeconds": 300}
"""As long as what is short can be."""


class Waiting:
    """A question that is being asked by a thread of its own.

    Parameters
    ----------
    world, token, question
        What is asked.
    """

    def __init__(self, world: ApiWorld, token: str, question: dict[str, Any]) -> None:
        self.status: int | None = None
        self.body: dict[str, Any] = {}
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._ask, args=(world, token, question))
        self._thread.start()

    def _ask(self, world: ApiWorld, token: str, question: dict[str, Any]) -> None:
        try:
            answer = requests.post(
                f"{world.address}/api/v1/optimize",
                json=question,
                headers={"Authorization": f"Bearer {token}"},
                verify=str(world.ca),
                timeout=2 * WAIT_SECONDS,
            )
            self.status, self.body = answer.status_code, answer.json()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    @property
    def ended(self) -> bool:
        """Whether there is an answer, or an error."""
        return not self._thread.is_alive()

    def end(self) -> None:
        """Wait until it has ended."""
        self._thread.join(WAIT_SECONDS)
        assert self.ended, "it waits for ever"


class Crowd:
    """Questions that take all places: what is short is asked anew, by another name, when it has been answered.

    Parameters
    ----------
    world, token
        Who asks whom.
    """

    def __init__(self, world: ApiWorld, token: str) -> None:
        self._world = world
        self._token = token
        self._numbers = itertools.count(2)
        self.asked = [self._ask("long", LONG, 0)]
        self._short: list[Waiting] = []

    def fill(self) -> None:
        """Have one long question and two short ones be under way, or on their way."""
        for each in [short for short in self._short if short.ended]:
            self._short.remove(each)
        while len(self._short) < 2:
            number = next(self._numbers)
            self._short.append(self._ask(f"short-{number}", SHORT, number))
            self.asked.append(self._short[-1])

    @property
    def answered(self) -> list[dict[str, Any]]:
        """The answers so far."""
        return [each.body for each in self.asked if each.ended and each.status == 200]

    def _ask(self, request_id: str, how: dict[str, Any], seed: int) -> Waiting:
        # Each has its own data: what has been answered is answered from the cache.
        return Waiting(self._world, self._token, {"id": request_id, "data": hard(seed), **how})


@dataclasses.dataclass
class Followed:
    """What a thread has read of an asynchronous request's events."""

    told: list[Any] = dataclasses.field(default_factory=list)
    error: Exception | None = None

    def read(self, client: EngineOpsClient, request_id: str) -> None:
        """Read them."""
        try:
            self.told.extend(client.events(request_id))
        except EngineOpsError as error:
            self.error = error


def test_told_to_end_it_answers_what_is_in_flight(world: ApiWorld) -> None:
    token = world.users.token("editor")
    followed = Followed()
    with world.client(token) as client, world.client(world.users.token("admin")) as admin:
        client.submit({"id": "followed", "data": hard(), **LONG})
        wait_until(lambda: client.state("followed").progress, bool, "there is an answer")
        reader = threading.Thread(target=followed.read, args=(client, "followed"))
        reader.start()
        # Long searches have half of the places, and one worker of two; what is short is answered beside them.
        crowd = Crowd(world, token)
        others = itertools.count(1)

        def turned_away() -> bool:
            """Ask once more while all are in flight; by then a short one may have made room."""
            crowd.fill()
            if admin.metrics()["inFlight"] != {"now": 4, "most": 4}:
                return False
            number = next(others)
            busy = world.curl(token, "POST", "/api/v1/optimize", numbered(f"too-many-{number}", number))
            if busy.status == 200:
                return False
            assert (busy.status, busy.json["type"].rpartition(":")[2]) == (503, "busy")
            assert int(busy.headers["retry-after"]) >= 1
            return True

        # One has ended by itself: the worker for short ones is at work.
        wait_until(lambda: turned_away() and crowd.answered, bool, "all are in flight, and one more is turned away")
        # Those that nobody has a place for do not stand in the way of a look.
        wait_until(lambda: client.health()["status"], lambda status: status == "ok", "health")
        assert world.operator.stop() in (0, -signal.SIGTERM)
        reader.join(WAIT_SECONDS)
        assert not reader.is_alive(), "the events never end"
        for each in crowd.asked:
            each.end()
    assert not [each.error for each in crowd.asked if each.error], "nobody's connection is cut"
    assert {each.status for each in crowd.asked} <= {200, 503}
    for body in crowd.answered:
        assert body["success"] is (body["result"] is not None)
        # What is short may end by itself before the operator does.
        assert body["success"] is False or body.get("cutOff") or body["requestId"] != "long"
    for each in crowd.asked:
        if each.status == 503:
            assert each.body["title"], each.body
    last = followed.told[-1]
    assert isinstance(last, OptimizationResult), followed
    assert last.success
    assert last.cut_off
    # What was answered on the way out is in the history.
    kept = by_id(HistoryObjects(world.cluster, world.namespace).points())
    assert {"followed", *(body["requestId"] for body in crowd.answered if body["success"])} <= kept.keys()
    assert set(kept.values()) == {1}
    assert not own_errors(world.operator)
    assert "Traceback" not in world.operator.stderr, json.dumps(world.operator.stderr)


def test_killed_and_started_again_it_knows_no_asynchronous_request_and_says_so(world: ApiWorld) -> None:
    with world.client(world.users.token("editor")) as client:
        client.submit({"id": "lost", "data": hard(), **LONG})
        wait_until(lambda: client.state("lost").progress, bool, "there is an answer")
        world.operator.kill9()
        with pytest.raises(UnreachableError):
            client.state("lost")
        world.operator.stop()
        world.restart()
        with pytest.raises(EngineOpsError) as gone:
            client.state("lost")
        assert gone.value.status == 404
        assert client.submit(numbered("lost", 5)).status in {"running", "done"}
