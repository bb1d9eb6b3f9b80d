"""Over HTTP, users of one namespace see nothing of another's; nor users of the same of each other's requests."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld, api_world
from history_objects import HistoryObjects
from request_objects import SMALL, hard
from waiting import wait_until

from engine_ops import EngineOpsClient
from engine_ops.client import ForbiddenError, NotFoundError
from engine_ops.devcluster import DevCluster


@pytest.fixture(scope="module")
def world(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[ApiWorld]:
    with api_world(cluster, operator_kubeconfig, "--workers=2") as made:
        yield made


@pytest.fixture
def editor(world: ApiWorld) -> Iterator[EngineOpsClient]:
    with world.client(world.users.token("editor")) as client:
        yield client


@pytest.fixture
def neighbour(world: ApiWorld) -> Iterator[EngineOpsClient]:
    with world.client(world.neighbours.token("editor")) as client:
        yield client


@pytest.fixture
def admin(world: ApiWorld) -> Iterator[EngineOpsClient]:
    with world.client(world.users.token("admin")) as client:
        yield client


def question(request_id: str | None = None, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return one of its own: what the cache answers is no point of the history."""
    fresh = {**SMALL, "nodeCapacity": {"cpu": 2, "memory": 8 * 1024**3 + uuid.uuid4().int % 10**6}}
    asked = {"id": request_id or uuid.uuid4().hex, "type": "resource", "data": fresh if data is None else data}
    return asked | {"searchSeconds": 0} | more


def ids_of(client: EngineOpsClient, **chosen: Any) -> set[str]:
    """Return the questions whose points a caller sees."""
    return {point.metadata["requestId"] for point in client.export(**chosen) if "requestId" in point.metadata}


def test_a_question_counts_where_its_service_account_is(
    world: ApiWorld, editor: EngineOpsClient, neighbour: EngineOpsClient
) -> None:
    ours, theirs = question(), question()
    assert editor.optimize(ours).success
    assert neighbour.optimize(theirs).success
    for users, asked in ((world.users, ours), (world.neighbours, theirs)):
        history = HistoryObjects(world.cluster, users.namespace)
        found = history.wait(lambda points, i=asked["id"]: any(p["metadata"].get("requestId") == i for p in points))
        [point] = [point for point in found if point["metadata"].get("requestId") == asked["id"]]
        assert point["metadata"]["namespace"] == users.namespace
        assert users.username("editor") not in str(point), "who asked is nobody's business"


def test_the_history_of_another_namespace_is_not_to_be_seen(
    world: ApiWorld, editor: EngineOpsClient, neighbour: EngineOpsClient, admin: EngineOpsClient
) -> None:
    ours, theirs, of_the_admin = question(), question(), question()
    editor.optimize(ours)
    neighbour.optimize(theirs)
    admin.optimize(of_the_admin, namespace=world.neighbours.namespace)
    here, there = {ours["id"]}, {theirs["id"], of_the_admin["id"]}
    all_three = here | there
    assert ids_of(editor) & all_three == here
    assert ids_of(editor, namespace=world.namespace) & all_three == here
    assert ids_of(neighbour) & all_three == there
    assert ids_of(admin) & all_three == all_three
    assert ids_of(admin, namespace=world.neighbours.namespace) & all_three == there
    assert {point.metadata["namespace"] for point in editor.export()} == {world.namespace}
    assert editor.workload_stats()["total_requests"] == len(editor.export())
    assert editor.training_format()["count"] == len(editor.export())
    for read in (editor.export, editor.workload_stats, editor.training_format):
        with pytest.raises(ForbiddenError, match=world.neighbours.namespace):
            read(namespace=world.neighbours.namespace)
    with pytest.raises(ForbiddenError):
        editor.optimize(question(), namespace=world.neighbours.namespace)


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_no_format_shows_more(
    world: ApiWorld, editor: EngineOpsClient, neighbour: EngineOpsClient, tmp_path: Path, form: Any
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    ours, theirs = question(), question()
    editor.optimize(ours)
    neighbour.optimize(theirs)
    editor.export_file(tmp_path / "points", format=form)
    written = (tmp_path / "points").read_bytes()
    if form == "parquet":
        parquet = __import__("pyarrow.parquet").parquet
        written = str(parquet.read_table(tmp_path / "points").to_pylist()).encode()
    assert ours["id"].encode() in written
    assert theirs["id"].encode() not in written
    assert world.neighbours.namespace.encode() not in written


def test_an_asynchronous_request_is_its_users_alone(
    world: ApiWorld, editor: EngineOpsClient, neighbour: EngineOpsClient, admin: EngineOpsClient
) -> None:
    request_id = f"hard-{uuid.uuid4().hex[:8]}"
    editor.submit(question(request_id, hard(), searchSeconds=60, timeoutSeconds=120))
    try:
        wait_until(lambda: editor.state(request_id).progress, bool, "there is an answer")
        for other in (neighbour, admin):
            unknown = _refusal(other, request_id)
            assert unknown == _refusal(other, "never-heard-of").replace("never-heard-of", request_id)
            for call in (other.state, other.cancel, lambda i, c=other: list(c.events(i))):
                with pytest.raises(NotFoundError):
                    call(request_id)
        assert editor.state(request_id).status == "running", "nobody else has cancelled it"
        # The same id of somebody else is another request.
        neighbour.submit(question(request_id))
        done = wait_until(lambda: neighbour.state(request_id), lambda state: state.status == "done", "the other's")
        assert done.response is not None
        assert done.response.result["nodeCount"] == 2
        assert editor.state(request_id).status == "running"
    finally:
        cancelled = editor.cancel(request_id)
    assert cancelled.status == "cancelled"
    assert cancelled.response is not None
    assert cancelled.response.success, "the best so far is kept"
    assert cancelled.response.cut_off


def _refusal(client: EngineOpsClient, request_id: str) -> str:
    with pytest.raises(NotFoundError) as refused:
        client.state(request_id)
    return str(refused.value)


def test_the_cache_tells_no_namespace_about_another(
    world: ApiWorld, editor: EngineOpsClient, neighbour: EngineOpsClient
) -> None:
    # A hit is the same answer, under the id of whoever asks.
    asked = question("the-first")
    first = editor.optimize(asked)
    second = neighbour.optimize(asked | {"id": "the-second"})
    assert (first.request_id, second.request_id) == ("the-first", "the-second")
    assert "the-first" not in second.model_dump_json()
    assert first.result == second.result


def test_what_a_user_may_no_longer_do_is_refused(world: ApiWorld, neighbour: EngineOpsClient) -> None:
    def may(ask: Callable[[], object]) -> bool:
        try:
            ask()
        except ForbiddenError:
            return False
        return True

    def may_optimize() -> bool:
        return may(lambda: neighbour.optimize(question()))

    def may_export() -> bool:
        return may(neighbour.export)

    assert may_optimize()
    assert may_export()
    name = f"{world.neighbours.namespace}-editor-edit"
    world.cluster.kubectl("-n", world.neighbours.namespace, "delete", "rolebinding", name)
    # Each right is remembered for ten seconds from when it was asked for.
    wait_until(may_optimize, lambda so: not so, "the right to ask is taken away")
    wait_until(may_export, lambda so: not so, "the right to read the history is taken away")
