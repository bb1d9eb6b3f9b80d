"""Requests in a cluster, for `engine-ops explain`. Importing it loads the Kubernetes client, which takes a second."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from engine_ops.api.base import GROUP
from engine_ops.api.faults import WaitingError, faults_of
from engine_ops.api.optimizationrequest import PLURAL, OptimizationRequestSpec
from engine_ops.cli.cluster_question import ClusterReader
from engine_ops.cli.explaining import Told, has_answer, tell, tell_about_cluster, tell_conditions
from engine_ops.cli.focus import Focus
from engine_ops.cli.live_cluster import LiveReader, connect
from engine_ops.cli.manifests import value_of
from engine_ops.cli.predicted import solved_by_of
from engine_ops.cli.printing import safe
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import config_map_path, request_path
from engine_ops.kube.reading import RequestRow

_RESOURCES: Final = frozenset({"optreq", "optimizationrequest", PLURAL})


def name_of(resource: str) -> str:
    """Return the name in ``NAME`` or ``optreq/NAME``; the resource may have any of its names, also with the group.

    Raises
    ------
    ValueError
        If it is of another kind, or has no name.
    """
    kind, slash, name = resource.rpartition("/")
    if slash and kind.lower().removesuffix(f".{GROUP}") not in _RESOURCES:
        raise ValueError(f"{resource}: only optimizationrequests (optreq) can be explained")
    if not name:
        raise ValueError(f"{resource}: the name is missing")
    return name


async def tell_all(
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    names: Sequence[str],
    dump: ClusterReader | None = None,
    focus: Focus | None = None,
) -> list[Told]:
    """Explain requests in a cluster.

    Parameters
    ----------
    kubeconfig
        A file; None for the usual places.
    context
        Of the kubeconfig; None for its current one.
    namespace
        Of all of them; None for the one that the kubeconfig names.
    names
        Of the requests.
    dump
        What questions about the cluster are explained by, in place of the cluster itself.
    focus
        What of each answer is explained; None for the whole.

    Raises
    ------
    ConnectError, ApiError, UnavailableError
        If a request cannot be read.
    """
    # The client warns of what we raise as an error anyway.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    async with connect(kubeconfig, context) as connection:
        cluster = dump or LiveReader(connection)
        home = namespace or connection.namespace
        return [await _tell(connection, home, name, cluster, focus or Focus()) for name in names]


async def _tell(connection: Connection, namespace: str, name: str, cluster: ClusterReader, focus: Focus) -> Told:
    body = await connection.get(request_path(namespace, name))
    status = body.get("status") or {}
    if not has_answer(body, body["metadata"].get("generation", 0)):
        return tell_conditions(name, status)
    try:
        spec = OptimizationRequestSpec.model_validate(body["spec"])
    except ValidationError as error:
        return Told(faults=tuple(faults_of(error, root="spec")))
    data, result = None, status["result"]
    data_ref = spec.config_map_key_ref
    try:
        if data_ref is not None:
            data = await _read_key(connection, namespace, data_ref.name, data_ref.key)
        result_ref: Mapping[str, Any] | None = status.get("resultRef")
        if result_ref is not None:
            result = await _read_key(connection, namespace, result_ref["name"], result_ref["key"])
    except WaitingError as error:
        return Told(f"{safe(name)}: {safe(error.message)}\n")
    except ApiError as error:
        return Told(f"{safe(name)}: what the answer is made of cannot be read: {safe(error.message)}\n")
    solved_by = solved_by_of(status)
    if spec.cluster is not None:
        told = await tell_about_cluster(name, namespace, spec, result, cluster, focus, solved_by)
    else:
        told = tell(name, spec, data, result, focus=focus, solved_by=solved_by)
    if not (told.explained and focus.whole):
        return told
    return dataclasses.replace(told, text=told.text + _measured(body))


def _measured(body: Mapping[str, Any]) -> str:
    """Say in a line how good the answer is, and what made it; nothing where the status does not say."""
    shown = msgspec.convert(body, RequestRow, strict=False).to_dict()
    parts = [f"score {shown['score']:g}"] if shown["score"] is not None else []
    parts += [f"gap {shown['gap'] * 100:.1f} %"] if shown["gap"] is not None else []
    parts += [f"solved by {shown['solvedBy']}"] if shown["solvedBy"] else []
    line = safe(", ".join(parts))
    return f"{line[0].upper()}{line[1:]}.\n" if line else ""


async def _read_key(connection: Connection, namespace: str, name: str, key: str) -> bytes:
    config_map = await connection.get(config_map_path(namespace, name))
    return value_of(config_map, key, f"ConfigMap {namespace}/{name}")
