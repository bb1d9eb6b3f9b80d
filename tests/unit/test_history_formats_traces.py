"""Job logs, samples of usage and answers of Prometheus as points."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history.formats.detect import Reading, detect
from engine_ops.history.formats.faults import Fault, refuse
from engine_ops.history.formats.source import Source
from engine_ops.history.formats.windows import summarise
from engine_ops.ml.data_point import WorkloadDataPoint

DAY_S = 86_400
HEADER = "; Version: 2.2\n; UnixStartTime: 1000\n; TimeZone: -28800\n;\n"
#      job submit wait run alloc cpu mem procs time reqmem status user group exe queue partition before think
DONE = " 1    10   5   60   4   -1  100    8  600   200    1    7   2   3   0    1    -1  -1"


def read(text: str | bytes, path: Path, **options: Any) -> tuple[list[WorkloadDataPoint], list[Fault]]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults: list[Fault] = []
    return list(Reading(**options).points([Source.of(path)], faults.append)), faults


@pytest.mark.parametrize("packed", [False, True])
def test_a_job_of_a_log(packed: bool, tmp_path: Path) -> None:
    text = (HEADER + DONE + "\n").encode()
    points, faults = read(gzip.compress(text) if packed else text, tmp_path / "log.swf")
    assert not faults
    assert points == [
        WorkloadDataPoint(
            1_010_000,
            "observed-job",
            {"memory": 100 * 1024 * 4},
            60_000,
            True,
            {
                "namespace": "user-7",
                "name": "3",
                "job": 1,
                "workload": {"namespace": "user-7", "kind": "Executable", "name": "3"},
                "request": {
                    "user": "7",
                    "group": "2",
                    "executable": "3",
                    "queue": "0",
                    "partition": "1",
                    "processors": 8,
                    "timeSeconds": 600,
                },
                "requested": {"cpu": 8.0, "memory": 200 * 1024 * 8},
                "allocated": {"cpu": 4.0},
                "waitMs": 5000,
                "utcOffsetSeconds": -28800,
                "outcome": {"of": "import", "state": "succeeded", "closedAt": 1_075_000},
            },
        )
    ]


def test_what_a_log_does_not_have_is_left_out(tmp_path: Path) -> None:
    (point,), faults = read("2 0 -1 -1 16 -1 -1 -1 -1 -1 5 -1 -1 -1 -1 -1 -1 -1\n", tmp_path / "log")
    assert not faults
    assert math.isnan(point.duration)
    assert not point.success
    assert point.resource_usage == {}
    assert point.metadata == {
        "namespace": "unknown",
        "name": "unknown",
        "job": 2,
        "workload": {"namespace": "unknown", "kind": "User", "name": "unknown"},
        "request": {"processors": 16},
        "requested": {"cpu": 16.0},
        "allocated": {"cpu": 16.0},
        "outcome": {"of": "import", "state": "failed", "reason": "Cancelled", "closedAt": 0},
    }


@pytest.mark.parametrize(
    ("status", "success", "reason"),
    [(0, False, "Failed"), (1, True, None), (5, False, "Cancelled"), (-1, True, "NotRecorded")],
)
def test_how_a_job_ended(status: int, success: bool, reason: str | None, tmp_path: Path) -> None:
    fields = DONE.split()
    fields[10] = str(status)
    (point,), _ = read(" ".join(fields), tmp_path / "log")
    assert point.success is success
    assert point.metadata["outcome"].get("reason") == reason


def test_single_bursts_of_a_job_are_passed_over(tmp_path: Path) -> None:
    rows = [DONE.split() for _ in range(4)]
    for row, status in zip(rows, ("2", "3", "4", "1"), strict=True):
        row[10] = status
    points, faults = read("\n".join(" ".join(row) for row in rows), tmp_path / "log")
    assert (len(points), faults) == (1, [])


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (1, "-5", "submit time: is -5; a time in seconds cannot be below 0"),
        (2, "-2", "wait time: is -2"),
        (3, "-60", "run time: is -60"),
        (3, "nan", "run time: is no finite number: 'nan'"),
        (3, "inf", "run time: is no finite number: 'inf'"),
        (3, "9" * 30, "run time: is 9999"),
        (4, "many", "allocated processors: is no number: 'many'"),
        (10, "7", "status: is 7; known are -1 to 5"),
        (17, "", "has 17 columns; the Standard Workload Format has 18"),
        (17, "1 1", "has 19 columns"),
    ],
)
def test_a_row_that_is_none(at: int, value: str, says: str, tmp_path: Path) -> None:
    fields = DONE.split()
    fields[at] = value
    points, faults = read(f"{HEADER}{DONE}\r\n{' '.join(fields)}\r\n{DONE}\r\n", tmp_path / "log.swf")
    assert len(points) == 2
    assert len(faults) == 1
    assert str(faults[0]).startswith(f"{tmp_path}/log.swf:6: {says}")


def test_usage_becomes_windows(tmp_path: Path) -> None:
    lines = ["id,timestamp,cpu,memory"]
    for at, cpu in enumerate([0.5, 0.1, 0.2, 0.3]):
        lines.append(f"prod/web,{DAY_S + at * 300},{cpu},{1000 * at}")
    lines.append(f"prod/web,{2 * DAY_S},4,")
    points, faults = read("\n".join(lines), tmp_path / "usage.csv")
    assert not faults
    first, second = points
    assert (first.timestamp, first.duration, first.request_type) == (DAY_S * 1000, DAY_S * 1000, "observed-usage")
    assert first.resource_usage == {"cpu": 0.5, "memory": 3000.0}
    assert first.metadata["containers"]["main"]["cpu"] == {
        "p50": pytest.approx(0.25),
        "p95": pytest.approx(0.47),
        "peak": 0.5,
    }
    assert first.metadata["workload"] == {"kind": "Workload", "name": "web", "namespace": "prod"}
    assert first.metadata["outcome"] == {
        "of": "import",
        "state": "succeeded",
        "closedAt": 2 * DAY_S * 1000,
        "samples": 4,
    }
    assert second.resource_usage == {"cpu": 4.0}


def test_windows_of_ids_that_take_turns(tmp_path: Path) -> None:
    rows = [f"vm{who},{at * 3600},{at + who}" for at in range(5) for who in range(3)]
    points, faults = read("id;timestamp;cpu\n" + "\n".join(rows).replace(",", ";"), tmp_path / "u", window_ms=7_200_000)
    assert not faults
    found = [(point.metadata["name"], point.timestamp // 3_600_000, point.resource_usage["cpu"]) for point in points]
    expected = [(f"vm{who}", start, min(start + 1, 4) + who) for who in range(3) for start in (0, 2, 4)]
    assert sorted(found) == expected


def test_bitbrains_with_capacities(tmp_path: Path) -> None:
    (tmp_path / "vms.csv").write_text("id,cpu_count,cpu_capacity,mem_capacity\n7,4,8000,1024\n")
    capacity = Source.of(tmp_path / "vms.csv")
    points, faults = read("id,timestamp,cpu_usage\n7,0,2000\n8,0,1\n", tmp_path / "cpu.csv", capacity=capacity)
    (point,) = points
    assert point.resource_usage == {"cpu": 1.0}
    assert point.metadata["requested"] == {"cpu": 4.0, "memory": 1024.0 * 1024}
    assert point.metadata["workload"]["kind"] == "Machine"
    assert [(fault.line, fault.field) for fault in faults] == [(3, "id")]


def test_megahertz_need_capacities(tmp_path: Path) -> None:
    points, faults = read("id,timestamp,cpu_usage\n7,0,2000\n", tmp_path / "cpu.csv")
    assert not points
    assert "--capacity must name" in str(faults[0])


def test_times_of_any_kind(tmp_path: Path) -> None:
    rows = ["a,1700000000,1", "b,1700000000000,1", "c,2023-11-14T22:13:20Z,1", "d,2023-11-14T22:13:20,1"]
    points, faults = read("id,timestamp,cpu\n" + "\n".join(rows), tmp_path / "u", window_ms=1000)
    assert not faults
    assert {point.timestamp for point in points} == {1_700_000_000_000}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,-1,1", "timestamp: is -1; it must be epoch seconds or milliseconds"),
        ("a,nan,1", "timestamp: is no finite number: 'nan'"),
        ("a,soon,1", "timestamp: is neither a number nor an ISO 8601 time: 'soon'"),
        ("a,1,-1", "cpu: is -1; usage cannot be below 0"),
        ("a,1,NaN", "cpu: is no finite number: 'NaN'"),
        ("a,1,much", "cpu: is no number: 'much'"),
        ("a,1", "has 2 columns; the header has 3"),
        ("a,1,2,3", "has 4 columns; the header has 3"),
        ("a,1,", "has neither cpu nor memory"),
        (",1,1", "id: is empty"),
        ('a,1,"' + "1" * 200_000 + '"', "field larger than field limit"),
    ],
)
def test_a_sample_that_is_none(row: str, says: str, tmp_path: Path) -> None:
    points, faults = read(f"\ufeffid,timestamp,cpu\r\nb,1,1\r\n{row}\r\nb,2,3\r\n", tmp_path / "usage.csv")
    assert [point.resource_usage for point in points] == [{"cpu": 3.0}]
    assert len(faults) == 1
    assert str(faults[0]).startswith(f"{tmp_path}/usage.csv:3: {says}")


def test_samples_out_of_order_are_told(tmp_path: Path) -> None:
    rows = [f"a,{2 * DAY_S},1", f"a,{DAY_S},1", f"a,{2 * DAY_S + 1},2"]
    points, faults = read("id,timestamp,cpu\n" + "\n".join(rows), tmp_path / "u")
    assert [point.resource_usage for point in points] == [{"cpu": 2.0}]
    assert [fault.line for fault in faults] == [3]


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("name,cpu", "has no column timestamp; its columns are: 'name', 'cpu'"),
        ("timestamp,cpu", "has no column id"),
        ("id,timestamp,disk", "has no column cpu or memory"),
        ("1,2,3", "has no column id"),
    ],
)
def test_columns_that_are_none(header: str, says: str, tmp_path: Path) -> None:
    points, faults = read(f"{header}\n1,2,3\n", tmp_path / "u.csv", format="csv")
    assert not points
    assert len(faults) == 1
    assert says in str(faults[0])


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=40))
def test_quantiles_are_numpys(samples: list[float]) -> None:
    from array import array

    found = summarise(array("d", samples))
    assert [found[name] for name in ("p50", "p95", "peak")] == pytest.approx(
        np.quantile(samples, [0.5, 0.95, 1.0]).tolist()
    )


def matrix(*series: tuple[dict[str, str], list[Any]]) -> str:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, "warnings": []})


def labels(pod: str, container: str = "app", **others: str) -> dict[str, str]:
    return {"namespace": "prod", "pod": pod, "container": container, **others}


def test_prometheus_sums_containers_and_takes_the_largest_pod(tmp_path: Path) -> None:
    first, second = "web-5d4f8b7c9d-x7k2p", "web-5d4f8b7c9d-zzzzz"
    cpu = matrix(
        (labels(first), [[0, "1"], [60, "2"], [120.5, "NaN"]]),
        (labels(first, "proxy"), [[0, "3"], [60, "0.5"]]),
        (labels(first, ""), [[0, "100"]]),
        (labels(first, "POD"), [[0, "100"]]),
        (labels(second), [[0, "3.5"]]),
    )
    memory = matrix((labels(first), [[0, "10"], [60, "30"]]))
    (tmp_path / "cpu.json").write_text(cpu)
    (tmp_path / "memory.json").write_text(memory)
    reading = Reading(cpu=[Source.of(tmp_path / "cpu.json")], memory=[Source.of(tmp_path / "memory.json")])
    (point,) = reading.points([], refuse)
    assert point.resource_usage == {"cpu": 4.0, "memory": 30.0}
    assert point.metadata["workload"] == {"kind": "Deployment", "name": "web", "namespace": "prod"}
    assert point.metadata["outcome"]["pods"] == 2
    assert sorted(point.metadata["containers"]) == ["app", "proxy"]
    assert point.metadata["containers"]["app"]["cpu"] == {"p50": 2.0, "p95": pytest.approx(3.35), "peak": 3.5}
    assert point.duration == DAY_S * 1000


@pytest.mark.parametrize(
    ("given_labels", "kind", "name"),
    [
        (labels("db-0"), "StatefulSet", "db"),
        (labels("web-5d4f8b7c9d-x7k2p"), "Deployment", "web"),
        (labels("node-agent-x7k2p"), "Workload", "node-agent"),
        (labels("plain"), "Pod", "plain"),
        (labels("x-0", workload="api", workload_type="daemonset"), "DaemonSet", "api"),
        ({"namespace": "prod", "workload": "api"}, "Workload", "api"),
    ],
)
def test_the_workload_of_a_series(given_labels: dict[str, str], kind: str, name: str, tmp_path: Path) -> None:
    text = matrix(({**given_labels, "__name__": "container_memory_working_set_bytes"}, [[0, "1"]]))
    (point,), faults = read(text, tmp_path / "m.json")
    assert not faults
    assert detect(Source.of(tmp_path / "m.json")) == "prometheus"
    assert point.metadata["workload"] == {"kind": kind, "name": name, "namespace": "prod"}
    assert point.resource_usage == {"memory": 1.0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (matrix(({"__name__": "container_cpu_usage_seconds_total", "pod": "p"}, [])), "ask Prometheus for rate("),
        (matrix((labels("p"), [[0, "1"]])), "give the file with --cpu or --memory"),
        (matrix(({"__name__": "cpu"}, [])), "neither a label pod nor workload"),
        (matrix(({"__name__": "cpu", "pod": "p"}, [[0, "+Inf"]])), "values[0]: is '+Inf'"),
        (matrix(({"__name__": "cpu", "pod": "p"}, [[0, "-1"]])), "values[0]: is '-1'"),
        (matrix(({"__name__": "cpu", "pod": "p"}, [[0, "1"], 3])), "values[1]: must be a pair"),
        (matrix(({"__name__": "cpu", "pod": "p"}, [[-5, "1"]])), "has no time in epoch seconds: -5"),
        (
            '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[0,"1"]}]}}',
            "instant query",
        ),
        ('{"status":"error","errorType":"bad_data","error":"x","data":{"resultType":""}}', "no data.result"),
        ('{"data":{"resultType":"matrix","result":[', "ends too early"),
    ],
)
def test_an_answer_that_cannot_be_read(text: str, says: str, tmp_path: Path) -> None:
    points, faults = read(text, tmp_path / "answer.json")
    assert not points
    assert len(faults) == 1
    assert says in str(faults[0])
