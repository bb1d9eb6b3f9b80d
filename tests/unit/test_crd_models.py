"""The resources as models: what they refuse offline, and what they look like as JSON."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from engine_ops.api import cluster_source
from engine_ops.api import optimizationrequest as requests
from engine_ops.api import optimizerplugin as plugins
from engine_ops.api.condition import Condition
from engine_ops.api.crd import RESOURCES
from engine_ops.api.faults import faults_of
from engine_ops.api.optimizationrequest import (
    OptimizationRequest,
    OptimizationRequestSpec,
    OptimizationRequestStatus,
    SolvedBy,
)
from engine_ops.api.optimizerplugin import OptimizerPlugin, PluginLimits, PluginSource
from engine_ops.api.workload_ref import WorkloadRef

NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


def _faults(model: type[BaseModel], value: Any, root: str = "spec") -> list[str]:
    with pytest.raises(ValidationError) as raised:
        model.model_validate(value)
    return [str(fault) for fault in faults_of(raised.value, root=root)]


def test_a_request_reads_as_it_is_written() -> None:
    reference = {"configMapKeyRef": {"name": "a", "key": "b"}}
    spec = OptimizationRequestSpec.model_validate({"type": "ml-driven", "dataFrom": reference, "timeoutSeconds": 5})
    assert spec.type is requests.RequestType.ML_DRIVEN
    assert spec.data_from is not None
    assert spec.data_from.config_map_key_ref.key == "b"
    assert (spec.search_seconds, spec.timeout_seconds, spec.suspend) == (1, 5, False)
    assert spec.to_manifest() == {
        "type": "ml-driven", "dataFrom": reference, "searchSeconds": 1, "timeoutSeconds": 5, "suspend": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "faults"),
    [
        ({}, ["spec: exactly one of data and dataFrom must be set, or data with the tasks beside dataFrom.cluster"]),
        (
            {"data": {}, "dataFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}},
            ["spec: exactly one of data and dataFrom must be set, or data with the tasks beside dataFrom.cluster"],
        ),
        (
            {"data": {}, "searchSeconds": 31},
            ["spec.searchSeconds: searchSeconds must not be above timeoutSeconds, which is 30 unless set"],
        ),
        (
            {"data": {}, "intervalSeconds": 10, "ttlSecondsAfterFinished": 0},
            [
                "spec.ttlSecondsAfterFinished: ttlSecondsAfterFinished must not be set together with intervalSeconds: "
                "a standing request never finishes"
            ],
        ),
        ({"data": {}, "intervalSeconds": 9}, ["spec.intervalSeconds: Input should be greater than or equal to 10"]),
        ({"data": {}, "cluster": {}}, ["spec.cluster: unknown field"]),
    ],
)
def test_a_request_that_breaks_a_rule(spec: dict[str, Any], faults: list[str]) -> None:
    assert _faults(OptimizationRequestSpec, {"type": "resource"} | spec) == faults


def test_all_broken_rules_are_told() -> None:
    spec = {"type": "resource", "searchSeconds": 31, "intervalSeconds": 10, "ttlSecondsAfterFinished": 1}
    faults = _faults(OptimizationRequest, {"metadata": {}, "spec": spec}, root="")
    assert [fault.split(":")[0] for fault in faults] == ["spec", "spec.searchSeconds", "spec.ttlSecondsAfterFinished"]


@pytest.mark.parametrize("source", [{}, {"entryPoint": "a:B", "service": {"name": "a", "namespace": "b"}}])
def test_a_plugin_has_one_source(source: dict[str, Any]) -> None:
    faults = _faults(PluginSource, source, root="spec.source")
    assert faults == ["spec.source: exactly one of entryPoint and service must be set"]


@pytest.mark.parametrize("name", plugins.RESERVED_NAMES)
def test_a_plugin_has_no_reserved_name(name: str) -> None:
    manifest = {"metadata": {"name": name}, "spec": {"source": {"entryPoint": "a:B"}}}
    assert _faults(OptimizerPlugin, manifest, root="") == [
        "metadata.name must not be workload-data or none: both are reserved"
    ]


@pytest.mark.parametrize(("memory", "expected"), [("512Mi", 2**29), (1000, 1000), ("1.5k", 1500), (2048.0, 2048)])
def test_memory_is_kept_as_written_and_read_as_bytes(memory: Any, expected: int) -> None:
    limits = PluginLimits.model_validate({"memory": memory})
    assert limits.memory_bytes == expected
    assert limits.to_manifest()["memory"] == memory


def test_the_rules_of_the_schema_are_the_rules_of_the_models() -> None:
    models = {requests.OptimizationRequestSpec, requests.DataFrom, plugins.PluginSource, plugins.OptimizerPlugin}
    models |= {cluster_source.ClusterSource, cluster_source.WorkloadSource, WorkloadRef}
    ours = {rule.message for model in models for rule in model.rules}
    text = json.dumps([resource.to_schema() for resource in RESOURCES])
    assert all(message in text for message in ours)
    # The quantity's rule stands on its field.
    assert text.count('"rule":') == len(ours) + 1


def test_the_status_is_small() -> None:
    assert OptimizationRequestStatus().to_manifest() == {"observedGeneration": -1}
    condition = Condition(
        type="Ready", status="True", reason="Solved", message="", last_transition_time=NOON, observed_generation=3
    )
    status = OptimizationRequestStatus(
        observed_generation=3,
        conditions=[condition],
        completion_time=NOON.replace(microsecond=999999),
        # Null is a value of a result, and stays.
        result={"gap": None},
        solved_by=SolvedBy(algorithm="ratio-greedy"),
    )
    assert status.to_manifest() == {
        "observedGeneration": 3,
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Solved",
                "message": "",
                "lastTransitionTime": "2026-01-02T12:00:00Z",
                "observedGeneration": 3,
            }
        ],
        "completionTime": "2026-01-02T12:00:00Z",
        "result": {"gap": None},
        "solvedBy": {"name": "ratio-greedy", "algorithm": "ratio-greedy"},
    }


@pytest.mark.parametrize(
    ("given_names", "name"),
    [
        ({"algorithm": "a"}, "a"),
        ({"plugin": "p"}, "p"),
        ({"plugin": "p", "algorithm": "a"}, "p"),
        ({"name": "n", "plugin": "p"}, "n"),
        ({}, None),
    ],
)
def test_solved_by_is_named_after_the_plugin_or_the_algorithm(given_names: dict[str, str], name: str | None) -> None:
    assert SolvedBy(**given_names).name == name


def test_times_need_a_zone_and_are_no_numbers() -> None:
    for value in ("2026-01-02T12:00:00", 1_700_000_000, True):
        assert _faults(OptimizationRequestStatus, {"startTime": value}, root="status")[0].startswith(
            "status.startTime: "
        )
    status = OptimizationRequestStatus.model_validate({"startTime": "2026-01-02T13:30:00.25+01:30"})
    assert status.start_time == NOON


names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
free_form = st.dictionaries(st.text(max_size=4), json_values, max_size=3)
counts = st.integers(0, 2**53 - 1)
shares = st.floats(0, 1)
# hypothesis takes naive bounds and puts the zone on.
times = st.datetimes(
    min_value=datetime.datetime(1, 1, 2),  # noqa: DTZ001
    max_value=datetime.datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(datetime.UTC),
)


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


conditions = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["Ready", "Stalled"]),
            "status": st.sampled_from(["True", "False", "Unknown"]),
            "reason": st.just("Solved"),
            "message": st.text(max_size=10),
            "last_transition_time": times,
            "observed_generation": st.none() | counts,
        }
    ),
    max_size=3,
)
specs = st.one_of(
    st.tuples(
        st.fixed_dictionaries({"type": st.sampled_from(requests.RequestType)}),
        st.one_of(
            st.fixed_dictionaries({"data": free_form}),
            st.fixed_dictionaries(
                {"data_from": st.builds(lambda a, b: {"config_map_key_ref": {"name": a, "key": b}}, names, names)}
            ),
        ),
        _optional(constraints=free_form, plugin=names, suspend=st.booleans()),
        st.builds(
            lambda a, b: {"search_seconds": min(a, b), "timeout_seconds": max(a, b)}, *[st.integers(1, 3600)] * 2
        ),
        st.one_of(
            _optional(interval_seconds=st.integers(10, 1000)), _optional(ttl_seconds_after_finished=st.integers(0, 99))
        ),
    )
).map(lambda parts: {key: value for part in parts for key, value in part.items()})
statuses = _optional(
    observed_generation=st.integers(-1, 2**53 - 1),
    run=counts,
    conditions=conditions,
    start_time=times,
    completion_time=times,
    result=free_form,
    result_ref=st.builds(lambda a, b, c: {"name": a, "key": b, "size_bytes": c}, names, names, counts),
    metrics=st.builds(lambda a, b: {"duration_ms": a, "score": b}, counts, st.none() | shares),
    solved_by=_optional(
        plugin=names, algorithm=names, version=names, model_id=names, fallback_reason=st.text(max_size=9)
    ),
    progress=_optional(objective=st.floats(0, 1e9), lower_bound=st.floats(0, 1e9), gap=shares),
)
plugin_specs = st.fixed_dictionaries(
    {
        "source": st.one_of(
            st.just({"entry_point": "a.b:C"}),
            st.builds(
                lambda a, b: {"service": {"name": "s" + a, "namespace": a, "port": b}}, names, st.integers(1, 65535)
            ),
        )
    },
    optional={
        "enabled": st.booleans(),
        "priority": st.integers(-100, 100),
        "supported_types": st.lists(st.sampled_from(requests.RequestType), min_size=1, max_size=4, unique=True),
        "config": free_form,
        "limits": _optional(timeout_seconds=st.integers(1, 3600), memory=st.integers(1, 2**40) | st.just("1.5Gi")),
        "training": _optional(
            min_samples=st.integers(1, 1000),
            retrain=_optional(after_samples=st.integers(1, 99), on_drift=st.booleans()),
        ),
    },
)
plugin_statuses = _optional(
    conditions=conditions,
    version=names,
    model=st.builds(lambda a, b, c: {"id": a, "trained_at": b, "samples": c}, names, times, counts),
    candidate=st.builds(lambda a, b: {"id": a, "outcomes": b}, names, counts),
    skill=st.sampled_from(["Unscored", "Unproven", "-0.5", "0.25"]),
    score=st.builds(lambda a, b: {"key": "expected_duration", "outcomes": a, "loss": b}, counts, shares),
    confidence=shares,
    claimed_confidence=shares,
    counts=st.builds(lambda a, b: {"requests": a, "failures": b}, counts, counts),
    latency=_optional(p50_ms=st.integers(0, 9), p99_ms=st.integers(0, 9)),
    last_error=st.text(max_size=9),
)


def _keys(value: Any) -> set[str]:
    return set() if not isinstance(value, dict) else set(value).union(*(_keys(item) for item in value.values()))


def _values(value: Any) -> set[Any]:
    if isinstance(value, dict):
        return set().union(*map(_values, value.values()))
    return set().union(*map(_values, value)) if isinstance(value, list) else {value}


def _check_round_trip(model: BaseModel, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, allow_nan=False)
    assert type(model).model_validate_json(text) == model
    assert type(model).model_validate(json.loads(text)) == model


@settings(max_examples=50)
@given(specs, st.none() | statuses, free_form)
def test_a_request_survives_a_round_trip(spec: Any, status: Any, metadata: Any) -> None:
    request = OptimizationRequest.model_validate({"metadata": metadata, "spec": spec, "status": status})
    _check_round_trip(request, request.to_manifest())


@settings(max_examples=50)
@given(plugin_specs, st.none() | plugin_statuses)
def test_a_plugin_survives_a_round_trip(spec: Any, status: Any) -> None:
    plugin = OptimizerPlugin.model_validate({"metadata": {"name": "p"}, "spec": spec, "status": status})
    _check_round_trip(plugin, plugin.to_manifest())


@settings(max_examples=50)
@given(statuses.map(lambda status: {key: value for key, value in status.items() if key != "result"}))
def test_no_key_of_a_status_is_in_snake_case_or_null(status: Any) -> None:
    manifest = OptimizationRequestStatus.model_validate(status).to_manifest()
    assert all("_" not in key for key in _keys(manifest))
    assert _values(manifest).isdisjoint({None})
