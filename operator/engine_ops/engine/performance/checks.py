"""From what a user wrote to a checked model; every fault is named with its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pydantic

from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.engine.performance.model import (
    ContainerSamples,
    PerformanceConstraints,
    PerformanceData,
    PerformanceListData,
    Samples,
)


def load(data: Mapping[str, Any], constraints: Mapping[str, Any]) -> PerformanceData:
    """Check the data and the constraints.

    Raises
    ------
    InvalidDataError
        With every fault that was found.
    """
    faults: list[Fault] = []
    if "workload" in data:
        faults.append(Fault("data.workload", "not supported yet: give the samples themselves in data.samples"))
        data = {key: value for key, value in data.items() if key != "workload"}
    as_list = isinstance(data.get("samples"), list | tuple)
    model: PerformanceData | None = None
    try:
        if as_list:
            plain = PerformanceListData.model_validate(data)
            model = PerformanceData(samples=Samples(containers=plain.samples), objective=plain.objective)
        else:
            model = PerformanceData.model_validate(data)
    except pydantic.ValidationError as error:
        # With a workload in their place, absent samples are no further fault.
        faults += [fault for fault in faults_of(error, root="data") if not (faults and fault.path == "data.samples")]
    try:
        PerformanceConstraints.model_validate(constraints)
    except pydantic.ValidationError as error:
        faults += faults_of(error, root="constraints")
    if model is not None:
        path = "data.samples" if as_list else "data.samples.containers"
        faults += _duplicates(path, model.samples.containers)
    if faults or model is None:
        raise InvalidDataError(faults)
    return model


def _duplicates(path: str, containers: tuple[ContainerSamples, ...]) -> Iterator[Fault]:
    first: dict[str, int] = {}
    for i, container in enumerate(containers):
        seen = first.setdefault(container.name, i)
        if seen != i:
            yield Fault(
                f"{path}[{i}].name",
                f"{container.name!r} is the name of {path}[{seen}] already; names must be unique",
            )
