"""Points as JSON, JSON lines and Parquet: what goes out comes in again."""

from __future__ import annotations

import gzip
import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine_ops.history.formats.detect import FORMATS, Reading, detect
from engine_ops.history.formats.faults import Fault, FormatError, refuse
from engine_ops.history.formats.identity import identify
from engine_ops.history.formats.json_points import read_json, read_jsonl, write_json, write_jsonl
from engine_ops.history.formats.parquet import read_parquet, write_parquet
from engine_ops.history.formats.source import MAX_LINE_BYTES, Source
from engine_ops.ml.data_point import WorkloadDataPoint

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
POINTS = st.builds(
    WorkloadDataPoint,
    st.integers(-(2**63), 2**63 - 1),
    TEXT,
    st.dictionaries(TEXT, NUMBERS, max_size=3),
    NUMBERS,
    st.booleans(),
    st.dictionaries(TEXT, VALUES, max_size=4),
)


def plain(value: Any) -> Any:
    """A value in which NaN equals itself, -0.0 is not 0.0, and 1 is not 1.0."""
    if isinstance(value, WorkloadDataPoint):
        return plain(value.to_dict())
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return (type(value).__name__, value)


def write_text(
    writer: Callable[[Any, Callable[[bytes], object]], int], points: list[WorkloadDataPoint], path: Path
) -> int:
    with path.open("wb") as file:
        return writer(points, file.write)


def round_trip(kind: str, points: list[WorkloadDataPoint], directory: Path) -> Iterator[WorkloadDataPoint]:
    path = directory / f"points.{kind}"
    if kind == "parquet":
        assert write_parquet(points, path) == len(points)
    else:
        assert write_text(write_json if kind == "json" else write_jsonl, points, path) == len(points)
    return Reading(format=kind).points([Source.of(path)], refuse)


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60)
@given(points=st.lists(POINTS, min_size=1, max_size=4))
def test_what_is_exported_is_imported_again(kind: str, tmp_path: Path, points: list[WorkloadDataPoint]) -> None:
    assert [plain(point) for point in round_trip(kind, points, tmp_path)] == [plain(point) for point in points]


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_keys_that_nobody_knows_are_kept(kind: str, tmp_path: Path) -> None:
    data = {**point().to_dict(), "note": {"by": [1, None, 2.5]}, "further": 1}
    (found,) = round_trip(kind, [WorkloadDataPoint.from_dict(data)], tmp_path)
    assert found.to_dict() == data


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_an_export_is_recognised(kind: str, tmp_path: Path) -> None:
    list(round_trip(kind, [point()], tmp_path))
    assert detect(Source.of(tmp_path / f"points.{kind}")) == kind


def point(**metadata: Any) -> WorkloadDataPoint:
    return WorkloadDataPoint(1_000, "resource", {"cpu": 1.5}, 20.0, True, metadata)


def read(content: bytes | str, path: Path, kind: str = "auto", **options: Any) -> tuple[list[Any], list[Fault]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    faults: list[Fault] = []
    return list(Reading(format=kind, **options).points([Source.of(path)], faults.append)), faults


ONE = '{"timestamp": 1, "requestType": "resource", "resourceUsage": {"cpu": 2}, "duration": null, "success": true}'


@pytest.mark.parametrize(
    "text",
    [
        f"[{ONE}]",
        f'{{"data": [{ONE}]}}',
        f'{{"version": 1,\n"dataPoints": [\n{ONE}\n]}}\n',
        f'{{"version": 1, "note": {{"data": [1]}}, "data_points": [{ONE}]}}',
        f"\ufeff[{ONE}]",
        f"\r\n[\r\n{ONE}\r\n]\r\n",
        f"{ONE}\n",
        f"\ufeff{ONE}\r\n\r\n",
        '{"timestamp": 1, "request_type": "resource", "resource_usage": {"cpu": 2}, "duration": NaN, "success": true}',
    ],
)
def test_the_forms_that_points_may_have(text: str, tmp_path: Path) -> None:
    points, faults = read(text, tmp_path / "points")
    assert not faults
    assert [plain(one) for one in points] == [plain(WorkloadDataPoint(1, "resource", {"cpu": 2.0}, math.nan, True))]


def test_a_document_is_read_in_pieces_whatever_their_ends_cut(tmp_path: Path) -> None:
    points = [point(name=f"n{number}", text="é" * (number % 700)) for number in range(2000)]
    path = tmp_path / "points.json"
    write_text(write_json, points, path)
    assert path.stat().st_size > 4 * 256 * 1024
    assert list(read_json(Source.of(path))) == points
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_json(Source.of(path))) == points


def test_faults_name_file_line_and_field(tmp_path: Path) -> None:
    lines = [ONE, "{", ONE.replace("true", "1"), ONE.replace('"cpu": 2', '"cpu": "x"'), "[]", ONE]
    points, faults = read("\n".join(lines), tmp_path / "points.jsonl", "jsonl")
    assert len(points) == 2
    assert [fault.line for fault in faults] == [2, 3, 4, 5]
    assert str(faults[1]) == f"{tmp_path}/points.jsonl:3: success must be true or false, not int"
    assert "resource_usage['cpu']" in str(faults[2])


def test_the_line_of_an_element_of_an_array(tmp_path: Path) -> None:
    points, faults = read(f"[\n{ONE},\n{{}},\n\n3]", tmp_path / "points.json")
    assert len(points) == 1
    assert [(fault.line, fault.why) for fault in faults] == [
        (3, "timestamp is missing"),
        (5, "a point must be an object, not a number"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (bytes(range(256)) * 8, "is binary"),
        (b"PAR1 and nothing else", "is no Parquet"),
        ("x".encode("utf-16"), "UTF-16"),
        (b"hello\nworld\n", "no format that is known"),
        (b'{"a": 1}', "timestamp is missing"),
        (b'{"a":\n1}', "holds no array of points"),
        (b'{"data": 3}', "holds no array of points"),
        (b"[{]", "is no JSON"),
        (b"[\xff]", "is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (gzip.compress(f"[{ONE}]".encode() * 50)[:-30], "the file is cut"),
        (gzip.compress(f"[{ONE}]".encode())[:-8] + b"\0" * 8, "damaged"),
        (b"\x1f\x8b", "the file is cut"),
        (b'{"timestamp": 9223372036854775808, "requestType": "", "resourceUsage": {}, "duration": 1, "success": true}',
         "must fit 64 bits"),
        (b'[{"timestamp": 1, "requestType": "", "resourceUsage": {}, "duration": 1, "success": true, '
         b'"metadata": {"a": 9223372036854775808}}]', "beyond 64 bits"),
        (b'[{"timestamp": 1, "requestType": "", "resourceUsage": {}, "duration": 1, "success": true, '
         b'"metadata": {"a": "\\ud800"}}]', "surrogate"),
        (b"[" + b"9" * 5000 + b"]", "a point must be an object"),
    ],
)  # fmt: skip
def test_hostile_files(content: bytes, says: str, tmp_path: Path) -> None:
    points, faults = read(content, tmp_path / "hostile")
    assert not points
    assert len(faults) == 1
    assert says in str(faults[0])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"[{ONE},", "ends too early"),
        (f"[{ONE}", "ends too early"),
        (f'{{"data": [{ONE}]', "ends too early"),
        (f"[{ONE} {ONE}]", "expected, found '{'"),
        (f"[{ONE}]\n[{ONE}]", "goes on behind the end"),
        (f'{{"data": [{ONE}], "a" 1}}', "expected, found '1'"),
    ],
)
def test_what_is_whole_before_a_fault_is_read(text: str, says: str, tmp_path: Path) -> None:
    points, faults = read(text, tmp_path / "cut", "json")
    assert len(points) == 1
    assert len(faults) == 1
    assert says in str(faults[0])


@pytest.mark.parametrize("kind", FORMATS)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=40)
@given(content=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
@example(content=b"[]")
def test_whatever_a_file_holds_it_is_read_or_told(kind: str, content: bytes, tmp_path: Path) -> None:
    for chosen in (kind, "auto"):
        points, faults = read(content, tmp_path / "any", chosen)
        empty = content.translate(None, b" \t\r\n") == b"[]"  # there is nothing to tell of it
        assert points or faults or chosen in ("csv", "swf", "prometheus", "auto") or (chosen == "json" and empty)


def test_a_huge_line_is_one_fault(tmp_path: Path) -> None:
    content = f"{ONE}\n{'x' * (3 * MAX_LINE_BYTES)}\n{ONE}\n"
    points, faults = read(content, tmp_path / "points.jsonl", "jsonl")
    assert len(points) == 2
    assert [(fault.line, fault.why) for fault in faults] == [(2, "is longer than 1,048,576 bytes")]


def test_a_cut_file_gives_what_was_before_the_cut(tmp_path: Path) -> None:
    lines = "".join(json.dumps(point(name=str(number)).to_dict()) + "\n" for number in range(5000))
    packed = gzip.compress(lines.encode())
    points, faults = read(packed[: len(packed) // 2], tmp_path / "points.jsonl.gz")
    assert 0 < len(points) < 5000
    assert [fault.why for fault in faults] == ["the gzip data ends too early: the file is cut"]
    assert faults[0].line == len(points)


def test_the_next_file_is_read_after_one_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("[")
    (tmp_path / "good").write_text(ONE)
    faults: list[Fault] = []
    sources = [Source.of(tmp_path / name) for name in ("bad", "none", "good")]
    assert len(list(Reading().points(sources, faults.append))) == 1
    assert [fault.file.rpartition("/")[2] for fault in faults] == ["bad", "none"]
    with pytest.raises(FormatError):
        list(Reading().points(sources, refuse))


def test_parquet_with_other_columns(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "points.parquet"
    usage = pa.array([{"cpu": 1.0, "memory": None}, {"cpu": 2.0, "memory": 5.0}])
    table = {
        "timestamp": pa.array([1_000, 2_000], pa.timestamp("ms")),
        "request_type": ["a", "b"],
        "resource_usage": usage,
        "duration": [1.5, None],
        "success": [True, None],
        "other": [1, 2],
    }
    pq.write_table(pa.table(table), path)
    faults: list[Fault] = []
    assert list(read_parquet(Source.of(path), faults.append)) == [
        WorkloadDataPoint(1_000, "a", {"cpu": 1.0}, 1.5, True)
    ]
    assert [(fault.line, fault.why) for fault in faults] == [(2, "success must be true or false, not NoneType")]
    del table["success"]
    pq.write_table(pa.table(table), path)
    with pytest.raises(FormatError, match="has no column success; its columns are: timestamp, request_type"):
        list(read_parquet(Source.of(path)))


@given(POINTS)
def test_an_identity_comes_from_the_content(one: WorkloadDataPoint) -> None:
    twin, other = WorkloadDataPoint.from_dict(one.to_dict()), WorkloadDataPoint.from_dict(one.to_dict())
    other.request_type += "x"
    for which in (one, twin, other):
        which.metadata.pop("uid", None)
    first, second, third = (identify(which).metadata for which in (one, twin, other))
    assert (first["uid"], first["generation"], first["run"]) == (second["uid"], 1, 1)
    assert third["uid"] != first["uid"]


def test_an_identity_that_is_there_is_kept() -> None:
    kept = identify(point(uid="u", generation=3, run=7, outcome={"of": "workload"})).metadata
    assert kept == {"uid": "u", "generation": 3, "run": 7, "outcome": {"of": "workload"}}
    assert identify(point(requestId="r")).metadata["requestId"] == "r"
    assert identify(point()).metadata["outcome"] == {"of": "import"}


def test_jsonl_reader_refuses_by_default(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("{")
    with pytest.raises(FormatError, match=r"p:1: is no JSON"):
        list(read_jsonl(Source.of(tmp_path / "p")))
