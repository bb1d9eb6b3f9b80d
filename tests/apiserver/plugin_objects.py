"""OptimizerPlugins and an operator that runs them, for tests of the whole: made, patched and waited for as users do."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import http.client
import importlib
import itertools
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from operator_process import OperatorProcess
from request_objects import SMALL, RequestObjects, answered, condition
from waiting import WAIT_SECONDS, wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.ml.testing import sample_history
from reserved_port import reserved_port

PLUGINS_PATH = "/apis/engineops.dev/v1alpha1/optimizerplugins"
_HERE = Path(__file__).parent
_UNIT = _HERE.parent / "unit"
sys.path.append(str(_UNIT))  # it is not there where these tests run alone
bad_plugins = importlib.import_module("bad_plugins")
SEARCH_PATH = os.pathsep.join([str(_HERE), str(_UNIT)])
"""Where `cluster_plugins` and `bad_plugins` are."""

Found = dict[str, Any]


class QuickRequests(RequestObjects):
    """Requests of one namespace, over one kept connection: kubectl takes a tenth of a second each time."""

    def __init__(self, cluster: DevCluster, namespace: str, client: ApiClient) -> None:
        super().__init__(cluster, namespace)
        self._client = client
        self._path = f"/apis/engineops.dev/v1alpha1/namespaces/{namespace}/optimizationrequests"
        self._names = (f"r-{number}" for number in itertools.count(1))

    def make(self, data: Any = None, type_: str = "resource", name: str | None = None, **spec: Any) -> str:
        """Make a request, and return its name."""
        name = name or next(self._names)
        asked = {"type": type_, **spec}
        if "dataFrom" not in asked:
            asked["data"] = SMALL if data is None else data
        body = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizationRequest",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": asked,
        }
        self._client.request("POST", self._path, body)
        return name

    def get(self, name: str) -> Found:
        found: Found = self._client.request("GET", f"{self._path}/{name}")
        return found

    def list(self) -> list[Found]:
        found: list[Found] = self._client.request("GET", self._path)["items"]
        return found

    def final(self, name: str) -> Found:
        """Wait until a request is answered, or has failed for good."""
        return self.wait(name, answered, WAIT_SECONDS)

    def ask(self, data: Any = None, type_: str = "resource", **spec: Any) -> Found:
        """Make a request, and return it when it is answered."""
        return self.final(self.make(data, type_, **spec))


def by(found: Found) -> Found:
    """Return `status.solvedBy`."""
    solved_by: Found = found["status"]["solvedBy"]
    return solved_by


def assert_answered_once(found: Found) -> None:
    """Check that a request has one good answer for what it asks."""
    assert condition(found, "Ready")["status"] == "True", found["status"]
    assert found["status"]["run"] == 1, found["status"]
    assert not condition(found, "Stalled")
    assert not condition(found, "Reconciling")


@dataclasses.dataclass
class PluginObjects:
    """The OptimizerPlugins of a cluster, and requests in one namespace of it.

    Parameters
    ----------
    cluster, namespace, client
        Where.
    """

    cluster: DevCluster
    namespace: str
    client: ApiClient
    applied: dict[str, Found] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.requests = QuickRequests(self.cluster, self.namespace, self.client)

    def apply(self, name: str, entry_point: str | None = None, **spec: Any) -> None:
        """Apply a plugin as Flux does: server-side, as a manager of its own."""
        if entry_point is not None:
            spec["source"] = {"entryPoint": entry_point}
        # In ten seconds, the default, a busy machine may not get round to a plugin.
        spec.setdefault("limits", {"timeoutSeconds": 30})
        manifest = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizerPlugin",
            "metadata": {"name": name, "labels": {"app": "test"}, "annotations": {"team": "data"}},
            "spec": spec,
        }
        # Noted first: what is made although kubectl failed must go with the test, too.
        self.applied[name] = copy.deepcopy(spec)
        self.cluster.kubectl(
            "apply", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", "-",
            stdin=json.dumps(manifest),
        )  # fmt: skip

    def running(self, name: str, entry_point: str, **spec: Any) -> Found:
        """Apply a plugin, and wait until it runs."""
        self.apply(name, entry_point, **spec)
        return self.wait_reason(name, "Running")

    def patch(self, name: str, **spec: Any) -> None:
        """Patch a plugin as a user does."""
        self.cluster.kubectl("patch", "optplug", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, name: str) -> None:
        """Delete a plugin, and wait until it is gone."""
        self.applied.pop(name, None)
        self.cluster.kubectl("delete", "optplug", name, "--ignore-not-found", "--timeout=30s")

    def get(self, name: str) -> Found:
        """Read a plugin."""
        found: Found = self.client.request("GET", f"{PLUGINS_PATH}/{name}")
        return found

    def wait(self, name: str, holds: Callable[[Found], object], what: str = "") -> Found:
        """Wait until a plugin is as told, and return it."""
        return wait_until(lambda: self.get(name), holds, f"{name} {what}")

    def wait_reason(self, name: str, reason: str, type_: str = "Ready") -> Found:
        """Wait until a condition has a reason for the spec as it is."""

        def holds(found: Found) -> bool:
            entry = condition(found, type_)
            current = found["metadata"]["generation"]
            return bool(entry) and entry["reason"] == reason and entry["observedGeneration"] == current

        return self.wait(name, holds, f"{type_} {reason}")

    def clear(self) -> None:
        """Delete what was applied."""
        for name in list(self.applied):
            self.delete(name)

    def config_maps_of(self, name: str, namespace: str) -> list[Found]:
        """Return the ConfigMaps in which a plugin's models are."""
        path = f"/api/v1/namespaces/{namespace}/configmaps?labelSelector=engineops.dev%2Fplugin%3D{name}"
        items: list[Found] = self.client.request("GET", path)["items"]
        return items


@dataclasses.dataclass
class Health:
    """What an operator answers at its address for probes; kopf says the same for ten seconds."""

    address: str

    def plugins(self) -> Found:
        """Return what it says of plugins, by name; nothing while it does not answer."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", "/healthz")
            found: Found = json.loads(connection.getresponse().read())["plugins"]
        except OSError:
            return {}
        finally:
            connection.close()
        return found

    def wait_for(self, name: str, holds: Callable[[Found], object]) -> Found:
        """Wait until a plugin is there and as told."""
        return wait_until(lambda: self.plugins().get(name, {}), lambda shown: shown and holds(shown), f"health {name}")


class Operators:
    """Starts operators of one pair of namespaces, which know the plugins of the tests. A context manager.

    Parameters
    ----------
    kubeconfig
        Whose rights they have.
    namespace
        Of the requests.
    *arguments
        Further ones of ``engine-ops run``.
    """

    def __init__(self, kubeconfig: Path, namespace: str, *arguments: str) -> None:
        self._kubeconfig = kubeconfig
        self._held = contextlib.ExitStack()
        self.health = Health(f"127.0.0.1:{self._held.enter_context(reserved_port())}")
        self._arguments = (
            f"--namespace={namespace}",
            "--workers=1",
            f"--probes=http://{self.health.address}/healthz",
            "--history-flush-seconds=0.1",
            *arguments,
        )
        self.started: list[OperatorProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self.started):
            process.stop()
            sys.stderr.write(process.stderr)  # pytest shows it with a test that failed
        self._held.close()

    def start(self) -> OperatorProcess:
        """Start one."""
        process = OperatorProcess(self._kubeconfig, *self._arguments, environment={"PYTHONPATH": SEARCH_PATH})
        self.started.append(process)
        return process.start()


@contextlib.contextmanager
def own_namespace(cluster: DevCluster, name: str) -> Iterator[str]:
    """Make a namespace that goes with the block."""
    cluster.kubectl("create", "namespace", name)
    try:
        yield name
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def own_errors(operator: OperatorProcess) -> list[str]:
    """Return what an operator has logged as an error, but for what it says of plugins and of their host."""
    return [
        line for line in operator.stderr.splitlines() if re.search(r" (ERROR|CRITICAL) (?!engine_ops\.plugins)", line)
    ]


def history_file(path: Path, points: int, request_types: tuple[str, ...] = ("ml-driven",)) -> Path:
    """Write points of workloads, the last of them an hour ago, as ``engine-ops history import`` reads them."""
    made = sample_history(points, request_types)
    shift_ms = int(time.time() * 1000) - 3_600_000 - max(point.timestamp for point in made)
    lines = []
    for point in made:
        shown = point.to_dict()
        shown["timestamp"] += shift_ms
        shown["metadata"]["outcome"]["closedAt"] += shift_ms
        lines.append(json.dumps(shown))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def descendants(root: int) -> dict[int, str]:
    """Return the processes below one, each with its command line."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, stack = {}, [root]
    while stack:
        for pid in children.get(stack.pop(), []):
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            stack.append(pid)
    return found


def host_pid(operator_pid: int) -> int | None:
    """Return the plugin host below an operator."""
    hosts = [pid for pid, command in descendants(operator_pid).items() if "engine_ops.plugins.host" in command]
    return next(iter(hosts), None)  # the parent comes before those that it has forked


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return not re.match(r"\s+[ZX]", Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2])
    except OSError:
        return False


def is_absent(plugins: PluginObjects, name: str) -> bool:
    """Whether there is no such plugin."""
    try:
        plugins.get(name)
    except ApiError as error:
        if error.status == 404:
            return True
        raise
    return False


@dataclasses.dataclass
class World:
    """An operator, and what a test needs to use it.

    Parameters
    ----------
    plugins
        Plugins and requests.
    operators
        Starts further operators.
    operator
        The one that runs.
    resident
        So many processes of plugins stay when all OptimizerPlugins are gone: the one that predicts from the history.
    """

    plugins: PluginObjects
    operators: Operators
    operator: OperatorProcess
    resident: int = 0

    @property
    def requests(self) -> QuickRequests:
        return self.plugins.requests

    @property
    def health(self) -> Health:
        return self.operators.health

    def clear(self) -> None:
        """Delete the plugins of a test, so that the next one begins without any."""
        self.plugins.clear()
        wait_until(self.plugin_pids, lambda pids: len(pids) <= self.resident, "the processes of plugins end")

    def host_pid(self) -> int | None:
        """Return the plugin host's process; None before a plugin has run."""
        return host_pid(self.operator.pid)

    def plugin_pids(self) -> list[int]:
        """Return the processes of plugins."""
        host = self.host_pid()
        return [] if host is None else [pid for pid in descendants(host) if alive(pid)]


@contextlib.contextmanager
def plugin_world(cluster: DevCluster, kubeconfig: Path, *arguments: str) -> Iterator[World]:
    """Run an operator beside the block, with a namespace for requests."""
    with (
        own_namespace(cluster, f"test-{uuid.uuid4().hex[:12]}") as namespace,
        cluster.client() as client,
        Operators(kubeconfig, namespace, *arguments) as operators,
    ):
        plugins = PluginObjects(cluster, namespace, client)
        try:
            yield World(plugins, operators, operators.start())
        finally:
            plugins.clear()
