"""The operator's own status: a ConfigMap with conditions, for what concerns no single request."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import yaml

from engine_ops import __version__
from engine_ops.api.fields import format_timestamp
from engine_ops.kube.config_maps import FIELD_MANAGER
from engine_ops.kube.connection import APPLY_PATCH, METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import config_map_path

STATUS_NAME: Final = "engine-ops-status"
CONDITIONS_KEY: Final = "conditions"
VERSION_KEY: Final = "version"
_COMPARED = ("type", "status", "reason", "message")


@dataclasses.dataclass(frozen=True, slots=True)
class ToldStatus:
    """What the operator of a namespace has said of itself.

    Parameters
    ----------
    conditions
        As they stand there; empty where there are none that can be read.
    version
        Its release; None where it has not said.
    """

    conditions: list[dict[str, Any]]
    version: str | None = None


class OperatorStatus:
    """The ConfigMap ``engine-ops-status`` in the operator's namespace. It is written when a condition changes.

    It names the operator's version, too, which an image's digest does not tell.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        The operator's own.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._written: ToldStatus | None = None

    async def write(self, conditions: Sequence[Mapping[str, str]]) -> None:
        """Write conditions (type, status, reason, message), unless they stand there already.

        Raises
        ------
        ApiError, UnavailableError
            As `Connection.request` does.
        """
        if self._written is None:
            self._written = await read_status(self._connection, self._namespace)
        written = self._written.conditions
        same_essence = [_essence(condition) for condition in written] == [_essence(each) for each in conditions]
        if same_essence and self._written.version == __version__:
            return
        before = {condition.get("type"): condition for condition in written}
        now = format_timestamp(datetime.datetime.now(datetime.UTC))
        dated = []
        for condition in conditions:
            known = before.get(condition["type"], {})
            same = known.get("status") == condition["status"]
            since = known.get("lastTransitionTime", now) if same else now
            dated.append({**condition, "lastTransitionTime": since})
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": STATUS_NAME,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER, "app.kubernetes.io/component": "status"},
            },
            "data": {
                CONDITIONS_KEY: yaml.safe_dump(dated, sort_keys=False, width=120),
                VERSION_KEY: __version__,
            },
        }
        await self._connection.request(
            "PATCH",
            config_map_path(self._namespace, STATUS_NAME),
            body=msgspec.json.encode(body),
            content_type=APPLY_PATCH,
            accept=METADATA_ONLY,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
        )
        self._written = ToldStatus(dated, __version__)


async def read_status(connection: Connection, namespace: str) -> ToldStatus:
    """Return what the operator of a namespace has said of itself; nothing where it has written none that can be read.

    Raises
    ------
    ApiError, UnavailableError
        As `Connection.request` does.
    """
    try:
        found = await connection.get(config_map_path(namespace, STATUS_NAME))
    except ApiError as error:
        if error.status != 404:
            raise
        return ToldStatus([])
    data = found.get("data") or {}
    return ToldStatus(_conditions_in(data.get(CONDITIONS_KEY) or "[]"), data.get(VERSION_KEY) or None)


def _conditions_in(text: str) -> list[dict[str, Any]]:
    try:
        conditions = yaml.safe_load(text)
    except yaml.YAMLError:
        return []  # somebody edited it
    if not isinstance(conditions, list):
        return []
    return [condition for condition in conditions if isinstance(condition, dict)]


def _essence(condition: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(condition.get(field) for field in _COMPARED)
