"""An operator to ask, a request applied to it, and its answer fetched from the API server."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.devcluster import DevCluster
from engine_ops.kube.connection import Connection
from engine_ops.kube.paths import config_map_path, request_path
from lib.processes import RunningSystem, System

POLL_SECONDS = 0.02


class AnswerError(RuntimeError):
    """There was no answer in time."""


def operator(cluster: DevCluster, *options: str) -> RunningSystem:
    """Return the operator for a local cluster, to be started as a context manager.

    Parameters
    ----------
    cluster
        With the custom resource definitions in it.
    options
        Of ``engine-ops run``.
    """
    command = [str(Path(sysconfig.get_path("scripts"), "engine-ops")), "run", "--probes", "none", *options]
    # It reaches this cluster and is not taken for a Pod.
    outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
    environment = {key: value for key, value in os.environ.items() if key not in outside}
    return RunningSystem(
        System("engine-ops", command, "watching optimizationrequests"), cluster.environment(environment)
    )


def request(name: str, spec: dict[str, Any]) -> bytes:
    """Return the JSON of an OptimizationRequest."""
    return json.dumps(
        {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name},
            "spec": spec,
        }
    ).encode()


async def apply(connection: Connection, namespace: str, name: str, spec: dict[str, Any]) -> None:
    """Create a request."""
    collection = f"/apis/engineops.dev/v1alpha1/namespaces/{namespace}/{PLURAL}"
    await connection.request("POST", collection, body=request(name, spec))


async def finished(connection: Connection, namespace: str, name: str, deadline_seconds: float) -> dict[str, Any]:
    """Wait until the request is answered, and return its status.

    Raises
    ------
    AnswerError
        If that takes too long.
    """
    deadline = time.monotonic() + deadline_seconds
    status: dict[str, Any] = {}
    while time.monotonic() < deadline:
        body = await connection.get(request_path(namespace, name))
        status = body.get("status", {})
        if status.get("observedGeneration") == body["metadata"]["generation"]:
            return status
        await asyncio.sleep(POLL_SECONDS)
    raise AnswerError(f"{namespace}/{name} is not answered after {deadline_seconds:.0f} s; status: {status}")


async def whole_result(connection: Connection, namespace: str, status: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the result, wherever it is kept, and its size in words."""
    reference = status.get("resultRef")
    if reference is None:
        result: dict[str, Any] = status["result"]
        return result, f"{len(json.dumps(result, separators=(',', ':'))):,} bytes in status"
    config_map = await connection.get(config_map_path(namespace, reference["name"]))
    compressed = base64.b64decode(config_map["binaryData"][reference["key"]])
    text = gzip.decompress(compressed)
    size = f"{len(text):,} bytes, {len(compressed):,} compressed in ConfigMap {reference['name']}"
    return json.loads(text), size


async def ask(
    connection: Connection, namespace: str, name: str, spec: dict[str, Any], *, hidden: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Have one request answered, print what became of it, and return its whole result; None if there is none.

    Parameters
    ----------
    connection
        To the API server.
    namespace, name, spec
        The request, which is created if it is not there.
    hidden
        Fields of the summary that are not printed.
    """
    began = time.perf_counter()
    await apply(connection, namespace, name, spec)
    status = await finished(connection, namespace, name, spec["timeoutSeconds"] + 60.0)
    seconds = time.perf_counter() - began
    for condition in status["conditions"]:
        print(f"  {condition['type']}={condition['status']} {condition['reason']}: {condition['message'][:300]}")
    solved = status.get("metrics", {}).get("durationMs")
    print(f"  from apply to the answer: {1000 * seconds:,.0f} ms, of them solving: {solved} ms")
    if "result" not in status:
        return None
    summary = {key: value for key, value in status["result"].items() if not isinstance(value, list | dict)}
    shown = {key: value for key, value in {**summary, **status["metrics"]}.items() if key not in hidden}
    print(f"  {', '.join(f'{key} {value}' for key, value in shown.items())}")
    result, size = await whole_result(connection, namespace, status)
    print(f"  result: {size}")
    return result
