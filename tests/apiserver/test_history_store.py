"""The history in ConfigMaps of a real API server: by hand, in conflict, refused, and from the future."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.history.codec import FORMAT, wrap
from engine_ops.history.importing import import_points
from engine_ops.history.keys import key_of
from engine_ops.history.log import HistoryLog
from engine_ops.history.names import HEAD, OPEN, segment_name
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.store import ConflictError, StoreError, StoreRefusedError
from engine_ops.kube.connection import Connection
from engine_ops.kube.history_store import ConfigMapStore
from engine_ops.ml.data_point import WorkloadDataPoint

Check = Callable[[ConfigMapStore], Awaitable[None]]
LABELS = {"engineops.dev/history": "segment"}


@pytest.fixture
def with_store(cluster: DevCluster, namespace: str) -> Callable[[Check], None]:
    def run(check: Check) -> None:
        async def main() -> None:
            connection = await Connection.open(str(cluster.kubeconfig))
            try:
                async with asyncio.timeout(120):
                    await check(ConfigMapStore(connection, namespace))
            finally:
                await connection.close()

        asyncio.run(main())

    return run


@pytest.fixture
def client(cluster: DevCluster) -> Any:
    with cluster.client() as client:
        yield client


def path(namespace: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}".rstrip("/")


def edit(client: ApiClient, namespace: str, name: str, content: bytes | None) -> None:
    """As somebody with kubectl edit does; an immutable one is deleted and made again."""
    there = client.request("GET", path(namespace, name))
    there["binaryData"] = {} if content is None else {"points": base64.b64encode(content).decode()}
    if there.pop("immutable", False):
        client.request("DELETE", path(namespace, name))
        there["metadata"] = {"name": name, "labels": there["metadata"]["labels"]}
        client.request("POST", path(namespace), there)
    else:
        client.request("PUT", path(namespace, name), there)


def content_of(client: ApiClient, namespace: str, name: str) -> bytes:
    return base64.b64decode(client.request("GET", path(namespace, name))["binaryData"]["points"])


def names_in(client: ApiClient, namespace: str) -> list[str]:
    items = client.request("GET", path(namespace))["items"]
    return [item["metadata"]["name"] for item in items if item["metadata"]["name"].startswith("engine-ops-history")]


def point(uid: str, **metadata: Any) -> WorkloadDataPoint:
    identity = {"uid": uid, "generation": 1, "run": 1, "namespace": "a", "name": uid}
    return WorkloadDataPoint(1_800_000_000_000, "resource", {"cpu": 0.5}, 12.0, True, {**identity, **metadata})


def new_log(store: ConfigMapStore, **options: Any) -> HistoryLog:
    return HistoryLog(store, **{"segment_points": 4, **options})


def uids(log: HistoryLog) -> list[str]:
    return sorted(point.metadata["uid"] for point in log.collector.select().points())


async def filled(store: ConfigMapStore, count: int = 10, prefix: str = "p", **options: Any) -> HistoryLog:
    """Segments of four, the rest in the head, one open point."""
    log = new_log(store, **options)
    await log.load()
    for index in range(count):
        log.record(point(f"{prefix}-{index}"), log.stamp())
    stamp = log.stamp()
    log.open(OpenPoint(point(f"{prefix}-open"), stamp, stamp + 1000, {"pods": {"a": 1}}))
    await log.flush()
    return log


async def loaded(store: ConfigMapStore, **options: Any) -> HistoryLog:
    log = new_log(store, **options)
    await log.load()
    return log


EXPECTED = sorted(f"p-{index}" for index in range(10))


def test_what_was_flushed_is_there_after_a_restart(with_store: Any, client: ApiClient, namespace: str) -> None:
    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        log = await loaded(store)
        assert uids(log) == EXPECTED
        (opened,) = log.open_points.values()
        assert opened.state == {"pods": {"a": 1}}
        segment = client.request("GET", path(namespace, segment_name(1)))
        assert segment["immutable"] is True
        labels = segment["metadata"]["labels"]
        assert (labels["engineops.dev/sequence"], labels["engineops.dev/count"]) == ("1", "4")
        assert labels["engineops.dev/from-ms"] == "1800000000000"
        head = client.request("GET", path(namespace, HEAD))
        assert "immutable" not in head
        assert head["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "engine-ops"

    with_store(check)


def test_compare_and_swap(with_store: Any) -> None:
    async def check(store: ConfigMapStore) -> None:
        first = await store.create("engine-ops-history-x", b"a", LABELS)
        with pytest.raises(ConflictError):
            await store.create("engine-ops-history-x", b"b", LABELS)
        second = await store.replace("engine-ops-history-x", b"b", LABELS, first)
        with pytest.raises(ConflictError):
            await store.replace("engine-ops-history-x", b"c", LABELS, first)
        with pytest.raises(ConflictError):
            await store.delete("engine-ops-history-x", first)
        blob = await store.read("engine-ops-history-x")
        assert blob is not None
        assert (blob.content, blob.version, blob.sealed) == (b"b", second, False)
        await store.delete("engine-ops-history-x", second)
        await store.delete("engine-ops-history-x")
        assert await store.read("engine-ops-history-x") is None
        with pytest.raises(ConflictError):
            await store.replace("engine-ops-history-x", b"c", LABELS, second)
        sealed = await store.create("engine-ops-history-y", b"a", LABELS, sealed=True)
        with pytest.raises(StoreRefusedError, match="immutable"):
            await store.replace("engine-ops-history-y", b"b", LABELS, sealed)

    with_store(check)


def test_a_list_of_several_pages(with_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_ops.kube.history_store.PAGE_SIZE", 3)

    async def check(store: ConfigMapStore) -> None:
        for number in range(8):
            await store.create(f"engine-ops-history-{number}", bytes([number]), LABELS)
        blobs = await store.list()
        assert [blob.content for blob in blobs] == [bytes([number]) for number in range(8)]
        assert [blob.name for blob in await store.list(contents=False)] == [blob.name for blob in blobs]
        assert all(blob.content is None for blob in await store.list(contents=False))

    with_store(check)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "key missing"])
@pytest.mark.parametrize("name", [segment_name(1), HEAD, OPEN])
def test_damaged_by_hand(with_store: Any, client: ApiClient, namespace: str, name: str, damage: str) -> None:
    """The others load; what was damaged is kept aside, and said."""

    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        whole = content_of(client, namespace, name)
        flipped = bytes([*whole[:-30], whole[-30] ^ 1, *whole[-29:]])
        bad = {"flipped": flipped, "truncated": whole[: len(whole) // 2], "empty": b"", "key missing": None}[damage]
        edit(client, namespace, name, bad)
        reader = new_log(store)
        await reader.load(read_only=True)
        assert [one.name for one in reader.health.damaged] == [name]
        assert not [one for one in names_in(client, namespace) if "damaged" in one]
        log = await loaded(store)
        (damaged,) = log.health.damaged
        assert damaged.name == name
        assert content_of_or_empty(client, namespace, damaged.set_aside) == (bad or b"")
        lost = {segment_name(1): EXPECTED[:4], HEAD: EXPECTED[8:], OPEN: []}[name]
        assert uids(log) == sorted(set(EXPECTED) - set(lost))
        assert len(log.open_points) == (0 if name == OPEN else 1)
        assert log.health.missing == ()
        log.record(point("later"), log.stamp())
        await log.flush()
        again = await loaded(store)
        assert "later" in uids(again)
        assert [one.set_aside for one in again.health.damaged] == [damaged.set_aside]

    with_store(check)


def content_of_or_empty(client: ApiClient, namespace: str, name: str) -> bytes:
    there = client.request("GET", path(namespace, name)).get("binaryData") or {}
    return base64.b64decode(there.get("points", ""))


@pytest.mark.parametrize("name", [segment_name(1), segment_name(2), HEAD, OPEN])
@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_touched_while_we_run(with_store: Any, client: ApiClient, namespace: str, name: str, how: str) -> None:
    """What is in memory is written again."""

    async def check(store: ConfigMapStore) -> None:
        log = await filled(store)
        if how == "deleted":
            client.request("DELETE", path(namespace, name))
        else:
            edit(client, namespace, name, b"nonsense")
        # A segment's loss is found when the store is read again, which somebody else's write brings about.
        touch(client, namespace, HEAD)
        log.record(point("p-later"), log.stamp())
        stamp = log.stamp()
        log.open(OpenPoint(point("p-open-too"), stamp, stamp + 1000))
        await log.flush()
        again = await loaded(store)
        assert uids(again) == sorted([*EXPECTED, "p-later"])
        assert len(again.open_points) == 2
        assert again.health.missing == ()

    with_store(check)


def touch(client: ApiClient, namespace: str, name: str) -> None:
    if name not in names_in(client, namespace):
        return
    there = client.request("GET", path(namespace, name))
    there["metadata"].setdefault("annotations", {})["touched"] = secrets.token_hex(4)
    client.request("PUT", path(namespace, name), there)


def test_deleted_while_nobody_ran(with_store: Any, client: ApiClient, namespace: str) -> None:
    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        client.request("DELETE", path(namespace, segment_name(1)))
        log = await loaded(store)
        assert log.health.missing == (1,)
        assert uids(log) == EXPECTED[4:]
        client.request("DELETE", path(namespace, HEAD))
        log = await loaded(store)
        assert uids(log) == EXPECTED[4:8]
        assert log.health.watermark < 1_700_000_000_000 or log.stamp() > log.health.watermark
        log.record(point("later"), log.stamp())
        await log.flush()
        assert uids(await loaded(store)) == sorted([*EXPECTED[4:8], "later"])

    with_store(check)


def test_labels_taken_away(with_store: Any, client: ApiClient, namespace: str) -> None:
    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        for name in (segment_name(1), segment_name(2), HEAD, OPEN):
            there = client.request("GET", path(namespace, name))
            there["metadata"]["labels"] = {}
            client.request("PUT", path(namespace, name), there)
        log = await loaded(store)
        assert uids(log) == EXPECTED
        for index in range(6):
            log.record(point(f"p-more-{index}"), log.stamp())
        await log.flush()
        assert uids(await loaded(store)) == sorted([*EXPECTED, *(f"p-more-{index}" for index in range(6))])

    with_store(check)


class Meddled(ConfigMapStore):
    """Somebody else touches what is to be replaced, just before."""

    client: ApiClient
    times = 10**9

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        if self.times > 0:
            self.times -= 1
            touch(self.client, self.namespace, name)
        return await super().replace(name, content, labels, version)


def test_a_conflict_at_every_write(
    with_store: Any, client: ApiClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine_ops.history.flushing.FIRST_PAUSE_SECONDS", 0.001)

    async def check(store: ConfigMapStore) -> None:
        meddled = Meddled(store._connection, namespace)
        meddled.client = client
        log = await filled(meddled)
        for index in range(10, 16):
            log.record(point(f"p-{index}"), log.stamp())
        with pytest.raises(ConflictError):
            await log.flush()
        expected = sorted(f"p-{index}" for index in range(16))
        assert uids(log) == expected
        assert log.health.conflicts >= 8
        meddled.times = 3
        await log.flush()
        assert uids(await loaded(store)) == expected

    with_store(check)


def test_two_writers(with_store: Any) -> None:
    async def check(store: ConfigMapStore) -> None:
        one, other = await filled(store), await loaded(store)
        expected = set(EXPECTED)

        async def write(log: HistoryLog, prefix: str) -> None:
            for index in range(60):
                name = f"{prefix}-{index}"
                # Every third is recorded by both.
                name = f"both-{index}" if index % 3 == 0 else name
                log.record(point(name), log.stamp())
                expected.add(name)
                if index % 4 == 0:
                    while True:
                        try:
                            await log.flush()
                            break
                        except ConflictError:
                            continue
            await log.flush()

        await asyncio.gather(write(one, "one"), write(other, "other"))
        log = await loaded(store)
        assert uids(log) == sorted(expected)
        assert one.health.conflicts + other.health.conflicts > 0

    with_store(check)


def test_an_import_beside_a_running_operator(with_store: Any) -> None:
    async def check(store: ConfigMapStore) -> None:
        log = await filled(store, capacity=100)
        before = log.health.watermark
        result = await import_points(store, [point(f"i-{index}") for index in range(95)], capacity=100)
        assert (result.added, result.known, result.no_room) == (90, 0, 5)
        log.record(point("p-10"), log.stamp())
        await log.flush()
        there = uids(await loaded(store, capacity=200))
        assert {*EXPECTED, "p-10"} <= set(there)
        assert len(there) == 101
        assert log.health.watermark >= before
        again = await import_points(store, [point(f"i-{index}") for index in range(95)], capacity=200)
        assert (again.added, again.known) == (5, 90)

    with_store(check)


def test_a_quota_on_config_maps(with_store: Any, client: ApiClient, namespace: str) -> None:
    """Recording goes on in memory, nothing is dropped, and all is written when there is room."""

    async def check(store: ConfigMapStore) -> None:
        log = await filled(store)
        quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}
        client.request("POST", quotas, {**body, "spec": {"hard": {"count/configmaps": "0"}}})

        def in_effect() -> bool:  # not yet when its status says so: admission hears of that a moment later
            probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe"}}
            try:
                client.request("POST", f"{path(namespace)}?dryRun=All", probe)
            except ApiError as error:
                return "exceeded quota" in str(error)
            return False

        await until(in_effect)
        for index in range(10, 30):
            log.record(point(f"p-{index}"), log.stamp())
        with pytest.raises(StoreRefusedError, match="exceeded quota"):
            await log.flush()
        assert "exceeded quota" in log.health.refused
        assert log.health.unflushed == 20
        assert len(uids(log)) == 30
        assert not log.is_flushed(key_of("p-20", 1, 1), 1)
        client.request("DELETE", f"{quotas}/few")

        async def flushed() -> bool:
            try:
                await log.flush()
            except StoreError:
                return False
            return True

        await until(flushed)
        assert log.health.refused == ""
        assert uids(await loaded(store)) == sorted(f"p-{index}" for index in range(30))

    with_store(check)


async def until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            result = holds()
            if await result if asyncio.iscoroutine(result) else result:
                return
            await asyncio.sleep(0.02)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
def test_a_blob_beyond_the_limit_is_refused(with_store: Any) -> None:
    async def check(store: ConfigMapStore) -> None:
        for size in (1_100_000, 4_000_000):
            with pytest.raises(StoreRefusedError):
                await store.create("engine-ops-history-x", secrets.token_bytes(size), LABELS)

    with_store(check)


def test_no_config_map_nears_the_limit(with_store: Any, client: ApiClient, namespace: str) -> None:
    """Points that carry as much as a point can, and that cannot be compressed."""

    async def check(store: ConfigMapStore) -> None:
        log = HistoryLog(store)
        await log.load()
        for index in range(120):
            noise = {f"k{n}": secrets.token_hex(400) for n in range(60)}
            log.record(point(f"p-{index}", noise=noise), log.stamp())
            stamp = log.stamp()
            log.open(OpenPoint(point(f"o-{index}", noise=noise), stamp, stamp + 1000, {"noise": noise}))
        await log.flush()
        items = client.request("GET", path(namespace))["items"]
        sizes = [len(base64.b64decode(v)) for item in items for v in (item.get("binaryData") or {}).values()]
        assert sum(sizes) > 700_000
        assert max(sizes) <= 512 * 1024
        assert log.health.cut_strings > 0
        again = HistoryLog(store)
        await again.load()
        assert len(uids(again)) + len(again.open_points) == 240
        assert log.health.pushed_out == 120 - len(again.open_points)

    with_store(check)


@pytest.mark.parametrize("name", [segment_name(1), segment_name(3), HEAD, OPEN])
def test_a_format_from_the_future(with_store: Any, client: ApiClient, namespace: str, name: str) -> None:
    """Nothing is written, whatever happens; recording goes on in memory."""

    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        future = wrap(b"what nobody knows yet", FORMAT + 1)
        if name == segment_name(3):
            labels = {**LABELS, "app.kubernetes.io/managed-by": "engine-ops", "engineops.dev/format": str(FORMAT + 1)}
            await store.create(name, future, labels, sealed=True)
        else:
            edit(client, namespace, name, future)
        before = {blob.name: blob.version for blob in await store.list()}
        log = await loaded(store)
        assert name in log.health.future
        for index in range(10, 30):
            log.record(point(f"p-{index}"), log.stamp())
        with pytest.raises(StoreRefusedError, match="upgrade"):
            await log.flush()
        assert {blob.name: blob.version for blob in await store.list()} == before
        assert {f"p-{index}" for index in range(10, 30)} <= set(uids(log))
        client.request("DELETE", path(namespace, name))
        await log.flush()
        assert log.health.future == ""
        assert {f"p-{index}" for index in range(10, 30)} <= set(uids(await loaded(store)))

    with_store(check)


def test_a_header_that_lies(with_store: Any, client: ApiClient, namespace: str) -> None:
    """A segment under another one's name is set aside."""

    async def check(store: ConfigMapStore) -> None:
        await filled(store)
        edit(client, namespace, segment_name(1), content_of(client, namespace, segment_name(2)))
        log = await loaded(store)
        assert [one.name for one in log.health.damaged] == [segment_name(1)]
        assert uids(log) == EXPECTED[4:]

    with_store(check)


def test_a_namespace_that_is_not_there(cluster: DevCluster) -> None:
    async def main() -> None:
        connection = await Connection.open(str(cluster.kubeconfig))
        try:
            log = HistoryLog(ConfigMapStore(connection, "nowhere"))
            await log.load()
            log.record(point("p"), log.stamp())
            with pytest.raises(StoreRefusedError, match="nowhere"):
                await log.flush()
            assert log.health.unflushed == 1
        finally:
            await connection.close()

    asyncio.run(main())
