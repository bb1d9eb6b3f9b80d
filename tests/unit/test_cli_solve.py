from __future__ import annotations

import asyncio
import base64
import copy
import datetime
import gzip
import json
import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cli_support import (
    DATA,
    PROGRAM,
    REQUESTS,
    InProcessPool,
    config_map,
    engine_ops,
    normalise,
    packing,
    pool_that_raises,
    request,
    stream,
    use_pool,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api.optimizationrequest import OptimizationRequestSpec, OptimizationRequestStatus
from engine_ops.api.status import Attempt, answered
from engine_ops.cli.answering import UNLIMITED_BYTES, Answered, answer_all
from engine_ops.cli.manifests import read_manifests
from engine_ops.controllers.solving import solution_of, task_for
from engine_ops.workers.early_pool import EarlyPool
from engine_ops.workers.errors import WorkerDiedError, WorkerStartError, WorkerTimeoutError
from engine_ops.workers.frames import FrameTooLargeError
from engine_ops.workers.messages import Solved
from engine_ops.workers.solve import evaluate


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pool(monkeypatch, InProcessPool)


def solve(*documents: dict[str, Any], options: tuple[str, ...] = ()) -> Any:
    return engine_ops("solve", "-f", "-", *options, stdin=stream(*documents))


def solve_one(document: dict[str, Any], *others: dict[str, Any], options: tuple[str, ...] = ()) -> dict[str, Any]:
    result = solve(document, *others, options=(*options, "-o", "json"))
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def ready(printed: dict[str, Any]) -> dict[str, Any]:
    (condition,) = [item for item in printed["status"]["conditions"] if item["type"] == "Ready"]
    return dict(condition)


CAPACITY = {"cpu": 8, "memory": "8Gi"}

# -- What is printed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["table", "yaml", "json"])
def test_golden(output: str) -> None:
    result = engine_ops("solve", "-f", REQUESTS, "-o", output)
    assert result.exit_code == 1  # too-big and learn are not answerable
    assert result.stderr == ""
    golden = DATA / f"solve.{output}.golden"
    assert normalise(result.stdout) == golden.read_text(), f"if this is meant, write it to {golden}"


def test_workers_give_the_same() -> None:
    """The real thing, once: processes, a shell's view of standard output, error and exit code."""
    command = [*PROGRAM, "solve", "-f", str(REQUESTS), "-o", "yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, "")
    assert normalise(done.stdout) == (DATA / "solve.yaml.golden").read_text()


def test_yaml_and_json_say_the_same() -> None:
    as_yaml = engine_ops("solve", "-f", REQUESTS, "-o", "yaml").stdout
    as_json = engine_ops("solve", "-f", REQUESTS, "-o", "json").stdout
    items = json.loads(normalise(as_json))
    assert (items["kind"], items["apiVersion"]) == ("List", "v1")
    assert list(yaml.safe_load_all(normalise(as_yaml))) == items["items"]


def test_one_document_is_one_json_object() -> None:
    assert solve_one(request("only"))["metadata"] == {"name": "only"}


def test_what_is_printed_can_be_read_again() -> None:
    first = solve(request("a", intervalSeconds=10), request("b"), options=("-o", "json"))
    second = engine_ops("solve", "-f", "-", "-o", "json", stdin=first.stdout)
    assert second.exit_code == 0
    assert normalise(second.stdout) == normalise(first.stdout)


def test_texts_that_look_like_numbers_keep_their_quotes() -> None:
    result = solve(request(type="ml-driven", data={"a": "1e3", "b": "0o17", "c": "12", "d": "v1"}), options=("-oyaml",))
    for line in ("a: '1e3'", "b: '0o17'", "c: '12'", "d: v1"):
        assert line in result.stdout


def test_a_terminal_is_not_steered_by_an_id() -> None:
    items = [{"id": "\x1b[2J", "cpu": 9, "memory": 1}]
    result = solve(request(data={"items": items, "nodeCapacity": {"cpu": 1, "memory": 1}}))
    assert "\x1b" not in result.stdout
    assert "\\x1b[2J" in result.stdout


def test_namespaces_are_a_column_where_they_differ() -> None:
    other = request("b")
    other["metadata"]["namespace"] = "team"
    assert solve(request("a"), request("b")).stdout.startswith("NAME ")
    assert solve(request("a"), other).stdout.startswith("NAMESPACE ")


def test_a_long_answer_is_cut_in_the_table_only() -> None:
    data = {
        "tasks": [{"id": f"t{i}", "cpuRequired": 1, "memoryRequired": 1} for i in range(40)],
        "nodes": [{"id": "a", "cpuLoad": 0, "memoryLoad": 0}],
    }
    document = request(type="scheduling", data=data)
    assert "  and 30 more: -o yaml prints all\n" in solve(document).stdout
    assert len(solve_one(document)["status"]["result"]["placements"]) == 40


@pytest.mark.parametrize(
    ("capacity", "words"), [({}, "cpu 11 %, memory 12 %"), ({"capacity": CAPACITY}, "cpu 1500m, memory 3Gi")]
)
def test_the_load_after_a_placement_has_its_unit(capacity: dict[str, Any], words: str) -> None:
    amounts = ("500m", "1Gi") if capacity else (1, 2)
    load = (1, "2Gi") if capacity else (10, 10)
    task = {"id": "t", "cpuRequired": amounts[0], "memoryRequired": amounts[1]}
    node = {"id": "a", "cpuLoad": load[0], "memoryLoad": load[1], **capacity}
    result = solve(request(type="scheduling", data={"task": task, "nodes": [node]}))
    assert f"  load after: {words}\n" in result.stdout


def test_recommendations_are_in_the_table() -> None:
    data = {"samples": {"containers": [{"name": "web", "cpu": [0.1] * 30, "memory": ["64Mi"] * 30}]}}
    assert "  web: requests cpu " in solve(request(type="performance", data=data)).stdout


# -- The status is the operator's ---------------------------------------------------------------------------------


async def _answer(file: str) -> list[Answered]:
    async with EarlyPool() as pool:
        return await answer_all(read_manifests([file]), pool)


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    cpu_milli=st.lists(st.integers(100, 5000), min_size=6, max_size=6),
    generation=st.none() | st.integers(1, 9),
)
def test_the_status_is_what_the_operator_would_write(
    counts: list[int], cpu_milli: list[int], generation: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    items = [
        {"id": f"i{i}", "cpu": f"{cpu}m", "memory": 1, "count": count}
        for i, (count, cpu) in enumerate(zip(counts, cpu_milli, strict=False))
    ]
    document = request(data={"items": items, "nodeCapacity": {"cpu": 4, "memory": 10}})
    if generation is not None:
        document["metadata"]["generation"] = generation
    file = tmp_path_factory.getbasetemp() / "property.json"
    file.write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        use_pool(patch, InProcessPool)
        (printed,) = asyncio.run(_answer(str(file)))

    spec = OptimizationRequestSpec.model_validate(document["spec"])
    data = msgspec.json.encode(document["spec"]["data"])
    solved = evaluate(task_for(spec, data, task_id="", inline_limit_bytes=UNLIMITED_BYTES))
    assert isinstance(solved, Solved)
    now = datetime.datetime.now(datetime.UTC)
    expected = answered(Attempt({}, generation or 1, 1, now), solution_of(solved), now)
    text = msgspec.json.encode(expected).decode()
    assert json.loads(normalise(json.dumps(printed.status))) == json.loads(normalise(text.replace('":', '": ')))


def test_every_status_is_valid_in_the_crd() -> None:
    for printed in json.loads(engine_ops("solve", "-f", REQUESTS, "-o", "json").stdout)["items"]:
        OptimizationRequestStatus.model_validate(printed["status"])


def test_a_large_result_is_whole() -> None:
    data = {
        "tasks": [{"id": f"task-{i:04}", "cpuRequired": "1m", "memoryRequired": 1} for i in range(1500)],
        "nodes": [{"id": "a", "cpuLoad": 0, "memoryLoad": 0, "capacity": {"cpu": 8, "memory": "8Gi", "pods": 5000}}],
    }
    status = solve_one(request(type="scheduling", data=data))["status"]
    assert "resultRef" not in status
    assert len(json.dumps(status["result"])) > 32 * 1024
    assert len(status["result"]["placements"]) == 1500


def test_an_older_status_is_not_looked_at() -> None:
    document = request()
    document["status"] = {"observedGeneration": 3, "result": {"old": True}, "resultRef": {"name": "x", "key": "y"}}
    status = solve_one(document)["status"]
    assert "resultRef" not in status
    assert "old" not in status["result"]
    assert status["observedGeneration"] == 1


def test_the_input_is_printed_as_it_was() -> None:
    document = request("a", ttlSecondsAfterFinished=5, constraints={"maxNodes": 4})
    document["metadata"] |= {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    before = copy.deepcopy(document)
    printed = solve_one(document)
    del printed["status"]
    assert printed == before


# -- Exit codes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "exit_code", "reason"),
    [
        (request(), 0, "Solved"),
        (request(suspend=True), 0, "Suspended"),
        (request(intervalSeconds=10), 0, "Solved"),
        (request(data=packing(cpu="3")), 1, "Unplaceable"),
        (request(type="ml-driven", data={}), 1, "NoPlugin"),
        (request(plugin="mine"), 1, "NoPlugin"),
        (request(plugin="none"), 0, "Solved"),
        (request(dataFrom={"configMapKeyRef": {"name": "x", "key": "y"}}), 1, "DataNotFound"),
        (request(data=packing(cpu="-1")), 2, "InvalidData"),
        (request(constraints={"maxNode": 3}), 2, "InvalidData"),
        (request(type="resources"), 2, "InvalidSpec"),
        (request(searchSeconds=31), 2, "InvalidSpec"),
    ],
)
def test_exit_code_and_reason(document: dict[str, Any], exit_code: int, reason: str) -> None:
    result = solve(document, options=("-o", "json"))
    assert result.exit_code == exit_code
    assert ready(json.loads(result.stdout))["reason"] == reason
    assert bool(result.stderr) == (exit_code == 2)


def test_the_worst_document_wins_and_the_others_are_answered() -> None:
    good, waits, bad = request("good"), request("waits", type="ml-driven"), request("bad", data={})
    assert solve(good).exit_code == 0
    assert solve(waits, good).exit_code == 1
    result = solve(bad, waits, good, options=("-o", "json"))
    assert result.exit_code == 2
    reasons = [ready(item)["reason"] for item in json.loads(result.stdout)["items"]]
    assert reasons == ["InvalidData", "NoPlugin", "Solved"]


# -- Time-outs, and workers that die ------------------------------------------------------------------------------


def _incumbent() -> Solved:
    spec = OptimizationRequestSpec.model_validate(request()["spec"])
    solved = evaluate(task_for(spec, msgspec.json.encode(packing()), task_id=""))
    assert isinstance(solved, Solved)
    return solved


@pytest.mark.parametrize(
    ("error", "has_incumbent", "exit_code", "reason", "words"),
    [
        (WorkerTimeoutError(7), True, 0, "BestSoFar", "the search was cut off: timeoutSeconds (7) passed"),
        (WorkerTimeoutError(7), False, 1, "TimedOut", "no answer within spec.timeoutSeconds (7 s)"),
        (WorkerDiedError("killed"), True, 0, "BestSoFar", "the worker died (killed)"),
        (WorkerDiedError("killed"), False, 1, "WorkerDied", "before there was an answer"),
        (FrameTooLargeError(99, 9), False, 2, "InvalidData", "99"),
    ],
)
def test_a_worker_that_ends_early(
    error: Exception, has_incumbent: bool, exit_code: int, reason: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_pool(monkeypatch, pool_that_raises(error, _incumbent() if has_incumbent else None))
    result = solve(request(timeoutSeconds=7), options=("-o", "json"))
    assert result.exit_code == exit_code
    condition = ready(json.loads(result.stdout))
    assert condition["reason"] == reason
    assert words in condition["message"]


def test_a_search_that_overruns_is_killed_and_the_best_so_far_printed() -> None:
    """With real workers: three scarce resources, which no search proves optimal within a second."""
    random_ = random.Random(1)
    items = [
        {
            "id": f"item-{number}",
            "cpu": f"{random_.randint(1100, 4900)}m",
            "memory": f"{random_.randint(1100, 4900)}Mi",
            "resources": {"example.com/lanes": random_.randint(11, 49)},
        }
        for number in range(200)
    ]
    capacity = {"cpu": 10, "memory": "10000Mi", "resources": {"example.com/lanes": 100}}
    data = {"items": items, "nodeCapacity": capacity}
    command = [*PROGRAM, "solve", "-f", "-", "-o", "json", "--search-seconds", "3600"]
    for seconds in (1, 4, 16, 64):  # on a busy machine the time may be over before there is any answer
        document = stream(request(data=data, timeoutSeconds=seconds))
        done = subprocess.run(command, input=document, capture_output=True, text=True, check=False, timeout=240)
        printed = json.loads(done.stdout)
        if ready(printed)["reason"] != "TimedOut":
            break
    assert (done.returncode, done.stderr) == (0, "")
    assert ready(printed)["reason"] == "BestSoFar"
    assert ready(printed)["message"].endswith(f"; the search was cut off: timeoutSeconds ({seconds}) passed")
    assert sum(sum(item["count"] for item in node["items"]) for node in printed["status"]["result"]["nodes"]) == 200


def test_workers_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(InProcessPool):
        async def start(self) -> None:
            raise WorkerStartError("no numpy")

    use_pool(monkeypatch, Broken)
    result = solve(request())
    assert result.exit_code == 1
    assert result.stderr == "Error: no numpy\n"
    assert solve(request(suspend=True)).exit_code == 0  # which needs no worker


def test_search_seconds_takes_the_place_of_the_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Recording(InProcessPool):
        async def run(self, task: Any, *, timeout_seconds: float, on_incumbent: Any = None) -> Any:
            seen.append((task.search_seconds, timeout_seconds))
            return await super().run(msgspec.structs.replace(task, search_seconds=0), timeout_seconds=timeout_seconds)

    use_pool(monkeypatch, Recording)
    solve(request(searchSeconds=3, timeoutSeconds=5))
    solve(request(searchSeconds=3, timeoutSeconds=5), options=("--search-seconds", "0.5"))
    assert seen == [(3.0, 5.0), (0.5, 5.0)]


# -- dataFrom -----------------------------------------------------------------------------------------------------

FROM = {"configMapKeyRef": {"name": "data", "key": "k"}}
TEXT = json.dumps(packing())


@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"k": TEXT}},
        {"data": {"k": yaml.safe_dump(packing())}},
        {"binaryData": {"k": base64.b64encode(TEXT.encode()).decode()}},
        {"binaryData": {"k": base64.encodebytes(TEXT.encode() * 1).decode()}},
    ],
)
def test_data_from_a_config_map(fields: dict[str, Any]) -> None:
    printed = solve_one(request(dataFrom=FROM), config_map("data", **fields))
    assert printed["kind"] == "OptimizationRequest"
    assert ready(printed)["reason"] == "Solved"


@pytest.mark.parametrize(
    ("others", "exit_code", "reason", "message"),
    [
        ([], 1, "DataNotFound", "ConfigMap default/data is not among the documents"),
        ([config_map("other", data={"k": TEXT})], 1, "DataNotFound", "is not among the documents"),
        ([config_map("data", data={"j": ""})], 1, "DataNotFound", "ConfigMap default/data has no key 'k'; it has: j"),
        ([config_map("data")], 1, "DataNotFound", "it has: none"),
        ([config_map("data", data={"k": "{"})], 2, "InvalidData", "spec.dataFrom.configMapKeyRef(data/k): "),
        ([config_map("data", data={"k": "{}"})], 2, "InvalidData", "spec.dataFrom.configMapKeyRef(data/k).items: "),
    ],
)
def test_data_that_is_not_there_or_wrong(
    others: list[dict[str, Any]], exit_code: int, reason: str, message: str
) -> None:
    result = solve(request(dataFrom=FROM), *others, options=("-o", "json"))
    assert result.exit_code == exit_code
    printed = json.loads(result.stdout)
    assert ready(printed)["reason"] == reason
    assert message in ready(printed)["message"]
    assert (message in result.stderr) == (exit_code == 2)


def test_a_config_map_of_another_namespace_is_not_read() -> None:
    other = config_map("data", data={"k": TEXT})
    other["metadata"]["namespace"] = "team"
    assert ready(solve_one(request(dataFrom=FROM), other))["reason"] == "DataNotFound"


# -- What is wrong with manifests ---------------------------------------------------------------------------------


def _with(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    document = request()
    change(document)
    return document


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        (_with(lambda d: d.pop("kind")), ["document 1 (a): kind: required, but absent"]),
        (_with(lambda d: d.pop("apiVersion")), ["document 1 (a): apiVersion: required, but absent"]),
        (
            _with(lambda d: d.update(apiVersion="engineops.dev/v1")),
            [
                "document 1 (a): apiVersion: must be engineops.dev/v1alpha1 for kind OptimizationRequest, "
                "is engineops.dev/v1"
            ],
        ),
        (
            _with(lambda d: d.update(kind="OptimisationRequest")),
            ["document 1 (a): kind: engineops.dev has no kind OptimisationRequest; did you mean OptimizationRequest?"],
        ),
        (_with(lambda d: d.pop("metadata")), ["document 1: metadata: required, but absent"]),
        (_with(lambda d: d["metadata"].pop("name")), ["document 1: metadata.name: required, but absent"]),
        (_with(lambda d: d.update(specs={})), ["document 1 (a): specs: unknown field"]),
        (_with(lambda d: d.pop("spec")), ["document 1 (a): spec: required, but absent"]),
        (_with(lambda d: d["spec"].update(dat={})), ["document 1 (a): spec.dat: unknown field"]),
        (
            _with(lambda d: d["spec"].update(dataFrom=FROM)),
            [
                "document 1 (a): spec: exactly one of data and dataFrom must be set, "
                "or data with the tasks beside dataFrom.cluster"
            ],
        ),
        (
            _with(lambda d: d["spec"]["data"]["items"].append({"id": "b", "cpu": "1x", "memory": 1, "size": 2})),
            [
                "document 1 (a): spec.data.items[1].cpu: '1x' is not a Kubernetes quantity: write it like 500m, 1.5, "
                "8Gi or 1e3",
                "document 1 (a): spec.data.items[1].size: unknown field",
            ],
        ),
        (config_map("c", data={"k": 1}), ["document 1 (c): data.k: must be a text"]),
        (config_map("c", data=[]), ["document 1 (c): data: must be an object"]),
        (config_map("c", binaryData={"k": "%"}), ["document 1 (c): binaryData.k: must be base64"]),
    ],
)
def test_every_fault_is_named_with_its_path(document: dict[str, Any], faults: list[str]) -> None:
    result = solve(document)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [f"stdin: {fault}" for fault in faults]


def test_all_faults_are_named_not_only_the_first_few() -> None:
    items = [{"id": str(i), "cpu": -1, "memory": 1} for i in range(30)]
    result = solve(request(data={"items": items, "nodeCapacity": {"cpu": 1, "memory": 1}}))
    lines = result.stderr.splitlines()
    assert len(lines) == 30
    assert lines[29].startswith("stdin: document 1 (a): spec.data.items[29].cpu: ")


def test_a_bad_name_is_refused() -> None:
    result = solve(request("Not_A_Name"))
    assert result.exit_code == 2
    assert result.stderr.startswith("stdin: document 1 (Not_A_Name): metadata.name: ")


def test_a_name_is_taken_once() -> None:
    result = solve(request("a"), request("b"), request("a"), options=("-o", "json"))
    assert result.exit_code == 2
    assert result.stderr == ("stdin: document 3 (a): metadata.name: default/a is there already, in stdin: document 1\n")
    assert [item["metadata"]["name"] for item in json.loads(result.stdout)["items"]] == ["a", "b"]


def test_the_same_file_twice_is_a_duplicate(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(request()))
    result = engine_ops("solve", "-f", file, "-f", file)
    assert result.exit_code == 2
    assert "default/a is there already" in result.stderr


def test_the_same_name_in_two_namespaces_is_no_duplicate() -> None:
    other = request("a")
    other["metadata"]["namespace"] = "team"
    assert solve(request("a"), other, config_map("a")).exit_code == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "stdin: there is no document in it"),
        ("# nothing\n---\n\n---\n", "stdin: there is no document in it"),
        ("a: [1", "stdin: document 1: is neither JSON"),
        ("a: 1\nb: &x 2\nc: *x\n", "the alias *x is not supported"),
        ("a: 1\na: 2\n", "the key 'a' is there twice at line 2"),
        ("- 1\n", "stdin: document 1: must be an object, is a list"),
        ("hello\n", "stdin: document 1: must be an object, is a string"),
        ("kind: List\napiVersion: v1\nitems: [1]\n", "stdin: document 1, item 1: apiVersion: required, but absent"),
        (stream(config_map("c")), "there is no OptimizationRequest among 1 document"),
        ("a:\n  - b: -.inf\n", "stdin: document 1: a[0].b: must be a finite number, is -inf"),
        ("a: 99999999999999999999\n", "stdin: document 1: a: a whole number must fit into 64 bits"),
    ],
)
def test_what_is_no_manifest(text: str, words: str) -> None:
    result = engine_ops("solve", "-f", "-", stdin=text)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_bytes_that_are_no_text() -> None:
    result = engine_ops("solve", "-f", "-", stdin=b"a: \xff\xfe\n")
    assert result.exit_code == 2
    assert "is not UTF-8" in result.stderr


def test_line_numbers_are_those_of_the_file() -> None:
    text = f"# first line\n---\n{json.dumps(request())}\n---\na: 1\na: 2\n"
    result = engine_ops("solve", "-f", "-", stdin=text)
    assert "stdin: document 2: " in result.stderr
    assert "at line 6, column 1" in result.stderr
    assert "Solved" in result.stdout


# -- Where manifests come from ------------------------------------------------------------------------------------


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    result = engine_ops("solve", "-f", tmp_path / "missing.yaml", "-f", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"{tmp_path}/missing.yaml: no such file or directory",
        f"{tmp_path}: the directory has no .yaml, .yml, .json file",
    ]


def test_a_directory_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("c.json", "a.yaml", "b.yml", "d.txt", "below/e.yaml"):
        (tmp_path / name).write_text(json.dumps(request(Path(name).stem)))
    result = engine_ops("solve", "-f", tmp_path, "-o", "json")
    assert [item["metadata"]["name"] for item in json.loads(result.stdout)["items"]] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["List", "OptimizationRequestList"])
def test_lists_are_expanded(kind: str) -> None:
    items = [request("a"), config_map("data", data={"k": TEXT}), request("b", dataFrom=FROM)]
    result = solve({"apiVersion": "v1", "kind": kind, "items": items}, options=("-o", "json"))
    assert result.exit_code == 0
    assert [item["metadata"]["name"] for item in json.loads(result.stdout)["items"]] == ["a", "b"]


def test_other_kinds_are_left_out_with_a_note() -> None:
    plugin = {"apiVersion": "engineops.dev/v1alpha1", "kind": "OptimizerPlugin", "metadata": {"name": "p"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    result = solve(request(), secret, plugin, options=("-o", "json"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["kind"] == "OptimizationRequest"
    assert result.stderr.splitlines() == [
        "stdin: document 2 (s): kind Secret is left out",
        "stdin: document 3 (p): kind OptimizerPlugin is left out",
    ]


@pytest.mark.parametrize("mark", ["\ufeff", "%YAML 1.2\n", "\n\n", "--- # a comment\n"])
def test_what_may_stand_before_a_document(mark: str) -> None:
    text = yaml.safe_dump(request(), explicit_start=mark.startswith("%"))
    assert engine_ops("solve", "-f", "-", stdin=mark + text).exit_code == 0


def test_windows_line_ends() -> None:
    text = stream(request("a"), request("b")).replace("\n", "\r\n")
    assert engine_ops("solve", "-f", "-", stdin=text).exit_code == 0


def test_without_a_file_the_usage_is_printed() -> None:
    result = engine_ops("solve")
    assert result.exit_code == 2
    assert "--filename" in result.stderr


def test_gzip_is_named_as_what_it_is_not() -> None:
    result = engine_ops("solve", "-f", "-", stdin=gzip.compress(b"a: 1"))
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_closed_pipe_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "solve", "-f", "-"]
    document = stream(request(suspend=True)).encode()
    done = subprocess.run(command, input=document, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1
