"""A metrics.k8s.io of its own, registered at a control plane: its API server asks this process.

`MetricsApi` is what metrics-server is to a real cluster: an aggregated API behind an APIService, over HTTPS, that lets
in nobody but the API server (its front proxy's certificate). It answers for pods that exist and run; what they use is
what a test says. There is one metrics.k8s.io for a whole cluster: it is gone when the block ends.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import fnmatch
import http.server
import json
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.certificates import CertificateAuthority
from engine_ops.devcluster.client import ApiClient, ApiError

GROUP = "metrics.k8s.io"
VERSION = "v1beta1"
WINDOW = "15s"
WAIT_SECONDS = 30.0
_SILENCE_SECONDS = 5.0
_API_SERVICE = f"/apis/apiregistration.k8s.io/v1/apiservices/{VERSION}.{GROUP}"
_OURS = {"engineops.dev/test": "metrics"}

Amount = float | str | Callable[[float], float]
"""Cores or bytes, a quantity such as ``250m``, or a function of the pod's age in seconds."""


@dataclasses.dataclass(frozen=True)
class _Rule:
    namespace: str
    pod: str
    container: str
    cpu: Amount
    memory: Amount


class MetricsApi:
    """Serves metrics.k8s.io/v1beta1 while its block runs.

    Parameters
    ----------
    cluster
        Where it is registered.
    serving
        False registers it only: nothing listens, as where metrics-server is down.
    """

    def __init__(self, cluster: DevCluster, *, serving: bool = True) -> None:
        self._cluster = cluster
        self._serving = serving
        self._rules: list[_Rule] = []
        self._stack = contextlib.ExitStack()
        self._server: _Server | None = None
        self._namespace = f"metrics-{uuid.uuid4().hex[:12]}"
        self._answering = True
        self.requests = 0
        """How often usage was asked for."""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            authority = CertificateAuthority(directory, "metrics-ca")
            pair = authority.server("metrics", [f"metrics.{self._namespace}.svc"])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            # As extension API servers do: whoever the caller says the user is, only the front proxy may say so.
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._cluster.ca_file.parent / "front-proxy-ca.crt")
            server = stack.enter_context(_Server(self, context))
            if self._serving:
                server.begin()
            self._server = server
            client = stack.enter_context(self._cluster.client())
            self._make_room(client)
            stack.callback(self._unregister, client)
            self._register(client, server.port, authority.key_pair.certificate.read_bytes())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def set_usage(self, namespace: str, pod: str, container: str, cpu: Amount, memory: Amount) -> None:
        """Say what a container uses from now on.

        Parameters
        ----------
        namespace, pod, container
            Which; the pod and the container may be patterns such as ``train-*``. Of several that match, the last one
            that was set holds. Pods for which nothing was set are left out, as those that were not measured yet.
        cpu, memory
            Cores and bytes.
        """
        self._rules.append(_Rule(namespace, pod, container, cpu, memory))

    @contextlib.contextmanager
    def unavailable(self) -> Iterator[None]:
        """Answer all questions about pods with 503 in the block: there, but not able to.

        What it serves at all is told on: the API server looks at that now and then, and would pass on nothing more for
        some seconds, be it after the block.
        """
        self._answering = False
        try:
            yield
        finally:
            self._answering = True

    # ---- What the server answers.

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the body for a path with its query."""
        parts = urlsplit(path)
        segments = [segment for segment in parts.path.split("/") if segment]
        if not self._answering and "pods" in segments:
            return 503, _status(503, "ServiceUnavailable", "no metrics yet")
        selector = parse_qs(parts.query).get("labelSelector", [""])[0]
        status, body = 200, None
        match segments:
            case ["apis", group] if group == GROUP:
                body = _GROUP
            case ["apis", group, version] if (group, version) == (GROUP, VERSION):
                body = _RESOURCES
            case ["apis", _, _, "namespaces", namespace, "pods"]:
                body = self._list(f"/api/v1/namespaces/{namespace}/pods", selector)
            case ["apis", _, _, "pods"]:
                body = self._list("/api/v1/pods", selector)
            case ["apis", _, _, "namespaces", namespace, "pods", name]:
                listed = self._list(f"/api/v1/namespaces/{namespace}/pods", "")["items"]
                found = [item for item in listed if item["metadata"]["name"] == name]
                body = {"kind": "PodMetrics", "apiVersion": f"{GROUP}/{VERSION}", **found[0]} if found else None
        if body is None:
            status, body = 404, _status(404, "NotFound", f"{parts.path} is not there")
        return status, body

    def _list(self, path: str, selector: str) -> dict[str, Any]:
        self.requests += 1
        with self._cluster.client() as client:
            pods = client.request("GET", f"{path}?labelSelector={quote(selector)}" if selector else path)["items"]
        now = datetime.datetime.now(datetime.UTC)
        return {
            "kind": "PodMetricsList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": {},
            "items": [item for pod in pods if (item := self._metrics(pod, now)) is not None],
        }

    def _metrics(self, pod: dict[str, Any], now: datetime.datetime) -> dict[str, Any] | None:
        metadata, status = pod["metadata"], pod["status"]
        if status.get("phase") != "Running":
            return None
        age_seconds = (now - datetime.datetime.fromisoformat(status["startTime"])).total_seconds()
        containers = []
        sidecars = [c for c in pod["spec"].get("initContainers", ()) if c.get("restartPolicy") == "Always"]
        for container in [*pod["spec"]["containers"], *sidecars]:
            for rule in reversed(self._rules):
                if (
                    rule.namespace == metadata["namespace"]
                    and fnmatch.fnmatchcase(metadata["name"], rule.pod)
                    and fnmatch.fnmatchcase(container["name"], rule.container)
                ):
                    cpu, memory = _quantity(rule.cpu, age_seconds, "n"), _quantity(rule.memory, age_seconds, "")
                    containers.append({"name": container["name"], "usage": {"cpu": cpu, "memory": memory}})
                    break
        if not containers:
            return None
        kept = {key: metadata[key] for key in ("name", "namespace", "labels", "creationTimestamp") if key in metadata}
        timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"metadata": kept, "timestamp": timestamp, "window": WINDOW, "containers": containers}

    # ---- How the API server comes here.

    def _make_room(self, client: ApiClient) -> None:
        with contextlib.suppress(_Missing):
            found = _get(client, _API_SERVICE)
            if found["metadata"].get("labels") != _OURS:
                raise AssertionError("the cluster has a metrics.k8s.io of its own")
            self._delete_api_service(client)  # of a test that was killed

    def _register(self, client: ApiClient, port: int, ca: bytes) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace}}
        client.request("POST", "/api/v1/namespaces", namespace)
        # The API server is no pod: it cannot reach ClusterIPs here, and endpoints may not be loopback addresses.
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metrics"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }
        client.request("POST", f"/api/v1/namespaces/{self._namespace}/services", service)
        api_service = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"{VERSION}.{GROUP}", "labels": _OURS},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "service": {"namespace": self._namespace, "name": "metrics", "port": port},
                "caBundle": base64.b64encode(ca).decode(),
            },
        }
        client.request("POST", _API_SERVICE.rpartition("/")[0], api_service)
        wanted = "True" if self._serving else "False"
        _until(lambda: self._available(client) == wanted, f"{GROUP} does not become Available={wanted}")
        # Whether it is available is said by another part of the API server than the one that passes questions on.
        probe, status = f"/apis/{GROUP}/{VERSION}/namespaces/{self._namespace}/pods", 200 if self._serving else 503
        _until(lambda: _status_of(client, probe) == status, f"{GROUP} is not answered for with {status}")

    def _unregister(self, client: ApiClient) -> None:
        self._delete_api_service(client)
        # Before the namespace: none goes while a registered API does not answer what there is in it.
        with contextlib.suppress(ApiError):
            client.request("DELETE", f"/api/v1/namespaces/{self._namespace}")

    def _delete_api_service(self, client: ApiClient) -> None:
        try:
            client.request("DELETE", _API_SERVICE)
        except ApiError as error:
            if error.status != 404:
                raise
        probe = f"/apis/{GROUP}/{VERSION}"
        _until(lambda: _status_of(client, probe) == 404, f"{GROUP} does not go")

    @staticmethod
    def _available(client: ApiClient) -> str:
        conditions = _get(client, _API_SERVICE).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == "Available"), "Unknown")


class _Server(http.server.ThreadingHTTPServer):
    """Answers over HTTPS, from a thread of its own."""

    daemon_threads = False  # they are joined at the end

    def __init__(self, api: MetricsApi, context: ssl.SSLContext) -> None:
        self.api = api
        self._context = context
        self._thread: threading.Thread | None = None
        # A port that is bound and not listened on belongs to nobody else, and refuses connections.
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.server_bind()
        self.port: int = self.server_address[1]

    def begin(self) -> None:
        self.server_activate()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="metrics.k8s.io")
        self._thread.start()

    def __exit__(self, *args: object) -> None:
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake, too, belongs into the thread of the connection: a caller that says nothing holds up nobody.
        request.settimeout(_SILENCE_SECONDS)
        try:
            with self._context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            pass  # whoever shows no certificate, or leaves, is not answered

    def shutdown_request(self, request: Any) -> None:
        request.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection for each question: none is left open at the end
    server: _Server

    def do_GET(self) -> None:
        try:
            status, body = self.server.api.answer(self.path)
        except (ApiError, OSError) as error:  # the API server ends before its metrics do
            status, body = 500, _status(500, "InternalError", str(error))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


_SERVED = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
_GROUP = {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [_SERVED], "preferredVersion": _SERVED}
_RESOURCES: dict[str, Any] = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
    ],
}


class _Missing(Exception):  # noqa: N818
    """There is no such object."""


def _get(client: ApiClient, path: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.request("GET", path)
    except ApiError as error:
        if error.status == 404:
            raise _Missing from error
        raise
    return found


def _status_of(client: ApiClient, path: str) -> int:
    try:
        client.request("GET", path)
    except ApiError as error:
        return error.status
    return 200


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": message}  # fmt: skip


def _quantity(amount: Amount, age_seconds: float, unit: str) -> str:
    if isinstance(amount, str):
        return amount
    value = amount(age_seconds) if callable(amount) else amount
    # As metrics-server writes them: cpu in billionths of a core.
    return f"{round(value * 1e9)}n" if unit == "n" else str(round(value))


def _until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not done():
        assert time.monotonic() < deadline, f"{what} within {WAIT_SECONDS:g} s"
        time.sleep(0.05)
