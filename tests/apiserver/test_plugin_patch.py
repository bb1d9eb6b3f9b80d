"""Changing OptimizerPlugins on the real API server: in whose name, against whose will, and what it says when not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_users import ApiUsers, api_users

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiError as ClusterError
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.plugin_patch import (
    API_MANAGER,
    CLI_MANAGER,
    field_faults,
    patch_plugin,
    read_plugin,
)
from engine_ops.server.callers import AccessUnavailable, Caller
from engine_ops.server.plugin_changes import PluginChangeRefused, PluginNotFound
from engine_ops.server.plugin_switch import KubePluginSwitch

WAIT_SECONDS = 30.0
PLUGINS = "/apis/engineops.dev/v1alpha1/optimizerplugins"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"
SOURCE = {"entryPoint": "nowhere:Nothing"}
ON, OFF = PluginChange(enabled=True), PluginChange(enabled=False)


@pytest.fixture(scope="module")
def users(installed: DevCluster) -> Iterator[ApiUsers]:
    """The four in a namespace of this module, once the API server knows what they may."""
    namespace = f"plugin-patch-{time.time_ns():x}"
    installed.kubectl("create", "namespace", namespace)
    try:
        with api_users(installed, namespace) as made:
            deadline = time.monotonic() + WAIT_SECONDS
            for user, verb, expected in (("admin", "patch", "yes"), ("viewer", "get", "yes")):
                while _may(made, user, verb) != expected:
                    assert time.monotonic() < deadline, f"{user} may not {verb} plugins"
                    time.sleep(0.1)
            yield made
    finally:
        installed.kubectl("delete", "namespace", namespace, "--wait=false")


def _may(users: ApiUsers, user: str, verb: str) -> str:
    asked = ("auth", "can-i", verb, "optimizerplugins.engineops.dev", "--as", users.username(user))
    return users.cluster.kubectl(*asked, check=False).stdout.strip()


class Plugins:
    """The plugins of one test, made in the ways that people make them."""

    def __init__(self, cluster: DevCluster, prefix: str) -> None:
        self.cluster = cluster
        self._names = (f"{prefix}-{number}" for number in itertools.count(1))
        self.made: list[str] = []

    def manifest(self, **spec: Any) -> tuple[str, str]:
        name = next(self._names)
        self.made.append(name)
        body = {
            "apiVersion": "engineops.dev/v1alpha1",
            "kind": "OptimizerPlugin",
            "metadata": {"name": name},
            "spec": {"source": SOURCE, **spec},
        }
        return name, json.dumps(body)

    def create(self, **spec: Any) -> str:
        name, manifest = self.manifest(**spec)
        self.cluster.kubectl("create", "-f", "-", stdin=manifest)
        return name

    def apply(self, manager: str, **spec: Any) -> str:
        name, manifest = self.manifest(**spec)
        self.cluster.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=manifest)
        return name

    def patch(self, name: str, *arguments: str, **spec: Any) -> None:
        patch = json.dumps({"spec": spec})
        self.cluster.kubectl("patch", "optplug", name, "--type=merge", "-p", patch, *arguments)

    def get(self, name: str) -> dict[str, Any]:
        with self.cluster.client() as client:
            found: dict[str, Any] = client.request("GET", f"{PLUGINS}/{name}")
        return found

    def spec(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(name)["spec"]
        return found

    def managers(self, name: str, field: str) -> set[tuple[str, str]]:
        entries = self.get(name)["metadata"]["managedFields"]
        return {
            (entry["manager"], entry["operation"])
            for entry in entries
            if f"f:{field}" in entry["fieldsV1"].get("f:spec", {})
        }


@pytest.fixture
def plugins(users: ApiUsers, namespace: str) -> Iterator[Plugins]:
    made = Plugins(users.cluster, namespace)
    yield made
    with users.cluster.client() as client:
        for name in made.made:
            with contextlib.suppress(ClusterError):
                client.request("DELETE", f"{PLUGINS}/{name}")


@contextlib.asynccontextmanager
async def open_connection(kubeconfig: Path) -> AsyncIterator[Connection]:
    connection = await Connection.open(str(kubeconfig))
    try:
        yield connection
    finally:
        await connection.close()


def run(check: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * WAIT_SECONDS):
            await check()

    asyncio.run(main())


def switch(
    users: ApiUsers, kubeconfig: Path, user: str, name: str, change: PluginChange, *, force: bool = False
) -> None:
    """Change a plugin through an operator with these credentials, in the name of a user."""
    caller = Caller(users.username(user), token=users.token(user))

    async def change_it() -> None:
        async with open_connection(kubeconfig) as connection:
            await KubePluginSwitch(connection).change(caller, name, change, force=force)

    run(change_it)


# ---- In whose name


def test_it_is_done_in_the_callers_name(users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path) -> None:
    name = plugins.create(config={"old": 1, "kept": None})
    change = PluginChange(enabled=False, priority=7, config={"new": {"list": [1, 2.5]}})
    switch(users, operator_kubeconfig, "admin", name, change)
    spec = plugins.spec(name)
    assert (spec["enabled"], spec["priority"], spec["config"]) == (False, 7, {"new": {"list": [1, 2.5]}})
    assert spec["source"] == SOURCE
    for field in ("enabled", "priority", "config"):
        assert plugins.managers(name, field) == {(API_MANAGER, "Update")}
    assert plugins.managers(name, "source") == {("kubectl-create", "Update")}


@pytest.mark.parametrize("user", ["editor", "viewer", "stranger"])
@pytest.mark.parametrize("credentials", ["operator", "administrator"])
def test_nobody_borrows_the_operators_rights(
    users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path, user: str, credentials: str
) -> None:
    # The administrator's kubeconfig has a client certificate, which the API server would take before the token.
    kubeconfig = operator_kubeconfig if credentials == "operator" else users.cluster.kubeconfig
    name = plugins.create()
    for change in (OFF, ON):  # what is so already takes the same rights
        with pytest.raises(PluginChangeRefused) as raised:
            switch(users, kubeconfig, user, name, change)
        assert raised.value.status == 403
        verb = "get" if user == "stranger" else "patch"
        assert f'User "{users.username(user)}" cannot {verb} resource "optimizerplugins"' in str(raised.value)
    assert plugins.spec(name)["enabled"] is True


def test_admission_sees_the_caller(users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path) -> None:
    name = plugins.create()
    with seen_by_admission(users, name):
        deadline = time.monotonic() + WAIT_SECONDS  # a policy is heeded a moment after it was made
        while True:
            try:
                switch(users, operator_kubeconfig, "admin", name, OFF)
            except PluginChangeRefused as error:
                refused = error
                break
            switch(users, operator_kubeconfig, "admin", name, ON)
            assert time.monotonic() < deadline, "the policy is not heeded"
        assert refused.status == 422
        assert f"asked by {users.username('admin')}" in str(refused)
    assert plugins.spec(name)["enabled"] is True


@contextlib.contextmanager
def seen_by_admission(users: ApiUsers, name: str) -> Iterator[None]:
    """Refuse to disable one plugin, and name who asked."""
    rule = {
        "apiGroups": ["engineops.dev"],
        "apiVersions": ["v1alpha1"],
        "operations": ["UPDATE"],
        "resources": ["optimizerplugins"],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "this", "expression": f"object.metadata.name == '{name}'"}],
        "validations": [
            {
                "expression": "object.spec.enabled == true",
                "messageExpression": "'asked by ' + request.userInfo.username",
            }
        ],
    }
    kinds = {
        "validatingadmissionpolicies": ("ValidatingAdmissionPolicy", spec),
        "validatingadmissionpolicybindings": (
            "ValidatingAdmissionPolicyBinding",
            {"policyName": name, "validationActions": ["Deny"]},
        ),
    }
    try:
        for plural, (kind, content) in kinds.items():
            body = {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": name},
                "spec": content,
            }
            users.client.request("POST", f"{ADMISSION}/{plural}", body)
        yield
    finally:
        for plural in kinds:
            with contextlib.suppress(ClusterError):
                users.client.request("DELETE", f"{ADMISSION}/{plural}/{name}")


# ---- Other managers


def test_a_server_side_apply_is_named(users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path) -> None:
    name = plugins.apply("our-pipeline", enabled=True, priority=3)
    with pytest.raises(PluginManaged) as raised:
        switch(users, operator_kubeconfig, "admin", name, PluginChange(enabled=False, priority=4, config={"a": 1}))
    assert raised.value.manager == "our-pipeline"
    assert raised.value.fields == ("spec.enabled", "spec.priority")
    assert plugins.spec(name)["enabled"] is True
    # What it does not own, and what stays as it is, is nobody's business.
    switch(users, operator_kubeconfig, "admin", name, PluginChange(enabled=True, priority=3, config={"a": 1}))
    assert plugins.spec(name)["config"] == {"a": 1}
    # Who may not change it at all hears that, not who manages it.
    with pytest.raises(PluginChangeRefused) as refused:
        switch(users, operator_kubeconfig, "viewer", name, OFF)
    assert refused.value.status == 403
    # Nor does force help them; it helps others.
    with pytest.raises(PluginChangeRefused) as refused:
        switch(users, operator_kubeconfig, "viewer", name, OFF, force=True)
    assert refused.value.status == 403
    switch(users, operator_kubeconfig, "admin", name, OFF, force=True)
    assert plugins.spec(name)["enabled"] is False
    assert plugins.managers(name, "enabled") == {(API_MANAGER, "Update")}
    # It was taken from the manager, until that applies again.
    switch(users, operator_kubeconfig, "admin", name, ON)


def test_an_apply_owns_the_configuration_as_a_whole(
    users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path
) -> None:
    name = plugins.apply("our-pipeline", config={"a": 1})
    with pytest.raises(PluginManaged) as raised:
        switch(users, operator_kubeconfig, "admin", name, PluginChange(config={"b": 1}))
    assert raised.value.fields == ("spec.config",)
    switch(users, operator_kubeconfig, "admin", name, OFF)  # which it does not say


@pytest.mark.parametrize("how", ["create", "apply", "patch", "edit"])
def test_what_a_person_did_with_kubectl_binds_nobody(
    users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path, how: str
) -> None:
    if how == "apply":
        name, manifest = plugins.manifest(enabled=True)
        users.cluster.kubectl("apply", "-f", "-", stdin=manifest)
    else:
        name = plugins.create(enabled=how == "create")
    if how in {"patch", "edit"}:
        plugins.patch(name, *([] if how == "patch" else ["--field-manager=kubectl-edit"]), enabled=True)
    assert plugins.managers(name, "enabled") == {
        ("kubectl-client-side-apply" if how == "apply" else f"kubectl-{how}", "Update")
    }
    switch(users, operator_kubeconfig, "admin", name, OFF)
    assert plugins.spec(name)["enabled"] is False


@pytest.mark.parametrize("manager", ["argocd-controller", "argocd-application-controller", "helm-controller", "flux"])
def test_gitops_managers_bind_without_server_side_apply(
    users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path, manager: str
) -> None:
    name = plugins.create(enabled=False)
    plugins.patch(name, f"--field-manager={manager}", enabled=True)
    with pytest.raises(PluginManaged) as raised:
        switch(users, operator_kubeconfig, "admin", name, OFF)
    assert (raised.value.manager, raised.value.fields) == (manager, ("spec.enabled",))
    assert plugins.spec(name)["enabled"] is True
    switch(users, operator_kubeconfig, "admin", name, OFF, force=True)
    assert plugins.spec(name)["enabled"] is False


# ---- What the API server says


def test_its_refusals_are_passed_on(users: ApiUsers, plugins: Plugins, operator_kubeconfig: Path) -> None:
    with pytest.raises(PluginNotFound, match='"no-such-plugin" not found'):
        switch(users, operator_kubeconfig, "admin", "no-such-plugin", OFF)
    name = plugins.create()
    with pytest.raises(PluginChangeRefused) as raised:
        switch(users, operator_kubeconfig, "admin", name, PluginChange(priority=1_000_001))
    assert raised.value.status == 422
    [(path, sentence)] = raised.value.faults
    assert path == "spec.priority"
    assert "1000000" in sentence
    # An invalid change of what somebody else owns is invalid before it is anything else.
    owned = plugins.apply("our-pipeline", priority=1)
    with pytest.raises(PluginChangeRefused) as raised:
        switch(users, operator_kubeconfig, "admin", owned, PluginChange(priority=1_000_001))
    assert raised.value.status == 422


@pytest.mark.parametrize("name", ["", ".", "..", "a/status", "../optimizerplugins", "a%2fb", "a?b", "A", "a" * 254])
def test_a_name_leads_nowhere_else(users: ApiUsers, operator_kubeconfig: Path, name: str) -> None:
    with pytest.raises(PluginNotFound):
        switch(users, operator_kubeconfig, "admin", name, OFF)


def test_a_token_that_is_no_good_any_more(users: ApiUsers, plugins: Plugins) -> None:
    name = plugins.create()

    async def check() -> None:
        async with open_connection(users.cluster.kubeconfig) as connection:
            with pytest.raises(PluginChangeRefused) as raised:
                await KubePluginSwitch(connection).change(Caller("x", token="nonsense"), name, OFF, force=True)
            assert raised.value.status == 401
            with pytest.raises(PluginChangeRefused) as raised:
                await KubePluginSwitch(connection).change(Caller("x"), name, OFF, force=True)
            assert raised.value.status == 401

    run(check)
    assert plugins.spec(name)["enabled"] is True


def test_an_api_server_that_is_not_there(users: ApiUsers, tmp_path: Path) -> None:
    text = users.cluster.kubeconfig.read_text().replace(users.cluster.server, "https://127.0.0.1:1")
    (tmp_path / "config").write_text(text)
    with pytest.raises(AccessUnavailable):
        switch(users, tmp_path / "config", "admin", "any", OFF)


# ---- With somebody's own kubeconfig, as the command line does


def test_with_ones_own_kubeconfig(users: ApiUsers, plugins: Plugins) -> None:
    name = plugins.apply("our-pipeline", enabled=True)

    async def check() -> None:
        async with open_connection(users.cluster.kubeconfig) as connection:
            with pytest.raises(PluginManaged, match=r"spec\.enabled is managed by our-pipeline, which would"):
                await patch_plugin(connection, name, PluginChange(enabled=False), field_manager=CLI_MANAGER)
            before = await read_plugin(connection, name)
            assert before["spec"]["enabled"] is True
            after = await patch_plugin(
                connection, name, PluginChange(enabled=False), field_manager=CLI_MANAGER, force=True
            )
            assert after["spec"]["enabled"] is False
            assert after == await read_plugin(connection, name)
            again = await patch_plugin(connection, name, PluginChange(enabled=False), field_manager=API_MANAGER)
            assert again == after  # what is so already writes nothing
            with pytest.raises(ApiError) as raised:
                await patch_plugin(connection, name, PluginChange(priority=-1_000_001), field_manager=CLI_MANAGER)
            assert [path for path, _ in field_faults(raised.value)] == ["spec.priority"]

    run(check)
    assert plugins.managers(name, "enabled") == {(CLI_MANAGER, "Update")}


def test_a_change_that_comes_in_between_is_not_overrun(
    users: ApiUsers, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plugins.create(enabled=False)

    async def check() -> None:
        async with open_connection(users.cluster.kubeconfig) as connection:
            request, patched = connection.request, False

            async def with_a_sync_before_the_patch(method: str, path: str, **options: Any) -> bytes:
                nonlocal patched
                if method == "PATCH" and not patched:
                    patched = True
                    plugins.patch(name, "--field-manager=argocd-controller", enabled=True)
                return await request(method, path, **options)

            monkeypatch.setattr(connection, "request", with_a_sync_before_the_patch)
            # It was not Argo CD's when it was read; it is when the patch comes.
            with pytest.raises(PluginManaged, match="argocd-controller"):
                await patch_plugin(
                    connection, name, PluginChange(enabled=False, config={"a": 1}), field_manager=CLI_MANAGER
                )

    run(check)
    assert plugins.spec(name)["enabled"] is True


def test_changes_at_once_all_come_through(users: ApiUsers, plugins: Plugins) -> None:
    name = plugins.create()
    edits = (PluginChange(enabled=False), PluginChange(priority=5), PluginChange(config={"a": 1}))

    async def check() -> None:
        async with open_connection(users.cluster.kubeconfig) as connection:
            await asyncio.gather(*(patch_plugin(connection, name, edit, field_manager=CLI_MANAGER) for edit in edits))

    run(check)
    spec = plugins.spec(name)
    assert (spec["enabled"], spec["priority"], spec["config"]) == (False, 5, {"a": 1})
