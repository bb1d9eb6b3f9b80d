"""The operator with its REST API as people meet it: over TLS, with tokens, by curl and by the Python client."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from api_users import ApiUsers, api_users
from operator_process import OperatorProcess
from plugin_objects import Operators, PluginObjects, own_namespace
from waiting import wait_until

from engine_ops import EngineOpsClient
from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.certificates import CertificateAuthority
from reserved_port import reserved_port

CURL_SECONDS = 60.0
GROUP = "engineops.dev"


@dataclasses.dataclass(frozen=True)
class Answered:
    """What curl was answered.

    Parameters
    ----------
    status
        Of HTTP.
    headers
        Names in small letters.
    text
        The body.
    """

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


@dataclasses.dataclass
class ApiWorld:
    """An operator that serves the API, and who uses it.

    Parameters
    ----------
    cluster
        Where.
    operators, operator
        Starts further operators; the one that runs.
    users, neighbours
        An admin, an editor, a viewer and a stranger each of two namespaces, which the operator watches.
    address
        Of the API.
    ca
        Of its certificate.
    plugins
        Plugins, and requests of the users' namespace.
    """

    cluster: DevCluster
    operators: Operators
    operator: OperatorProcess
    users: ApiUsers
    neighbours: ApiUsers
    address: str
    ca: Path
    plugins: PluginObjects

    @property
    def namespace(self) -> str:
        """The users' own."""
        return self.users.namespace

    def client(self, token: str, **options: Any) -> EngineOpsClient:
        """Return a client; an empty token for none."""
        return EngineOpsClient(self.address, token=token, verify=str(self.ca), **options)

    def curl(
        self, token: str | None, method: str, path: str, body: Any = None, headers: Sequence[str] = ()
    ) -> Answered:
        """Make a call with curl. The test is skipped where there is none."""
        program = shutil.which("curl")
        if program is None:
            pytest.skip("curl is not installed")
        sent = list(headers)
        if token is not None:
            sent.append(f"Authorization: Bearer {token}")
        command = [program, "--silent", "--show-error", "--cacert", str(self.ca), "--request", method]
        if body is not None:
            sent.append("Content-Type: application/json")
            command += ["--data-binary", json.dumps(body)]
        command += [word for header in sent for word in ("--header", header)]
        command += ["--max-time", f"{CURL_SECONDS:.0f}", "--include", self.address + path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * CURL_SECONDS)
        assert done.returncode == 0, (method, path, done.stderr)
        head, _, text = done.stdout.partition("\n\n")
        first, *lines = head.splitlines()
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answered(int(first.split()[1]), fields, text)

    def may(self, username: str, verb: str, resource: str, namespace: str = "", path: str = "") -> bool:
        """Whether the API server lets a user do something with the group's resources, or get a path."""
        name, _, subresource = resource.partition("/")
        attributes = {"verb": verb, "group": GROUP, "resource": name, "subresource": subresource}
        what = (
            {"nonResourceAttributes": {"verb": verb, "path": path}}
            if path
            else {"resourceAttributes": attributes | {"namespace": namespace}}
        )
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": username, "groups": ["system:authenticated"], **what},
        }
        answer = self.users.client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body)
        return bool(answer["status"]["allowed"])

    def wait_for_roles(self) -> None:
        """Wait until all roles are in effect: the API remembers for ten seconds what the API server says of them."""
        for users in (self.users, self.neighbours):
            admin, editor, viewer = map(users.username, ("admin", "editor", "viewer"))
            history = "optimizationrequests/history"
            for user, verb, resource, namespace in (
                (editor, "create", "optimizationrequests", users.namespace),
                (editor, "get", history, users.namespace),
                (editor, "list", "optimizerplugins", ""),
                (viewer, "list", "optimizerplugins", ""),
                (viewer, "get", "optimizationrequests", users.namespace),
                (admin, "patch", "optimizerplugins", ""),
                (admin, "create", "optimizationrequests", ""),
                (admin, "get", history, ""),
            ):
                self._wait_for(lambda u=user, v=verb, r=resource, n=namespace: self.may(u, v, r, n), f"{user} {verb}")
            self._wait_for(
                lambda u=admin: self.may(u, "get", "", path="/engine-ops/api/v1/metrics"), f"{admin} metrics"
            )

    def restart(self) -> None:
        """Start an operator in the place of one that has ended."""
        self.operator = self.operators.start()

    @staticmethod
    def _wait_for(allowed: Callable[[], bool], what: str) -> None:
        wait_until(allowed, bool, f"{what}: the right is in effect")


@contextlib.contextmanager
def api_world(cluster: DevCluster, kubeconfig: Path, *arguments: str) -> Iterator[ApiWorld]:
    """Run an operator with its API beside the block, and make its users.

    Parameters
    ----------
    cluster
        With manifests/base in it.
    kubeconfig
        Of the operator's ServiceAccount.
    *arguments
        Further ones of ``engine-ops run``.
    """
    name = f"test-{uuid.uuid4().hex[:12]}"
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(own_namespace(cluster, name))
        other = stack.enter_context(own_namespace(cluster, f"{name}-other"))
        users = stack.enter_context(api_users(cluster, own))
        neighbours = stack.enter_context(api_users(cluster, other))
        client = stack.enter_context(cluster.client())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        authority = CertificateAuthority(directory, "api-ca")
        pair = authority.server("api", ["127.0.0.1", "localhost"])
        address = f"https://127.0.0.1:{stack.enter_context(reserved_port())}"
        operators = stack.enter_context(
            Operators(
                kubeconfig,
                own,
                f"--namespace={other}",
                f"--api={address}",
                f"--api-tls-cert={pair.certificate}",
                f"--api-tls-key={pair.key}",
                *arguments,
            )
        )
        plugins = PluginObjects(cluster, own, client)
        stack.callback(plugins.clear)
        world = ApiWorld(
            cluster, operators, operators.start(), users, neighbours, address, authority.key_pair.certificate, plugins
        )
        world.wait_for_roles()
        yield world
