"""The cache of the live cluster on a real API server: what was written is in the next snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine_ops.api.faults import WaitingError
from engine_ops.devcluster import DevCluster
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.kube.cluster_cache import ClusterCache
from engine_ops.kube.connection import Connection

RBAC = "/apis/rbac.authorization.k8s.io/v1"
SEES = [{"apiGroups": [""], "resources": ["nodes", "pods", "namespaces"], "verbs": ["get", "list", "watch"]}]
WAIT_SECONDS = 60.0
MOST_LATE = 5
"""So often the quiet time doubles before it is at its longest; see `engine_ops.kube.watch.Watch.fresh`."""
SEES_NO_PODS = [{"apiGroups": [""], "resources": ["nodes", "namespaces"], "verbs": ["get", "list", "watch"]}]


@pytest.fixture(scope="module")
def plane() -> Iterator[DevCluster]:
    """etcd and an API server only: pods do nothing here, and the API server can be held."""
    with DevCluster.start(components=("etcd", "kube-apiserver")) as started:
        yield started


@contextlib.asynccontextmanager
async def caching(kubeconfig: Path, **options: Any) -> AsyncIterator[ClusterCache]:
    connection = await Connection.open(str(kubeconfig))
    cache = ClusterCache(connection, **options)
    try:
        yield cache
    finally:
        await cache.close()
        await connection.close()
        assert len(asyncio.all_tasks()) == 1


def run(check: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(120):
            await check()
        # A connection whose handshake was cut short is closed a few turns of the loop later.
        watched = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
        deadline = time.monotonic() + WAIT_SECONDS
        while len(watched) > 1:  # the loop's own pipe
            assert time.monotonic() < deadline, "a connection is left open"
            await asyncio.sleep(0.01)

    asyncio.run(main())
    gc.collect()


def pod(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]},
    }


def pods_of(snapshot: ClusterSnapshot, namespace: str) -> dict[str, str]:
    """Name to node."""
    return {row.name: row.node for row in snapshot.pods if snapshot.kinds[row.kind].namespace == namespace}


def late(cache: ClusterCache) -> int:
    """How often an event came after it had been taken for seen."""
    return sum(counters.late for counters in cache.counters.values())


async def next_snapshot(cache: ClusterCache, holds: Callable[[ClusterSnapshot], object]) -> ClusterSnapshot:
    """Return the next snapshot, in which something that was written before is to be seen.

    An API server that is held up between the headers of an answer and what belongs behind them is believed too early.
    The cache says so when what it has missed comes, and waits longer from then on: it can be so a few times, and
    each time is told.
    """
    before, missed, deadline = late(cache), 0, time.monotonic() + WAIT_SECONDS
    while not holds(snapshot := await cache.snapshot(timeout_seconds=WAIT_SECONDS)):
        missed += 1
        assert time.monotonic() < deadline, "it is not in the snapshots"
    assert late(cache) > before or not missed, "an old view, and nobody says so"
    assert late(cache) <= MOST_LATE
    return snapshot


@pytest.fixture
def space(plane: DevCluster, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-")[:60].strip("-")
    with plane.client() as client:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": "a"}}}
        client.request("POST", "/api/v1/namespaces", body)
    return name


def test_what_was_written_is_in_the_next_snapshot(plane: DevCluster, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"

    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:
            assert not cache.running
            assert cache.age_seconds is None
            with plane.client() as client:
                for number in range(25):
                    name = f"p{number}"
                    await asyncio.to_thread(client.request, "POST", path, pod(name))
                    await next_snapshot(cache, lambda seen, name=name: pods_of(seen, space).get(name) == "")
                    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "somewhere"}}
                    await asyncio.to_thread(client.request, "POST", f"{path}/{name}/binding", binding)
                    await next_snapshot(cache, lambda seen, name=name: pods_of(seen, space).get(name) == "somewhere")
                    if number % 2:
                        await asyncio.to_thread(client.request, "DELETE", f"{path}/{name}?gracePeriodSeconds=0")
                        await next_snapshot(cache, lambda seen, name=name: name not in pods_of(seen, space))
                snapshot = await cache.snapshot(timeout_seconds=WAIT_SECONDS)
                assert len(pods_of(snapshot, space)) == 13
                assert snapshot.namespaces[space]["team"] == "a"
                assert await cache.snapshot(timeout_seconds=WAIT_SECONDS) is snapshot
                assert cache.age_seconds is not None
                assert cache.age_seconds < 60
                assert {name: counters.lists for name, counters in cache.counters.items()} == {
                    "nodes": 1,
                    "pods": 1,
                    "namespaces": 1,
                }

    run(check)


def test_nodes_come_change_and_go(plane: DevCluster) -> None:
    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:
            with plane.client() as client:
                node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "changing"}}
                await asyncio.to_thread(client.request, "POST", "/api/v1/nodes", node)
                await next_snapshot(cache, lambda seen: [node.name for node in seen.nodes] == ["changing"])
                body = await asyncio.to_thread(client.request, "GET", "/api/v1/nodes/changing")
                body["spec"]["unschedulable"] = True
                await asyncio.to_thread(client.request, "PUT", "/api/v1/nodes/changing", body)
                await next_snapshot(cache, lambda seen: [node.unschedulable for node in seen.nodes] == [True])
                await asyncio.to_thread(client.request, "DELETE", "/api/v1/nodes/changing")
                await next_snapshot(cache, lambda seen: seen.nodes == [])

    run(check)


def test_a_pod_that_finishes_is_gone(plane: DevCluster, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"

    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:
            with plane.client() as client:
                body = await asyncio.to_thread(client.request, "POST", path, pod("job"))
                await next_snapshot(cache, lambda seen: "job" in pods_of(seen, space))
                body["status"] = {"phase": "Succeeded"}
                await asyncio.to_thread(client.request, "PUT", f"{path}/job/status", body)
                await next_snapshot(cache, lambda seen: "job" not in pods_of(seen, space))

    run(check)


def test_many_callers_share_and_none_gets_an_old_view(plane: DevCluster, space: str) -> None:
    path = f"/api/v1/namespaces/{space}/pods"

    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:

            async def write_and_look(number: int) -> None:
                with plane.client() as client:
                    for turn in range(5):
                        name = f"p{number}-{turn}"
                        await asyncio.to_thread(client.request, "POST", path, pod(name))
                        await next_snapshot(cache, lambda seen, name=name: name in pods_of(seen, space))

            async with asyncio.TaskGroup() as group:
                for number in range(8):
                    group.create_task(write_and_look(number))

    run(check)


def account(plane: DevCluster, space: str, rules: list[dict[str, Any]]) -> Path:
    subject = {"kind": "ServiceAccount", "name": "watcher", "namespace": space}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": space}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": space},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": space},
        "subjects": [subject],
    }
    with plane.client() as client:
        client.request("POST", f"/api/v1/namespaces/{space}/serviceaccounts", {"metadata": {"name": "watcher"}})
        client.request("POST", f"{RBAC}/clusterroles", {**role, "rules": rules})
        client.request("POST", f"{RBAC}/clusterrolebindings", binding)
    return plane.service_account_kubeconfig(space, "watcher")


def allow(plane: DevCluster, space: str, rules: list[dict[str, Any]]) -> None:
    with plane.client() as client:
        role = client.request("GET", f"{RBAC}/clusterroles/{space}")
        client.request("PUT", f"{RBAC}/clusterroles/{space}", {**role, "rules": rules})


async def until_forbidden(cache: ClusterCache) -> WaitingError:
    """The API server takes a moment to heed a changed role."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            await cache.snapshot(timeout_seconds=WAIT_SECONDS)
        except WaitingError as error:
            return error
    raise AssertionError("the snapshot was never refused")


async def until_allowed(cache: ClusterCache) -> ClusterSnapshot:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return await cache.snapshot(timeout_seconds=WAIT_SECONDS)
        except WaitingError as error:
            if error.reason != "Forbidden" or time.monotonic() > deadline:
                raise


def test_rights_that_are_taken_away_and_given_back(plane: DevCluster, space: str) -> None:
    kubeconfig = account(plane, space, SEES)

    async def check() -> None:
        async with caching(kubeconfig) as cache:
            await until_allowed(cache)
            await asyncio.to_thread(allow, plane, space, SEES_NO_PODS)
            error = await until_forbidden(cache)
            assert error.reason == "Forbidden"
            assert 'cannot list resource "pods"' in error.message
            with plane.client() as client:
                path = f"/api/v1/namespaces/{space}/pods"
                await asyncio.to_thread(client.request, "POST", path, pod("meanwhile"))
            await asyncio.to_thread(allow, plane, space, SEES)
            await until_allowed(cache)
            await next_snapshot(cache, lambda seen: "meanwhile" in pods_of(seen, space))

    run(check)


def test_no_rights_from_the_start(plane: DevCluster, space: str) -> None:
    kubeconfig = account(plane, space, SEES_NO_PODS)

    async def check() -> None:
        async with caching(kubeconfig) as cache:
            error = await until_forbidden(cache)
            assert error.reason == "Forbidden"
            assert "the operator may not list and watch" in error.message
            assert cache.age_seconds is None
            await asyncio.to_thread(allow, plane, space, SEES)
            assert space in (await until_allowed(cache)).namespaces

    run(check)


def test_an_api_server_that_does_not_answer(plane: DevCluster, space: str) -> None:
    (pid,) = [component.pid for component in plane.state.components if component.name == "kube-apiserver"]

    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:
            await cache.snapshot(timeout_seconds=WAIT_SECONDS)
            counts = cache.counts
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(WaitingError) as caught:
                    await cache.snapshot(timeout_seconds=0.5)
                assert caught.value.reason == "SourceUnavailable"
                # Not what is said when a question has been without an answer for ten seconds.
                assert caught.value.message == "nodes, pods and namespaces could not be read within 0.5 s"
                assert cache.counts == counts  # the old view stays
            finally:
                os.kill(pid, signal.SIGCONT)
            with plane.client() as client:
                path = f"/api/v1/namespaces/{space}/pods"
                await asyncio.to_thread(client.request, "POST", path, pod("after"))
            await next_snapshot(cache, lambda seen: "after" in pods_of(seen, space))

    run(check)


def test_it_stops_when_nobody_asks_and_starts_again(plane: DevCluster, space: str) -> None:
    async def check() -> None:
        async with caching(plane.kubeconfig, idle_seconds=0.2) as cache:
            for _ in range(2):
                assert space in (await cache.snapshot(timeout_seconds=WAIT_SECONDS)).namespaces
                deadline = time.monotonic() + WAIT_SECONDS
                while cache.running:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
                assert cache.counts.namespaces == 0

    run(check)


def test_closing_while_a_snapshot_is_awaited(plane: DevCluster) -> None:
    async def check() -> None:
        async with caching(plane.kubeconfig) as cache:
            waiting = [asyncio.create_task(cache.snapshot()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await cache.close()
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(outcome, WaitingError)
            with pytest.raises(WaitingError):
                await cache.snapshot()

    run(check)
