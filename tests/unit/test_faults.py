"""Faults name the field."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, TypeAdapter, ValidationError

from engine_ops.api.base import ApiModel
from engine_ops.api.faults import MAX_FAULTS_IN_MESSAGE, Fault, InvalidDataError, WaitingError, faults_of, format_path
from engine_ops.api.quantity import Amount
from engine_ops.api.reasons import WAITING, Reason


class Item(ApiModel):
    id: str
    cpu_cores: Amount = 0.0
    count: Annotated[int, Field(ge=1)] = 1


class Data(ApiModel):
    items: list[Item]


def _faults(data: Any, root: str = "spec.data") -> list[str]:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Data).validate_python(data)
    return [str(fault) for fault in faults_of(raised.value, root=root)]


@pytest.mark.parametrize(
    ("location", "root", "path"),
    [
        (("items", 3, "cpu"), "spec.data", "spec.data.items[3].cpu"),
        (("items", 3), "", "items[3]"),
        ((), "spec.data", "spec.data"),
        ((), "", ""),
        ((0, 1, "a"), "data", "data[0][1].a"),
        ((0,), "", "[0]"),
        (("nodeSelector", "kubernetes.io/os"), "data", "data.nodeSelector[kubernetes.io/os]"),
        (("resources", "nvidia.com/gpu", "count"), "", "resources[nvidia.com/gpu].count"),
        (("resources", 5, "[key]"), "data", "data.resources[5]"),
        (("",), "data", "data[]"),
        (("node_load", "x-y"), "", "node_load.x-y"),
    ],
)
def test_paths_read_as_kubernetes_writes_them(location: tuple[str | int, ...], root: str, path: str) -> None:
    assert format_path(location, root=root) == path


names = st.from_regex(r"[a-z][a-zA-Z0-9]{0,8}", fullmatch=True)


@given(st.lists(names | st.integers(0, 9999), max_size=6))
def test_a_path_keeps_every_part_of_the_location(location: list[str | int]) -> None:
    path = format_path(location, root="root")
    parts = [int(part[1:-1]) if part.startswith("[") else part for part in path.replace("[", ".[").split(".")]
    assert parts == ["root", *location]


def test_every_fault_of_the_data_is_told_with_its_path() -> None:
    data = {"items": [{"id": "a"}, {"id": 5, "cpuCores": "lots"}, {"count": 0, "cpu": 1}], "extra": 1}
    assert _faults(data) == [
        "spec.data.items[1].id: Input should be a valid string",
        "spec.data.items[1].cpuCores: 'lots' is not a Kubernetes quantity: write it like 500m, 1.5, 8Gi or 1e3",
        "spec.data.items[2].id: required, but absent",
        "spec.data.items[2].count: Input should be greater than or equal to 1",
        "spec.data.items[2].cpu: unknown field",
        "spec.data.extra: unknown field",
    ]


def test_a_fault_of_the_whole_object_is_at_its_root() -> None:
    assert _faults("text")[0].startswith("spec.data: ")
    assert ": " not in _faults("text", root="")[0].split("should")[0]


@pytest.mark.parametrize("count", [1, MAX_FAULTS_IN_MESSAGE, MAX_FAULTS_IN_MESSAGE + 1, 5000])
def test_a_summary_names_the_first_faults_and_counts_the_rest(count: int) -> None:
    faults = [Fault(f"data.items[{number}].cpu", "must not be negative: -1") for number in range(count)]
    error = InvalidDataError(faults)
    assert error.faults == tuple(faults)
    assert str(error) == error.summary()
    assert str(error).count("must not be negative") == min(count, MAX_FAULTS_IN_MESSAGE)
    assert str(error).startswith("data.items[0].cpu: must not be negative: -1")
    if count > MAX_FAULTS_IN_MESSAGE:
        assert str(error).endswith(f"; and {count - MAX_FAULTS_IN_MESSAGE} more")
    else:
        assert "more" not in str(error)


def test_waiting_tells_what_for() -> None:
    error = WaitingError(Reason.NO_PLUGIN, "no plugin")
    assert (error.reason, error.message, str(error)) == ("NoPlugin", "no plugin", "no plugin")


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_one_camel_case_word(reason: Reason) -> None:
    assert reason.value.isalpha()
    assert reason.value[0].isupper()
    # The member's name is the same words.
    assert reason.name.replace("_", "").lower() == reason.value.lower()


def test_nothing_is_both_answered_or_stalled_and_waiting() -> None:
    final = {Reason.SOLVED, Reason.BEST_SO_FAR, Reason.INVALID_SPEC, Reason.INVALID_DATA, Reason.UNPLACEABLE}
    final |= {Reason.TIMED_OUT, Reason.SOLVER_CRASHED, Reason.RESULT_TOO_LARGE, Reason.SUSPENDED}
    assert final.isdisjoint(WAITING)
    of_plugins = {Reason.RUNNING, Reason.DISABLED, Reason.STARTING, Reason.INVALID_CONFIG, Reason.LOAD_FAILED}
    of_plugins |= {Reason.PLUGIN_UNAVAILABLE, Reason.CRASH_LOOPING, Reason.TRAINED, Reason.SHADOW, Reason.TRAINING}
    of_plugins |= {Reason.TRAINING_FAILED, Reason.NO_MODEL, Reason.UPDATING}
    assert final | WAITING | {Reason.SOLVING} | of_plugins == set(Reason)
