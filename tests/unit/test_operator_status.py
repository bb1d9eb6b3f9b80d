"""The operator's own status: written when a condition or the operator's version changes, and read back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from engine_ops import __version__
from engine_ops.kube.errors import ApiError
from engine_ops.kube.operator_status import OperatorStatus, ToldStatus, read_status

LOADED = {"type": "HistoryLoaded", "status": "True", "reason": "Loaded", "message": ""}
REFUSED = {**LOADED, "status": "False", "reason": "Refused", "message": "a quota"}


class OneConfigMap:
    """An API server that has this ConfigMap alone."""

    def __init__(self, data: dict[str, str] | None = None) -> None:
        self.data = data
        self.writes = 0

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/ops/configmaps/engine-ops-status"
        if self.data is None:
            raise ApiError(404, {})
        return {"data": self.data}

    async def request(self, method: str, path: str, *, body: bytes, **_: Any) -> bytes:
        self.data = json.loads(body)["data"]
        self.writes += 1
        return b"{}"


def status_at(there: Any) -> OperatorStatus:
    return OperatorStatus(there, "ops")


def told_at(there: Any) -> ToldStatus:
    return asyncio.run(read_status(there, "ops"))


def test_it_tells_the_conditions_and_the_version_and_is_written_once() -> None:
    there = OneConfigMap()

    async def main() -> None:
        status = status_at(there)
        for conditions in ([LOADED], [LOADED], [REFUSED], [REFUSED]):
            await status.write(conditions)
        await status_at(there).write([REFUSED])  # the next operator of this version

    asyncio.run(main())
    assert there.writes == 2
    told = told_at(there)
    assert told.version == __version__
    assert [{name: condition[name] for name in REFUSED} for condition in told.conditions] == [REFUSED]


@pytest.mark.parametrize("version", [None, "0.0.1"])
def test_an_operator_of_another_version_writes_its_own_and_keeps_the_times(version: str | None) -> None:
    there = OneConfigMap()
    asyncio.run(status_at(there).write([LOADED]))
    assert there.data is not None
    there.data["conditions"] = there.data["conditions"].replace(
        told_at(there).conditions[0]["lastTransitionTime"], "2026-01-02T03:04:05Z"
    )
    del there.data["version"]
    if version is not None:
        there.data["version"] = version
    assert told_at(there).version == version
    asyncio.run(status_at(there).write([LOADED]))
    assert told_at(there).version == __version__
    assert told_at(there).conditions[0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("text", ["", "{", "5", "[1, null]"])
def test_conditions_that_somebody_has_broken_are_none(text: str) -> None:
    assert told_at(OneConfigMap({"conditions": text, "version": "1.2.3"})) == ToldStatus([], "1.2.3")
    assert told_at(OneConfigMap()) == ToldStatus([])
