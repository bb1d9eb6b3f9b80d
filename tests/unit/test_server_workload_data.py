"""The history over HTTP: filters, formats, who sees which namespaces, and that an export is never whole in memory."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import threading
from collections.abc import Coroutine, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_history import BEGIN_MS, HOUR_MS, HistoryEngine, RealSelection, point, two_namespaces
from server_stand_in import HttpClient, StandInAccess, StandIns
from test_server_app import ADA, client, problem

from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.server.app import create_app
from engine_ops.server.callers import AccessUnavailable, Right
from engine_ops.server.services import ApiLimits
from engine_ops.server.workload_models import parse_moment
from engine_ops.server.workload_points import PointFilter

BASE = "/api/v1/plugins/workload-data"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def stand_ins(points: list[WorkloadDataPoint] | None, *, open_: bool = False, **limits: Any) -> StandIns:
    these = StandIns(HistoryEngine(points), StandInAccess(open_=open_), ApiLimits(**limits))
    these.access.add(ADA, "ada")
    return these


def reads(*namespaces: str) -> Any:
    """Return the rights of one who may read the history of some namespaces; the empty string is all of them."""
    allowed = {Right("get", "optimizationrequests", "history", namespace=name) for name in namespaces}
    return lambda right: right in allowed


def test_the_export_is_as_the_guide_reads_it() -> None:
    async def main() -> None:
        points = two_namespaces()
        reply = await client(stand_ins(points)).get(f"{BASE}/export")
        assert reply.headers["content-type"] == "application/json"
        said = reply.json()
        assert said["count"] == len(said["data"]) == 21
        for sent, kept in zip(said["data"], points, strict=True):
            if sent["duration"] is None:
                sent["duration"] = float("nan")
            assert repr(WorkloadDataPoint.from_dict(sent)) == repr(kept)

    run(main())


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 1000])
def test_json_is_whole_whatever_the_pieces(count: int) -> None:
    async def main() -> None:
        there = client(stand_ins([point(number) for number in range(count)]))
        said = (await there.get(f"{BASE}/export?format=json")).json()
        assert said["count"] == len(said["data"]) == count
        lines = await there.get(f"{BASE}/export?format=jsonl")
        assert lines.headers["content-type"] == "application/jsonl"
        assert [json.loads(line) for line in lines.body.splitlines()] == said["data"]

    run(main())


def test_parquet_is_a_file() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")

    async def main() -> None:
        reply = await client(stand_ins(two_namespaces())).get(f"{BASE}/export?format=parquet")
        assert reply.headers["content-type"] == "application/vnd.apache.parquet"
        assert reply.headers["content-disposition"] == 'attachment; filename="workload-data.parquet"'
        table = parquet.read_table(io.BytesIO(reply.body))
        assert table.column("timestamp").to_pylist() == [BEGIN_MS + HOUR_MS * number for number in range(21)]

    run(main())


@pytest.mark.parametrize("at_once", [True, False])
def test_parquet_where_pyarrow_is_not_installed(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    def refuse(_: Any) -> Iterator[bytes]:
        raise ModuleNotFoundError("pyarrow")

    def refuse_later(_: Any) -> Iterator[bytes]:
        yield from refuse(_)

    monkeypatch.setattr(RealSelection, "parquet", refuse if at_once else refuse_later)

    async def main() -> None:
        problem(await client(stand_ins([])).get(f"{BASE}/export?format=parquet"), "not-installed")

    run(main())


def test_statistics_are_those_of_the_data_set() -> None:
    async def main() -> None:
        points = two_namespaces()
        reply = await client(stand_ins(points)).get(f"{BASE}/stats")
        assert reply.json() == WorkloadDataset(points).get_statistics()
        empty = (await client(stand_ins([])).get(f"{BASE}/stats")).json()
        assert (empty["total_requests"], empty["success_rate"], empty["by_type"]) == (0, None, {})

    run(main())


def test_the_training_format_is_a_table() -> None:
    async def main() -> None:
        said = (await client(stand_ins(two_namespaces())).get(f"{BASE}/training-format?type=resource")).json()
        assert said["count"] == 20
        assert {column["name"] for column in said["columns"]} == set(said["data"])
        assert all(len(values) == 20 for values in said["data"].values())
        assert said["data"]["duration"][:2] == [None, 100.0], "what is not known is null"

    run(main())


@pytest.mark.parametrize("path", ["stats", "training-format", "export?format=jsonl"])
def test_what_takes_long_is_not_done_on_the_event_loop(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set()

    def watched(method: Any) -> Any:
        def call(self: RealSelection) -> Any:
            threads.add(threading.current_thread())
            return method(self)

        return call

    def lines(self: RealSelection) -> Iterator[bytes]:
        threads.add(threading.current_thread())
        yield b"{}\n"

    monkeypatch.setattr(RealSelection, "statistics", watched(RealSelection.statistics))
    monkeypatch.setattr(RealSelection, "training_format", watched(RealSelection.training_format))
    monkeypatch.setattr(RealSelection, "json_lines", lines)

    async def main() -> None:
        assert (await client(stand_ins(two_namespaces())).get(f"{BASE}/{path}")).status == 200

    run(main())
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_no_piece_is_made_before_the_one_before_it_has_gone(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, sent, ahead = 0, 0, 0

    def pieces(_: Any) -> Iterator[bytes]:
        nonlocal made
        for _number in range(100):
            made += 1
            yield b"{}\n"

    monkeypatch.setattr(RealSelection, "json_lines", pieces)
    monkeypatch.setattr(RealSelection, "parquet", pieces)

    async def main() -> None:
        app = create_app(stand_ins([]).services(), version="1")
        exchange = HttpClient(app, ADA).start("GET", f"{BASE}/export?format={kind}")
        keep = exchange._send

        async def slowly(message: Any) -> None:
            nonlocal sent, ahead
            if message.get("body"):
                ahead = max(ahead, made - sent)
                sent += 1
            await asyncio.sleep(0)
            await keep(message)

        exchange._send = slowly  # type: ignore[method-assign]
        assert (await exchange.reply()).status == 200

    run(main())
    assert made == 100
    assert ahead <= 1


def test_a_history_that_breaks_on_the_way_is_cut_and_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Iterator[bytes]:
        yield b'{"timestamp":1}\n'
        raise OSError("gone")

    monkeypatch.setattr(RealSelection, "json_lines", broken)

    async def main() -> None:
        exchange = client(stand_ins([])).start("GET", f"{BASE}/export")
        with pytest.raises(OSError, match="gone"):
            await exchange.task
        assert not exchange.complete
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(exchange.body)

    run(main())


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("", PointFilter()),
        ("type=resource", PointFilter(request_type="resource")),
        ("type=observed-job&limit=3", PointFilter(request_type="observed-job", limit=3)),
        ("from=1767225600000", PointFilter(from_ms=BEGIN_MS)),
        ("from=-1&to=0", PointFilter(from_ms=-1, to_ms=0)),
        ("from=2026-01-01T00:00:00Z", PointFilter(from_ms=BEGIN_MS)),
        ("to=2026-01-01t01:00:00.0015z", PointFilter(to_ms=BEGIN_MS + HOUR_MS + 1)),
        ("to=2026-01-01T02:00:00%2B02:00", PointFilter(to_ms=BEGIN_MS)),
        ("to=2026-01-01T02:00:00+02:00", PointFilter(to_ms=BEGIN_MS)),
        ("to=2025-12-31%2019:00:00-05:00", PointFilter(to_ms=BEGIN_MS)),
        ("namespace=shop", PointFilter(namespaces=frozenset({"shop"}))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["stats", "export", "training-format"])
def test_filters(path: str, query: str, chosen: PointFilter) -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())
        assert (await client(these).get(f"{BASE}/{path}?{query}")).status == 200
        assert these.engine.filters == [chosen]  # type: ignore[attr-defined]

    run(main())


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=", "from"),
        ("from=2026-01-01", "from"),
        ("from=2026-13-01T00:00:00Z", "from"),
        ("from=2026-01-01T25:00:00Z", "from"),
        ("from=2026-01-01T00:00:00", "from"),
        ("from=9999999999999999999", "from"),
        ("from=1e9", "from"),
        ("from=1.5", "from"),
        ("from=%D9%A1%D9%A2", "from"),
        ("to=NaN", "to"),
        ("to=0001-01-01T00:00:00%2B23:59:59", "to"),
        ("from=2&to=1", "from"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1000001", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.5", "limit"),
        ("type=", "type"),
        ("type=" + "x" * 257, "type"),
        ("namespace=", "namespace"),
        ("namespace=Shop", "namespace"),
        ("namespace=..%2Fkube-system", "namespace"),
        ("namespace=shop%0A", "namespace"),
        ("namespace=" + "a" * 64, "namespace"),
        ("until=1", "until"),
        ("from_=1", "from_"),
        ("From=1", "From"),
    ],
)
@pytest.mark.parametrize("path", ["stats", "export", "training-format"])
def test_filters_that_are_none_are_named(path: str, query: str, field: str) -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())
        said = problem(await client(these).get(f"{BASE}/{path}?{query}"), "invalid")
        assert [error["field"] for error in said["errors"]] == [field]
        assert f"query parameter {field}: " in said["detail"]
        assert not these.engine.filters  # type: ignore[attr-defined]

    run(main())


@pytest.mark.parametrize("kind", ["csv", "JSON", "", "json,jsonl"])
def test_formats_that_are_none(kind: str) -> None:
    async def main() -> None:
        said = problem(await client(stand_ins([])).get(f"{BASE}/export?format={kind}"), "invalid")
        assert said["errors"][0]["field"] == "format"
        assert "'jsonl'" in said["errors"][0]["detail"]
        problem(await client(stand_ins([])).get(f"{BASE}/stats?format=json"), "invalid")

    run(main())


@pytest.mark.parametrize("path", ["stats", "export", "training-format"])
def test_where_no_history_is_kept(path: str) -> None:
    async def main() -> None:
        said = problem(await client(stand_ins(None)).get(f"{BASE}/{path}"), "not-found")
        assert "No history is kept" in said["detail"]

    run(main())


@pytest.mark.parametrize(
    ("rights", "namespaces", "points"),
    [
        (("",), None, 21),
        (("shop",), {"shop"}, 10),
        (("shop", "bank"), {"shop", "bank"}, 20),
        (("shop", "elsewhere"), {"shop"}, 10),
    ],
)
def test_a_caller_sees_the_namespaces_that_they_may_read(
    rights: tuple[str, ...], namespaces: set[str] | None, points: int
) -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())
        these.access.add("grace", "grace", reads(*rights))
        there = client(these, "grace")
        assert (await there.get(f"{BASE}/export")).json()["count"] == points
        assert (await there.get(f"{BASE}/stats")).json()["total_requests"] == points
        assert (await there.get(f"{BASE}/training-format")).json()["count"] == points
        assert {chosen.namespaces for chosen in these.engine.filters} == {  # type: ignore[attr-defined]
            None if namespaces is None else frozenset(namespaces)
        }

    run(main())


@pytest.mark.parametrize(("namespace", "status"), [("empty", 200), ("another", 403)])
def test_a_service_account_may_read_its_own_namespace_before_there_is_a_point(namespace: str, status: int) -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())
        these.access.add("first", f"system:serviceaccount:{namespace}:first", reads("empty"))
        reply = await client(these, "first").get(f"{BASE}/stats")
        assert reply.status == status
        if status == 200:
            assert reply.json()["total_requests"] == 0

    run(main())


@pytest.mark.parametrize("rights", [(), ("elsewhere",)])
@pytest.mark.parametrize("points", [[], two_namespaces()])
def test_who_may_read_nothing_is_refused(rights: tuple[str, ...], points: list[WorkloadDataPoint]) -> None:
    async def main() -> None:
        these = stand_ins(points)
        these.access.add("eve", "eve", reads(*rights))
        for path in ("stats", "export", "export?format=parquet", "training-format", "export?namespace=shop"):
            said = problem(await client(these, "eve").get(f"{BASE}/{path}"), "forbidden")
            assert said["detail"].startswith("eve may not get optimizationrequests/history")
        assert not these.engine.filters  # type: ignore[attr-defined]

    run(main())


def test_a_namespace_that_is_named_is_asked_about_alone() -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())
        asked: list[Right] = []
        these.access.add("grace", "grace", lambda right: not asked.append(right))  # type: ignore[func-returns-value]
        said = (await client(these, "grace").get(f"{BASE}/export?namespace=bank")).json()
        assert {each["metadata"]["namespace"] for each in said["data"]} == {"bank"}
        assert [right.namespace for right in asked] == ["bank"]

    run(main())


def test_many_namespaces_are_asked_about_a_few_at_a_time() -> None:
    under_way, most = 0, 0

    class Slow(StandInAccess):
        async def allowed(self, caller: Any, right: Right) -> bool:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1
            return right.namespace not in {"", "team-7"}

    async def main() -> None:
        points = [point(number, f"team-{number}") for number in range(200)]
        these = StandIns(HistoryEngine(points), Slow())
        these.access.add(ADA, "ada")
        assert (await client(these).get(f"{BASE}/export")).json()["count"] == 199

    run(main())
    assert 1 < most <= 16


def test_rights_that_cannot_be_known_show_nothing() -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces())

        def fail(right: Right) -> bool:
            if right.namespace == "shop":
                raise AccessUnavailable("it does not answer")
            return right.namespace == "bank"

        these.access.add("grace", "grace", fail)
        problem(await client(these, "grace").get(f"{BASE}/export"), "unavailable")

    run(main())


def test_without_tokens_everything_is_seen() -> None:
    async def main() -> None:
        these = stand_ins(two_namespaces(), open_=True)
        these.access.rights.clear()
        assert (await client(these, None).get(f"{BASE}/export")).json()["count"] == 21

    run(main())


# A day from the ends of what datetime has, so that any zone fits.
FIRST = datetime.datetime.min + datetime.timedelta(days=1)  # noqa: DTZ901 - the strategy takes naive ones
LAST = datetime.datetime.max - datetime.timedelta(days=1)  # noqa: DTZ901


@given(st.datetimes(FIRST, LAST), st.integers(-840, 840))
def test_times_of_rfc_3339_are_read(moment: datetime.datetime, minutes: int) -> None:
    zone = datetime.timezone(datetime.timedelta(minutes=minutes))
    aware = moment.replace(tzinfo=zone)
    expected = (aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(milliseconds=1)
    text = aware.isoformat()
    assert parse_moment(text) == expected
    assert parse_moment(text.replace("+", " ")) == expected
    if minutes == 0:
        assert parse_moment(text.replace("+00:00", "Z")) == expected


@given(st.text(max_size=40) | st.from_regex(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?[Zz]?", fullmatch=True))
def test_whatever_else_is_no_time(text: str) -> None:
    try:
        moment = parse_moment(text)
    except ValueError as error:
        assert str(error).startswith("must be a time such as")  # noqa: PT017 - either is right
    else:
        assert isinstance(moment, int)


APP = create_app(stand_ins(two_namespaces(), requests_per_second=0).services(), version="1")


@given(st.dictionaries(st.sampled_from(["type", "from", "to", "limit", "format", "namespace"]), st.text(max_size=12)))
def test_any_filter_is_answered_or_named(filters: dict[str, str]) -> None:
    async def main() -> None:
        query = "&".join(f"{name}={quote(value)}" for name, value in filters.items())
        reply = await HttpClient(APP, ADA).get(f"{BASE}/export?{query}")
        if reply.status != 200:
            fields = {error["field"] for error in problem(reply, "invalid")["errors"]}
            assert fields
            assert fields <= filters.keys()

    run(main())
