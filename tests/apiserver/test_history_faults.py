"""What may go wrong around a history, with the whole operator at a real API server: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from history_objects import HistoryObjects, job
from history_operator import Clock, Keepers, end
from history_place import HistoryPlace, health, wait_until
from history_solves import Solves
from request_objects import RequestObjects

from engine_ops.devcluster import DevCluster
from engine_ops.history import names
from engine_ops.history.codec import FORMAT, unwrap, wrap
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from reserved_port import reserved_port

NEVER = "--history-flush-seconds=600"
ONE, TWO, THREE = (names.segment_name(sequence) for sequence in (1, 2, 3))
MERGE_PATCH = "application/merge-patch+json"


@pytest.fixture
def place(cluster: DevCluster, namespace: str) -> Iterator[HistoryPlace]:
    """The operator's namespace, which goes with the test."""
    name = f"{namespace}-own"
    cluster.kubectl("create", "namespace", name)
    with contextlib.closing(HistoryPlace(cluster, name, namespace)) as made:
        yield made
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def solves(cluster: DevCluster, namespace: str, place: HistoryPlace) -> Iterator[Solves]:
    """The requests, and where their points are awaited."""
    with contextlib.closing(Solves(cluster, namespace, HistoryObjects(cluster, namespace, place.name))) as made:
        yield made


@pytest.fixture
def keepers(cluster: DevCluster, namespace: str, place: HistoryPlace, tmp_path: Path) -> Iterator[Keepers]:
    """Operators of these namespaces; they end with the test."""
    with Keepers(cluster, namespace, place.name, tmp_path) as made:
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    """A port for an operator's probes."""
    with reserved_port() as held:
        yield held


@pytest.mark.usefixtures("node")
def test_config_maps_are_edited_and_deleted_by_hand_while_the_operator_runs(
    cluster: DevCluster, namespace: str, keepers: Keepers, place: HistoryPlace, solves: Solves, port: int
) -> None:
    seeded = place.seed(1200)
    operator = keepers.start(f"--probes=http://127.0.0.1:{port}/healthz")
    solves.make("waits", workloadRef={"kind": "Job", "name": "late"})
    solves.make_some("first", 5)
    wait_until(lambda: names.OPEN in place.versions(), "there are open points")
    solves.wait_answered()

    place.edit(names.HEAD, place.content(names.HEAD)[:-40])  # truncated
    solves.make_some("edited", 3)
    place.wait_condition("HistoryIntact", "False", "Damaged", names.HEAD)

    place.delete(names.HEAD)
    solves.make_some("deleted", 3)
    wait_until(lambda: names.HEAD in place.versions(), "the head is there again")

    place.delete(ONE)
    place.edit(TWO, b"scribbled")
    place.delete(names.OPEN)
    place.label_head("somebody", "was-here")
    solves.make("waits-too", workloadRef={"kind": "Job", "name": "late"})
    solves.make_some("lost", 3)
    wait_until(lambda: {ONE, TWO, names.OPEN} <= set(place.versions()), "what was deleted is there again")
    place.wait_condition("HistoryIntact", "False", "Damaged", TWO)

    open_content = place.content(names.OPEN)
    place.edit(names.OPEN, open_content[: len(open_content) // 2])
    solves.make("waits-also", workloadRef={"kind": "Job", "name": "late"})
    place.wait_condition("HistoryIntact", "False", "Damaged", names.OPEN)
    solves.wait_answered()
    wait_until(lambda: place.label(names.OPEN, names.COUNT) == "3", "the open points are there again")
    # What is answered is recorded a moment later, and kopf answers the same for ten seconds.
    everything = (len(seeded) + 5 + 3 + 3 + 3, 3)
    wait_until(lambda: tuple(map(health(port).get, ("points", "openPoints"))) == everything, "every point is recorded")
    numbers = health(port)
    assert (numbers["loaded"], numbers["damagedSegments"], numbers["missingSegments"]) == (True, 3, 0)
    assert numbers["conflicts"] >= 4

    end(operator)
    keepers.start()
    requests = RequestObjects(cluster, namespace)
    requests.kubectl("apply", "-f", "-", stdin=json.dumps(job("late", "1s")))
    points = solves.wait_kept(besides=seeded)
    assert len(points) == len(seeded) + 5 + 3 + 3 + 3 + 3
    assert {
        point["metadata"]["outcome"]["of"] for point in points if point["metadata"]["name"].startswith("waits")
    } == {"workload"}


def test_config_maps_are_edited_and_deleted_by_hand_between_two_operators(
    keepers: Keepers, place: HistoryPlace, solves: Solves
) -> None:
    place.seed(1700)  # three segments and the head
    first = keepers.start()
    solves.make_some("first", 5)
    solves.make("waits", workloadRef={"kind": "Job", "name": "never"})
    solves.wait_answered()
    wait_until(lambda: place.label(names.HEAD, names.COUNT) == "205", "what was answered is in the head")
    wait_until(lambda: place.label(names.OPEN, names.COUNT) == "1", "what waits is written, too")
    end(first)

    truncated = place.content(ONE)[:-100]
    place.edit(ONE, truncated)
    place.delete(TWO)
    place.delete(names.OPEN)
    place.edit(names.HEAD, b"")
    keepers.start("--outcome-window-seconds=1")
    message = place.wait_condition("HistoryIntact", "False", "Damaged", ONE, names.HEAD, "segment 2 is missing")
    assert THREE not in message
    # Those of the lost segments are gone for good. What finished requests tell is made anew, the open one too.
    solves.make("later")
    points = solves.wait_kept(besides={f"seed-{number}" for number in range(1000, 1500)})
    assert len(points) == 500 + 5 + 1 + 1
    kept = {name: place.content(name) for name in place.versions() if names.is_damaged_name(name)}
    assert truncated in kept.values(), "what could not be read is kept for people"


def test_another_client_writes_the_head_all_the_time(
    cluster: DevCluster, keepers: Keepers, place: HistoryPlace, solves: Solves, port: int
) -> None:
    seeded = place.seed(450)
    keepers.start(f"--probes=http://127.0.0.1:{port}/healthz")
    with Toucher(cluster, place.name) as toucher:
        wait_until(lambda: toucher.count > 20, "the head is being written")
        for number in range(10):
            solves.make_some(f"some-{number}", 10)
        solves.wait_answered()
        # It may get a write in between; what counts is that nothing is lost, and that requests are answered.
        wait_until(lambda: toucher.count > 500, "the head was written often")
        further = itertools.count()

        def in_conflict() -> bool:
            solves.make(f"further-{next(further)}")
            return bool(health(port)["conflicts"] > 1)

        wait_until(in_conflict, "the operator has met the other client")
    points = solves.wait_kept(besides=seeded)
    assert len(points) == len(seeded) + 100 + next(further)
    place.wait_condition("HistoryWritable", "True", "Writable")


def test_a_full_quota(keepers: Keepers, place: HistoryPlace, solves: Solves) -> None:
    first = keepers.start()
    wait_until(lambda: bool(place.conditions()), "the operator's own status is there")
    place.forbid_config_maps()
    solves.make_some("kept", 5)
    solves.make("goes", ttlSecondsAfterFinished=0)
    solves.make("waits", workloadRef={"kind": "Job", "name": "never"})
    solves.wait_answered()
    place.wait_condition("HistoryWritable", "False", "Refused", "exceeded quota")
    solves.change("kept-0", cpu=4)
    solves.change("kept-0", cpu=8)
    solves.wait_answered()
    assert place.versions() == {}
    end(first)

    keepers.start("--outcome-window-seconds=1")
    solves.make_some("later", 5)
    solves.wait_answered()
    place.wait_condition("HistoryWritable", "False", "Refused", "exceeded quota")
    assert "goes" in {item["metadata"]["name"] for item in solves.note()}, "its point is not written yet"
    place.allow_config_maps()
    solves.wait_kept()
    place.wait_condition("HistoryWritable", "True", "Writable")
    wait_until(lambda: "goes" not in {item["metadata"]["name"] for item in solves.note()}, "it is deleted now")


def test_a_full_quota_where_a_segment_is_to_be_made(keepers: Keepers, place: HistoryPlace, solves: Solves) -> None:
    seeded = place.seed(497)
    first = keepers.start()
    wait_until(lambda: bool(place.conditions()), "the operator's own status is there")
    place.forbid_config_maps()
    solves.make_some("some", 20)
    solves.wait_answered()
    place.wait_condition("HistoryWritable", "False", "Refused", "exceeded quota")
    assert ONE not in place.versions()
    end(first)
    keepers.start()
    place.wait_condition("HistoryWritable", "False", "Refused", "exceeded quota")
    place.allow_config_maps()
    points = solves.wait_kept(besides=seeded)
    assert len(points) == len(seeded) + 20
    assert ONE in place.versions()


def test_a_segment_of_a_later_version_is_never_overwritten(
    keepers: Keepers, place: HistoryPlace, solves: Solves
) -> None:
    seeded = place.seed(600)
    first = keepers.start()
    solves.make_some("some", 3)
    solves.wait_kept(besides=seeded)
    # An operator of a later version has written here, while this one still runs.
    present = place.content(ONE)
    _, content = unwrap(present)
    place.edit(ONE, wrap(bytes(content) + b"what is not known yet", FORMAT + 1))
    place.label_head("somebody", "was-here")
    versions = place.versions()
    solves.make_some("meanwhile", 3)
    place.wait_condition("HistoryWritable", "False", "FutureFormat", ONE, "upgrade the operator")
    end(first)
    keepers.start()
    solves.make_some("again", 3)
    solves.change("some-0", cpu=4)
    solves.wait_answered()
    place.wait_condition("HistoryWritable", "False", "FutureFormat", ONE, "upgrade the operator")
    solves.make("goes", ttlSecondsAfterFinished=0)
    solves.wait_answered()
    assert place.versions() == versions, "nothing was written"
    place.edit(ONE, present)
    points = solves.wait_kept(besides=seeded)
    assert len(points) == len(seeded) + 3 + 3 + 3 + 1 + 1
    place.wait_condition("HistoryWritable", "True", "Writable")


def test_a_clock_that_steps_back_and_far_ahead(
    keepers: Keepers, place: HistoryPlace, solves: Solves, tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "clock")
    seeded = place.seed(100)
    # Ahead, back and ahead again while one runs, which writes everything; then others, which write nothing and end.
    operator = keepers.start(clock=clock)
    for number, hours in enumerate((0, 10, -1, 3)):
        clock.move(hours)
        solves.make_some(f"run-{number}", 4)
        solves.change_all(cpu=2 + number)
        solves.wait_answered()
    solves.wait_kept(besides=seeded)
    for number, hours in enumerate((-2, 1, -5)):
        end(operator)
        clock.move(hours)
        operator = keepers.start(NEVER, clock=clock)
        solves.make_some(f"lost-{number}", 4)
        solves.change("run-0-0", cpu=16 + number)
        solves.wait_answered()
    end(operator)
    clock.move(-20)
    operator = keepers.start(clock=clock)
    clock.move(-30)
    solves.change_all(cpu=32)
    moments_ms = [point["timestamp"] for point in solves.wait_kept(besides=seeded)]
    assert max(moments_ms) - min(moments_ms) > 39 * 3600e3, "the clock was moved"


def test_two_operators_at_once(keepers: Keepers, place: HistoryPlace, solves: Solves) -> None:
    seeded = place.seed(490)
    one, other = (keepers.start(lease=lease, wait=False) for lease in ("one", "other"))
    for operator in (one, other):
        operator.wait_for_line("^watching")
    solves.make("standing", intervalSeconds=10)
    for number in range(6):
        solves.make_some(f"some-{number}", 10)
        solves.change_all(cpu=2 + number)
        solves.note()
        if number == 3:
            end(one)
            one = keepers.start(lease="one")
    solves.wait_answered()
    wait_until(lambda: solves.runs("standing") >= 2, "it was answered again")
    solves.wait_kept(besides=seeded)


def test_an_operator_that_is_told_to_stop_writes_what_it_has(
    keepers: Keepers, place: HistoryPlace, solves: Solves
) -> None:
    seeded = place.seed(10)
    operator = keepers.start(NEVER)
    solves.make_some("some", 5)
    solves.wait_answered()
    assert place.label(names.HEAD, names.COUNT) == "10"
    assert operator.stop() == 0
    assert len(solves.wait_kept(besides=seeded)) == len(seeded) + 5


class Toucher:
    """A client that puts an annotation on the head again and again, as fast as it can.

    Parameters
    ----------
    cluster, namespace
        Where the head is.
    """

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self._kubeconfig = str(cluster.kubeconfig)
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{names.HEAD}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="toucher")
        self.count = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        connection = await Connection.open(self._kubeconfig)
        try:
            for number in itertools.count():
                if self._over.is_set():
                    return
                body = json.dumps({"metadata": {"annotations": {"touched": str(number)}}}).encode()
                with contextlib.suppress(ApiError, UnavailableError):  # it conflicts itself now and then
                    await connection.request("PATCH", self._path, body=body, content_type=MERGE_PATCH)
                    self.count += 1
        finally:
            await connection.close()
