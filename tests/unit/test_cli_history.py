"""`engine-ops history` with a directory."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_support import engine_ops

from engine_ops.cli.history_picture import draw_history, format_duration, format_number
from engine_ops.cli.history_series import collect, format_share
from engine_ops.cli.picture import Canvas
from engine_ops.history.formats.json_points import encode
from engine_ops.ml.data_point import WorkloadDataPoint

DAY_MS = 86_400_000
START_MS = 1_767_225_600_000  # 2026-01-01


def point(at: int = 0, **changes: Any) -> WorkloadDataPoint:
    values: dict[str, Any] = {
        "timestamp": START_MS + at,
        "request_type": "observed-job",
        "resource_usage": {"cpu": 0.5},
        "duration": 60_000.0,
        "success": True,
        "metadata": {"namespace": "team", "workload": {"namespace": "team", "kind": "Job", "name": "etl"}},
    }
    return WorkloadDataPoint(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def write(path: Path, *points: WorkloadDataPoint) -> Path:
    path.write_bytes(b"".join(encode(one) + b"\n" for one in points))
    return path


def history(*arguments: str | Path, code: int = 0) -> Any:
    result = engine_ops("history", *map(str, arguments))
    assert result.exit_code == code, result.output
    return result


FAILED = point(2, success=False, duration=5000.0, metadata={"outcome": {"of": "workload", "state": "failed", "reason": "DeadlineExceeded"}})  # fmt: skip # noqa: E501


def test_importing_twice_adds_nothing(store: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "points.jsonl", point(), point(1), point(1), FAILED)
    assert history("import", file, "--store", store).stdout == "4 points read: 3 added, 1 there already\n"
    assert history("import", file, "--store", store).stdout == "4 points read: 0 added, 4 there already\n"


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_an_export_holds_what_was_imported(kind: str, store: Path, tmp_path: Path) -> None:
    points = [point(), point(1, duration=float("nan")), FAILED]
    history("import", write(tmp_path / "points.jsonl", *points), "--store", store)
    exported = tmp_path / f"out.{kind}"
    history("export", "-o", exported, "--store", store)
    again = tmp_path / "again"
    history("import", exported, "--store", again)
    lines = [history("export", "--store", place).stdout.splitlines() for place in (store, again)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 3
    found = [json.loads(line) for line in lines[0]]
    assert [one["timestamp"] for one in found] == [START_MS, START_MS + 1, START_MS + 2]
    assert found[0]["metadata"]["workload"] == point().metadata["workload"]
    assert found[0]["metadata"]["outcome"] == {"of": "import"}
    assert (found[0]["metadata"]["generation"], found[0]["metadata"]["run"]) == (1, 1)
    # The same file is not added to the history that it came from.
    assert "0 added, 3 there already" in history("import", exported, "--store", store).stdout


def test_the_filters_of_an_export(store: Path, tmp_path: Path) -> None:
    other = point(DAY_MS, request_type="resource", metadata={"namespace": "other"})
    history("import", write(tmp_path / "p", point(), other), "--store", store)

    def exported(*options: str) -> list[int]:
        lines = history("export", "--store", store, *options).stdout.splitlines()
        return [(json.loads(line)["timestamp"] - START_MS) // DAY_MS for line in lines]

    assert exported() == [0, 1]
    assert exported("--type", "resource") == [1]
    assert exported("--of-namespace", "team") == [0]
    assert exported("--to", "2026-01-01") == [0]
    assert exported("--from", "2026-01-01T00:00:01") == [1]
    assert exported("--from", str(START_MS), "--to", str(START_MS)) == [0]
    assert exported("--type", "none") == []


def test_nothing_is_written_where_a_row_is_faulty(store: Path, tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", point()), tmp_path / "bad.jsonl"
    bad.write_text("{}\n" * 30 + encode(point(1)).decode())
    result = history("import", good, bad, "--format", "jsonl", "--store", store, code=2)
    assert not store.exists()
    lines = result.stderr.splitlines()
    assert lines[0] == f"{bad}:1: timestamp is missing"
    assert lines[20:] == [
        "and 10 more",
        "30 faults: nothing was written; --skip-faulty leaves out what cannot be read",
    ]
    result = history("import", good, bad, "--format", "jsonl", "--store", store, "--skip-faulty")
    assert result.stdout == "2 points read: 2 added, 0 there already, 30 faulty\n"


def test_room_is_for_the_newest(store: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "p", *(point(at) for at in (5, 1, 4, 2, 3)))
    result = history("import", file, "--store", store, "--max-points", "2")
    assert "2 added, 0 there already, 3 left out for lack of room" in result.stdout
    kept = [
        json.loads(line)["timestamp"] - START_MS for line in history("export", "--store", store).stdout.splitlines()
    ]
    assert sorted(kept) == [4, 5]


def test_standard_input_is_a_file(store: Path) -> None:
    from click.testing import CliRunner

    from engine_ops.cli.main import main

    result = CliRunner().invoke(main, ["history", "import", "-", "--store", str(store)], input=encode(point()))
    assert result.exit_code == 0, result.output
    assert result.stdout == "1 points read: 1 added, 0 there already\n"
    result = CliRunner().invoke(main, ["history", "import", "-", "--store", str(store)], input=b"\n")
    assert result.exit_code == 2
    assert "standard input: is empty" in result.stderr


def test_statistics(store: Path, tmp_path: Path) -> None:
    unknown = point(3, duration=float("nan"), request_type="observed-usage")
    history("import", write(tmp_path / "p", point(), point(1, duration=120_000.0), FAILED, unknown), "--store", store)
    text = history("stats", "--store", store).stdout
    assert text.splitlines()[:4] == [
        "TYPE             POINTS   SUCCESS   FAILED   AVG        P50     P95",
        "observed-job     3        66.7%     1        1.03 min   1 min   1.9 min",
        "observed-usage   1        100.0%    0",
        "all              4        75.0%     1        1.03 min   1 min   1.9 min",
    ]
    assert "failures: DeadlineExceeded (1)" in text
    assert f"{store}: 1 segment, " in text
    found = json.loads(history("stats", "-o", "json", "--store", store).stdout)
    assert found["count"] == 4
    assert found["byType"]["observed-job"] == {
        "count": 3,
        "succeeded": 2,
        "failed": 1,
        "unknown": 0,
        "successRate": pytest.approx(2 / 3),
        "withDuration": 3,
        "avgDurationMs": pytest.approx(185_000 / 3),
        "p50DurationMs": 60_000.0,
        "p95DurationMs": 114_000.0,
    }
    assert found["byType"]["observed-usage"]["p50DurationMs"] is None
    assert found["failures"] == {"DeadlineExceeded": 1}
    assert found["store"]["openPoints"] == 0
    assert json.loads(history("stats", "-o", "json", "--store", store, "--type", "x").stdout)["count"] == 0


def test_a_failed_query_is_told_from_points(store: Path, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    answer.write_text('{"status":"error","errorType":"bad_data","error":"parse error"}')
    assert "is no answer to a range query" in history("import", answer, "--store", store, code=2).stderr


def test_an_outcome_that_nobody_saw_is_no_failure(store: Path, tmp_path: Path) -> None:
    name = {"workload": {"kind": "Job", "name": "lost"}}
    unseen = [
        point(9 + at, duration=float("nan"), success=False, metadata={**name, "outcome": {"state": "unknown", **why}})
        for at, why in enumerate([{"reason": "StillRunning"}, {"reason": "StillRunning"}, {}])
    ]
    history("import", write(tmp_path / "p", point(), point(1), point(2), FAILED, *unseen), "--store", store)
    text = history("stats", "--store", store).stdout
    assert text.splitlines()[:2] == [
        "TYPE           POINTS   SUCCESS   FAILED   UNKNOWN   AVG      P50     P95",
        "observed-job   7        75.0%     1        3         46.2 s   1 min   1 min",
    ]
    assert "failures: DeadlineExceeded (1)\noutcome unknown: StillRunning (2), no reason given (1)\n" in text
    found = json.loads(history("stats", "-o", "json", "--store", store).stdout)
    assert (found["succeeded"], found["failed"], found["unknown"], found["successRate"]) == (3, 1, 3, 0.75)
    # In one line: how wide a terminal is taken to be depends on where the tests run.
    assert "75.0% succeeded, outcome of 3 unknown" in " ".join(history("show", "--store", store).stdout.split())
    lost = " ".join(history("show", "lost", "--store", store).stdout.split())
    assert "outcome of 3 unknown" in lost
    assert "succeeded" not in lost


def test_the_last_write_is_told(store: Path, tmp_path: Path) -> None:
    before = time.time_ns() // 1_000_000
    history("import", write(tmp_path / "p", point()), "--store", store)
    written_ms = json.loads(history("stats", "-o", "json", "--store", store).stdout)["store"]["writtenMs"]
    assert before - 1000 <= written_ms <= time.time_ns() // 1_000_000 + 1000
    assert ", last written 2" in history("stats", "--store", store).stdout


def test_a_damaged_store_says_so(store: Path, tmp_path: Path) -> None:
    history("import", write(tmp_path / "p", point()), "--store", store)
    (head,) = store.glob("*head*")
    content = bytearray(head.read_bytes())
    content[-1] ^= 1
    head.write_bytes(content)
    before = sorted(path.name for path in store.iterdir())
    assert "damaged: engine-ops-history-head: the checksum does not match" in history("stats", "--store", store).stdout
    assert "left out: engine-ops-history-head is damaged" in history("export", "--store", store).stderr
    assert sorted(path.name for path in store.iterdir()) == before


def test_there_is_no_history(store: Path) -> None:
    for name in ("stats", "export", "show"):
        result = history(name, "--store", store, code=1)
        assert f"there is no history in {store}" in result.stderr
    store.write_text("")
    assert "history" in engine_ops("history", "stats", "--store", str(store)).stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["import"], "name at least one FILE"),
        (["import", "x", "--store", "s", "--window", "1 year"], "is no time such as 30min, 6h or 1d"),
        (["import", "-", "-", "--store", "s"], "standard input can be read only once"),
        (["export", "--format", "parquet", "--store", "s"], "Parquet needs a file"),
        (["export", "--from", "soon", "--store", "s"], "neither a date such as"),
        (["export", "--from", "2026-02-01", "--to", "2026-01-01", "--store", "s"], "--from is later than --to"),
        (["stats", "--store", "s", "--namespace", "n"], "--store names a directory"),
        (["show", "--store", "s", "--plot", "x.gif"], "must end in .svg or .png"),
    ],
)
def test_what_cannot_be_asked(arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in history(*arguments, code=2).stderr


def test_parquet_without_pyarrow(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history("import", write(tmp_path / "p", point()), "--store", store)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for arguments in (["export", "-o", tmp_path / "y.parquet"], ["import", tmp_path / "x.parquet"]):
        result = history(*arguments, "--store", store, code=1)
        assert "pip install 'engine-ops[parquet]'" in result.stderr
    assert not (tmp_path / "y.parquet").exists()


def test_a_picture_for_every_terminal(store: Path, tmp_path: Path) -> None:
    week = [
        point(
            day * DAY_MS,
            request_type="observed-usage",
            duration=float(DAY_MS),
            resource_usage={"cpu": cpu, "memory": 2.0**30},
            metadata={"workload": {"namespace": "team", "kind": "Deployment", "name": name}, "requested": {"cpu": 2.0}},
        )
        for name, level in (("web", 1.0), ("db", 4.0))
        for day, cpu in enumerate([level, level / 2, 0.0, level])
    ]
    for unicode in (True, False):
        for width in (80, 120):
            whole, workloads = collect(week, "all", None)
            lines = draw_history(whole, workloads, Canvas(width, unicode=unicode)).splitlines()
            assert max(map(len, lines)) <= width
            assert unicode or all(line.isascii() for line in lines)
            head = " ".join(lines[: lines.index("")])
            assert head == "all: 8 points, 2 workloads, 2026-01-01 00:00 to 2026-01-04 23:59, 100.0% succeeded"
            assert "cpu, cores: the highest of each 1 d" in lines
            assert "memory: the highest of each 1 d" in lines
            assert not any("duration:" in line for line in lines)
            (web,) = [line for line in lines if line.startswith("team/Deployment/web")]
            (db,) = [line for line in lines if line.startswith("team/Deployment/db")]
            assert lines.index(db) < lines.index(web)
    history("import", write(tmp_path / "p", *week), "--store", store)
    text = history("show", "Deployment/web", "--store", store).stdout
    assert text.startswith("Deployment/web: 4 points, ")
    assert "asks for 2 cpu" in text
    assert "\x1b" not in text
    assert "holds no points about nothing" in history("show", "nothing", "--store", store, code=1).stderr


@pytest.mark.parametrize("wanted", ["etl", "Job/etl", "team/etl", "team/Job/etl", "job/ETL"])
def test_the_names_of_a_workload(wanted: str) -> None:
    assert len(collect([point()], "", wanted)[0]) == 1
    assert len(collect([point()], "", "other/" + wanted)[0]) == 0


def test_what_a_terminal_would_act_on_is_escaped(store: Path, tmp_path: Path) -> None:
    evil = {"workload": {"kind": "Job", "name": "a\x1b[31mb"}, "outcome": {"state": "failed", "reason": "\x1b[2J"}}
    points = [point(at, metadata=evil, success=False, request_type="\x1b[1m") for at in range(2)]
    history("import", write(tmp_path / "p", *points, point()), "--store", store)
    for name in ("show", "stats"):
        assert "\x1b" not in history(name, "--store", store).output


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_as_a_file(suffix: str, store: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history("import", write(tmp_path / "p", point(), point(DAY_MS, duration=9e8), FAILED), "--store", store)
    pictures = []
    for name in ("a", "b"):
        target = tmp_path / f"{name}.{suffix}"
        assert history("show", "--store", store, "--plot", target, "--no-picture").stdout == ""
        pictures.append(target.read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[0].startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


def test_only_all_is_a_hundred_percent() -> None:
    shares = [format_share(rate) for rate in (None, 0.0, 1e-6, 0.5, 0.99999, 1.0)]
    assert shares == ["", "0.0%", "0.1%", "50.0%", "99.9%", "100.0%"]


def test_numbers_are_short() -> None:
    assert [format_number(value) for value in (0.0, 0.012345, 12.0, 99.96, 4096.0)] == [
        "0",
        "0.0123",
        "12",
        "100",
        "4,096",
    ]
    assert [format_duration(value) for value in (0.0, 250.0, 1500.0, 5.4e6, float(DAY_MS))] == [
        "0 ms",
        "250 ms",
        "1.5 s",
        "1.5 h",
        "1 d",
    ]
