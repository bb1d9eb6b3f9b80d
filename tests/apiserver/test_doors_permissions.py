"""What an admin, an editor, a viewer, a stranger and those without a token may do: cell by cell, by curl and client.

The table is `permission_table`, which docs/rest-api.md shows.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_tokens import bootstrap_user, expired, forged
from api_world import ApiWorld, api_world
from permission_table import BAD_TOKENS, CALLERS, KNOWN, NO_TOKEN, PLUGIN, QUESTION, TABLE, ApiCall
from waiting import wait_until

from engine_ops import EngineOpsClient, OptimizationRequest
from engine_ops.client import BadRequestError, EngineOpsError, UnauthenticatedError
from engine_ops.devcluster import DevCluster

JOB = "the-editors"


@dataclasses.dataclass(frozen=True)
class Doors:
    """The operator, and a token for each caller.

    Parameters
    ----------
    world
        The operator.
    tokens
        By caller; None for no token.
    """

    world: ApiWorld
    tokens: dict[str, str | None]

    def path(self, call: ApiCall) -> str:
        """Return a call's path, with what it stands for."""
        return call.path.format(job=JOB, other=self.world.neighbours.namespace)

    def body(self, call: ApiCall) -> Any:
        """Return a call's body."""
        if call.body is None or call.body.get("id") != "{unique}":
            return call.body
        return call.body | {"id": uuid.uuid4().hex}

    def by_curl(self, caller: str, call: ApiCall) -> int:
        """Make a call with curl, and return its status. Errors are problem details that tell no secrets."""
        headers = [f"{name}: {value}" for name, value in call.headers.items()]
        token = self.tokens[caller]
        answered = self.world.curl(token, call.method, self.path(call), self.body(call), headers)
        if answered.status >= 400:
            assert answered.headers["content-type"] == "application/problem+json"
            assert answered.json["status"] == answered.status
            assert token is None or token not in answered.text
        if answered.status == 401:
            assert answered.headers["www-authenticate"] == "Bearer"
        return answered.status

    def by_client(self, caller: str, call: ApiCall) -> int:
        """Make a call with the Python client, and return its status; that of the table where it raises nothing."""
        with self.world.client(self.tokens[caller] or "") as client:
            try:
                self._method(call)(client)
            except EngineOpsError as error:
                return error.status or 0
        return call.status("admin") if call.status("admin") < 300 else 200

    def _method(self, call: ApiCall) -> Callable[[EngineOpsClient], object]:
        other = self.world.neighbours.namespace
        path = call.path.removeprefix("/api/v1")
        namespace = other if "{other}" in path else None
        request = (
            OptimizationRequest.model_validate(self.body(call))
            if call.path.startswith("/api/v1/optimize") and call.body
            else None
        )
        methods: dict[tuple[str, str], Callable[[EngineOpsClient], object]] = {
            ("GET", "/"): lambda client: _read(client, "/"),
            ("GET", "/openapi.json"): lambda client: _read(client, "/openapi.json"),
            ("GET", "/health"): lambda client: client.health(),
            ("GET", "/metrics"): lambda client: client.metrics(),
            ("GET", "/cache/stats"): lambda client: client.cache_stats(),
            ("POST", "/optimize"): lambda client: (
                client.submit(request) if "Prefer" in call.headers else client.optimize(request)
            ),
            ("POST", "/optimize?namespace={other}"): lambda client: client.optimize(request, namespace=namespace),
            ("GET", "/optimize/{job}"): lambda client: client.state(JOB),
            ("GET", "/optimize/{job}/events"): lambda client: list(client.events(JOB)),
            ("DELETE", "/optimize/{job}"): lambda client: client.cancel(JOB),
            ("GET", "/plugins"): lambda client: client.plugins(),
            ("GET", f"/plugins/{PLUGIN}"): lambda client: client.plugin(PLUGIN),
            ("POST", f"/plugins/{PLUGIN}/enable"): lambda client: client.enable(PLUGIN),
            ("POST", f"/plugins/{PLUGIN}/disable"): lambda client: client.disable(PLUGIN),
            ("PATCH", f"/plugins/{PLUGIN}"): lambda client: client.configure(PLUGIN, priority=7),
            ("GET", "/plugins/workload-data/stats"): lambda client: client.workload_stats(),
            ("GET", "/plugins/workload-data/export"): lambda client: client.export(),
            ("GET", "/plugins/workload-data/training-format"): lambda client: client.training_format(),
            ("GET", "/plugins/workload-data/export?namespace={other}"): lambda client: client.export(
                namespace=namespace
            ),
        }
        return methods[call.method, path]


def _read(client: EngineOpsClient, path: str) -> None:
    answer = client.session.get(client.base_url + path, timeout=30)
    if not answer.ok:
        raise EngineOpsError(answer.text, answer.status_code)


@pytest.fixture(scope="module")
def doors(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[Doors]:
    with api_world(cluster, operator_kubeconfig) as world:
        tokens: dict[str, str | None] = {name: world.users.token(name) for name in KNOWN}
        admin = tokens["admin"]
        assert admin is not None
        bad = ("nonsense", expired(cluster, admin), world.users.token("admin", ["https://elsewhere.example"]))
        tokens |= {NO_TOKEN: None} | dict(zip(BAD_TOKENS, (*bad, forged(admin)), strict=True))
        assert set(tokens) == set(CALLERS)
        world.plugins.running(PLUGIN, "cluster_plugins:Prefers", config={"node": "n-1"})
        # An applied field would be managed; here it is a person's, which binds nobody.
        world.plugins.delete(PLUGIN)
        made = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizerPlugin",
            "metadata": {"name": PLUGIN},
            "spec": {"source": {"entryPoint": "cluster_plugins:Prefers"}, "config": {"node": "n-1"}},
        }
        world.plugins.client.request("POST", "/apis/engineops.dev/v1alpha1/optimizerplugins", made)
        world.plugins.applied[PLUGIN] = {}
        world.plugins.wait_reason(PLUGIN, "Running")
        with world.client(world.users.token("editor")) as client:
            client.submit(QUESTION | {"id": JOB})
            wait_until(lambda: client.state(JOB).status, lambda status: status == "done", "the editor's job")
        yield Doors(world, tokens)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("door", ["by_curl", "by_client"])
def test_the_table(doors: Doors, door: str, caller: str) -> None:
    found = {f"{call.name} ({call.note})": getattr(doors, door)(caller, call) for call in TABLE}
    assert found == {f"{call.name} ({call.note})": call.status(caller) for call in TABLE}


def test_what_was_refused_has_changed_nothing(doors: Doors) -> None:
    plugins = doors.world.plugins
    before = plugins.get(PLUGIN)["metadata"]["generation"]
    for caller in ("editor", "viewer", "stranger", NO_TOKEN, *BAD_TOKENS):
        for path in (f"/api/v1/plugins/{PLUGIN}/disable", f"/api/v1/plugins/{PLUGIN}/disable?force=true"):
            assert doors.world.curl(doors.tokens[caller], "POST", path).status == (401 if caller not in KNOWN else 403)
    assert plugins.get(PLUGIN)["metadata"]["generation"] == before


def test_no_token_is_in_the_operators_log(doors: Doors) -> None:
    for caller, token in doors.tokens.items():
        assert token is None or caller == "garbage" or token not in doors.world.operator.stderr


def test_a_user_without_a_namespace_has_to_name_one(doors: Doors) -> None:
    world = doors.world
    with bootstrap_user(world.cluster) as (username, token), world.client(token) as client:
        binding = ("rolebinding", "machine", "--clusterrole=edit", f"--user={username}")
        world.cluster.kubectl("-n", world.namespace, "create", *binding)
        wait_until(lambda: world.may(username, "create", "optimizationrequests", world.namespace), bool, "its right")
        with pytest.raises(BadRequestError) as nowhere:
            client.optimize(QUESTION)
        assert (nowhere.value.status, nowhere.value.kind) == (400, "namespace-missing")
        assert username in str(nowhere.value)
        assert client.optimize(QUESTION, namespace=world.namespace).success
        with pytest.raises(EngineOpsError) as elsewhere:
            client.optimize(QUESTION, namespace=world.neighbours.namespace)
        assert elsewhere.value.status == 403

        def is_refused() -> bool:
            try:
                client.optimize(QUESTION, namespace=world.namespace)
            except UnauthenticatedError:
                return True
            return False

        # The API remembers for ten seconds whose a token is.
        world.cluster.kubectl("-n", "kube-system", "delete", "secret", f"bootstrap-token-{token.partition('.')[0]}")
        wait_until(is_refused, bool, "a token that was taken back is refused")
