"""`engine-ops explain` of answers that plugins had a part in."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from cli_support import InProcessPool, engine_ops, packing, pool_that_raises, request, stream, use_pool

from engine_ops.cli.predicted import MAX_ROWS, explain_prediction, solved_by_of


@pytest.fixture(autouse=True)
def _nothing_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pool(monkeypatch, pool_that_raises(AssertionError("it was solved")))


def explain(document: dict[str, Any]) -> list[str]:
    told = engine_ops("explain", "-f", "-", stdin=stream(document))
    assert (told.exit_code, told.stderr) == (0, "")
    return [" ".join(line.split()) for line in told.stdout.splitlines()]


def answered(result: dict[str, Any], solved_by: dict[str, Any], **spec: Any) -> dict[str, Any]:
    document = request(**spec)
    document["metadata"]["generation"] = 1
    document["status"] = {"observedGeneration": 1, "result": result, "solvedBy": solved_by}
    return document


PREDICTION = {"expected_duration": 2701.5, "recommended_resources": {"cpu": 2, "tags": ["a", "b"]}}
BY_A_PLUGIN = {
    "plugin": "rates",
    "role": "prediction",
    "version": "1.2.0",
    "modelId": "per-row",
    "confidence": 0.625,
    "claimedConfidence": 0.9,
    "fallbackReason": "other: it was busy",
}


@pytest.mark.parametrize("spec", [{"type": "ml-driven", "data": {"rows": 1}}, {"data": {"workload_size": 200}}])
def test_a_prediction_is_told_as_it_is(spec: dict[str, Any]) -> None:
    document = answered(PREDICTION, BY_A_PLUGIN, **spec)
    assert explain(document) == [
        f"a: {document['spec']['type']}: predicted by rates 1.2.0, model per-row",
        "",
        "FIELD VALUE",
        "expected_duration 2701.5 ms",
        "recommended_resources.cpu 2",
        'recommended_resources.tags ["a","b"]',
        "",
        "It was close enough in 62% of its last predictions that were scored.",
        "It claims a confidence of 90% itself.",
        "Nothing can check a prediction before it has come true.",
        "Not served: other: it was busy.",
    ]


def test_what_the_history_predicts_has_no_plugin() -> None:
    document = answered({"success_rate": 0.9}, {"algorithm": "simple-predictor"}, type="ml-driven", data={})
    assert explain(document)[0] == "a: ml-driven: predicted by simple-predictor"


def test_an_answer_of_a_plugin_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pool(monkeypatch, InProcessPool)
    document = request(data=packing())
    solved = json.loads(engine_ops("solve", "-f", "-", "-o", "json", stdin=stream(document)).stdout)
    result = solved["status"]["result"]
    before = explain(answered(result, solved["status"]["solvedBy"], data=packing()))
    by_plugin = {"plugin": "mine", "role": "answer", "version": "1", "fallbackReason": "other: no"}
    assert explain(answered(result, by_plugin, data=packing())) == [
        *before,
        "",
        "Plugin mine 1 gave this answer; the engine checked and scored it.",
        "Not served: other: no.",
    ]
    advised = {**result, "advice": {"expectedDurationMs": 5.0}}
    by_advice = {"plugin": "mine", "role": "advice", "algorithm": "first-fit-decreasing"}
    told = explain(answered(advised, by_advice, data=packing()))
    assert told == [*before, "", "The algorithm had the advice of plugin mine."]


def test_a_long_prediction_is_cut() -> None:
    result = {f"value-{number}": number for number in range(MAX_ROWS + 7)} | {"text": "x" * 10_000}
    explanation = explain_prediction("ml-driven", result, solved_by_of({}))
    assert len(explanation.rows) == MAX_ROWS
    assert explanation.notes[0] == "and 8 more"
    (row,) = explain_prediction("ml-driven", {"text": "x" * 10_000}, solved_by_of({})).rows
    assert len(row[1]) == 80


def test_numbers_are_rounded_for_people() -> None:
    result = {"long": 17884.372542302906, "short": 0.94444444, "tiny": 1.23456e-9, "whole": 1073741824}
    rows = explain_prediction("ml-driven", result, solved_by_of({})).rows
    assert [value for _, value in rows] == ["17884.373", "0.9444", "1.235e-9", "1073741824"]


def test_a_status_that_cannot_be_read_names_nobody() -> None:
    assert solved_by_of({"solvedBy": {"role": "king"}}).role is None


def test_a_prediction_of_a_config_map_is_unpacked() -> None:
    from engine_ops.api.optimizationrequest import OptimizationRequestSpec
    from engine_ops.cli.explaining import tell

    spec = OptimizationRequestSpec.model_validate({"type": "ml-driven", "data": {}})
    told = tell("a", spec, None, gzip.compress(json.dumps(PREDICTION).encode()))
    assert "2701.5 ms" in told.text
