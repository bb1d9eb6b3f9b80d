"""manifests/ at a real API server: accepted, restricted, and with the rights that they are meant to give."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from manifest_files import MANIFESTS, rendered
from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.pytest_plugin import Kubectl

VIEW = {"get", "list", "watch"}
EDIT = VIEW | {"create", "update", "patch", "delete"}
ADMIN = EDIT | {"deletecollection"}
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))
OPERATOR = "system:serviceaccount:engine-ops-system:engine-ops"
REQUESTS = "optimizationrequests.engineops.dev"
PLUGINS = "optimizerplugins.engineops.dev"


class Rights:
    """Asks the API server what somebody may do.

    Parameters
    ----------
    cluster, namespace
        Where.
    """

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self._cluster = cluster
        self.namespace = namespace

    def may(self, user: str, verb: str, resource: str, namespace: str | None = None) -> bool:
        """Whether a user may do ``verb`` on ``resource[.group][/subresource]``."""
        resource, _, subresource = resource.partition("/")
        name, _, group = resource.partition(".")
        attributes = {"verb": verb, "group": group, "resource": name, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {**attributes, "namespace": namespace or self.namespace}},
        }
        if user.startswith("system:serviceaccount:"):
            review["spec"]["groups"] = ["system:serviceaccounts", "system:authenticated"]
        with self._cluster.client() as client:
            answer = client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return bool(answer["status"]["allowed"])


@pytest.fixture
def rights(installed: DevCluster, namespace: str) -> Rights:
    return Rights(installed, namespace)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_are_valid(kubectl: Kubectl, namespace: str, path: Path) -> None:
    arguments = ["apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", str(path)]
    applied = kubectl(*arguments)
    assert "Warning" not in applied.stderr


def test_the_crds_alone_can_be_applied_by_file_and_by_kustomization(kubectl: Kubectl) -> None:
    crds = str(MANIFESTS.parent / "crds")
    by_file = kubectl("apply", "--dry-run=server", "--server-side", "--force-conflicts", "-o", "name", "-f", crds)
    by_kustomization = kubectl(
        "apply", "--dry-run=server", "--server-side", "--force-conflicts", "-o", "name", "-k", crds
    )
    assert sorted(by_file.stdout.split()) == sorted(by_kustomization.stdout.split())
    assert len(by_file.stdout.split()) == 2


@pytest.mark.usefixtures("installed")
def test_applying_the_base_again_changes_nothing(kubectl: Kubectl) -> None:
    # A field that the API server drops or defaults otherwise would show as a difference for ever.
    # One that is there for a moment is the controllers': they write statuses between kubectl's two looks at an object.
    wait_until(
        lambda: kubectl("diff", "--server-side", "--force-conflicts", "-k", str(MANIFESTS / "base"), check=False),
        lambda done: done.returncode == 0,
        "there is no difference",
    )


@pytest.fixture(scope="module")
def node(installed: DevCluster) -> Iterator[str]:
    """A node for the operator's Pod."""
    (name,) = installed.add_nodes(1, prefix="manifests")
    yield name
    with installed.client() as client:
        client.request("DELETE", f"/api/v1/nodes/{name}")


@pytest.mark.usefixtures("node")
def test_a_pod_of_the_deployment_passes_pod_security_and_runs(kubectl: Kubectl) -> None:
    # The namespace enforces `restricted`: the API server would refuse the Pod, and the Deployment would never be ready.
    kubectl("rollout", "status", "-n", "engine-ops-system", "deployment/engine-ops", "--timeout=45s")
    namespace = json.loads(kubectl("get", "namespace", "engine-ops-system", "-o", "json").stdout)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    chosen = ("-l", "app.kubernetes.io/name=engine-ops", "-o", "json")
    # Where the node that it was on has gone with another test, it is about to be replaced.
    pods = wait_until(
        lambda: json.loads(kubectl("get", "pods", "-n", "engine-ops-system", *chosen).stdout)["items"],
        bool,
        "there is a Pod",
    )
    for pod in pods:
        (token,) = (volume["name"] for volume in pod["spec"]["volumes"] if "projected" in volume)
        mounted = {
            container["name"]: [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == token]
            for container in pod["spec"]["containers"]
        }
        # The API server adds none to the plugins' container.
        assert mounted == {"operator": ["/var/run/secrets/kubernetes.io/serviceaccount"], "plugin-host": []}


@pytest.mark.usefixtures("installed")
def test_a_pod_that_breaks_the_rules_is_refused_there(kubectl: Kubectl) -> None:
    (deployment,) = (d for d in rendered(kubectl, MANIFESTS / "base") if d["kind"] == "Deployment")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-root", "namespace": "engine-ops-system"}}
    pod["spec"] = deployment["spec"]["template"]["spec"]
    accepted = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    assert "created" in accepted.stdout
    for container in pod["spec"]["containers"]:
        container["securityContext"]["allowPrivilegeEscalation"] = True
        refused = kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod), check=False)
        assert refused.returncode != 0
        assert 'violates PodSecurity "restricted' in refused.stderr
        container["securityContext"]["allowPrivilegeEscalation"] = False


@pytest.mark.usefixtures("installed")
def test_a_drain_can_evict_the_operator(kubectl: Kubectl) -> None:
    # With `minAvailable: 1`, or a selector that matches no Pod, this would not hold.
    budget = kubectl(
        "wait",
        "-n",
        "engine-ops-system",
        "pdb/engine-ops",
        "--for=jsonpath={.status.disruptionsAllowed}=1",
        "--timeout=30s",
    )
    assert "condition met" in budget.stdout


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("list", "secrets"),
        ("list", "configmaps"),
        ("update", "configmaps"),
        ("create", REQUESTS),
        ("update", REQUESTS),
        ("patch", REQUESTS),
        ("update", f"{REQUESTS}/status"),
        ("create", PLUGINS),
        ("update", PLUGINS),
        ("patch", PLUGINS),
        ("delete", PLUGINS),
        ("update", f"{PLUGINS}/status"),
        ("create", "pods"),
        ("delete", "pods"),
        ("create", "pods/eviction"),
        ("patch", "nodes"),
        ("list", "deployments.apps"),
        ("patch", "deployments.apps"),
        ("create", "serviceaccounts/token"),
        ("impersonate", "users"),
        ("escalate", "clusterroles.rbac.authorization.k8s.io"),
    ],
)
def test_the_operator_may_not(rights: Rights, verb: str, resource: str) -> None:
    assert not rights.may(OPERATOR, verb, resource)


def test_the_operators_lease_is_its_own_namespaces(rights: Rights) -> None:
    assert rights.may(OPERATOR, "update", "leases.coordination.k8s.io", "engine-ops-system")
    assert not rights.may(OPERATOR, "update", "leases.coordination.k8s.io")


@pytest.fixture
def people(rights: Rights, kubectl: Kubectl) -> str:
    """Bind three people to Kubernetes' own roles view, edit and admin, and return what their names begin with."""
    prefix = f"person-{uuid.uuid4().hex[:8]}"
    for role in ("view", "edit", "admin"):
        binding = f"{prefix}-{role}"
        kubectl("create", "rolebinding", binding, "-n", rights.namespace, f"--clusterrole={role}", f"--user={binding}")
    # The controller manager fills in the aggregated roles a moment after they change, one by one, and each of them
    # with what there is at the time: an admin may delete a collection before they may make what is in it.
    for role, verbs in {"view": VIEW, "edit": EDIT, "admin": ADMIN}.items():
        wait_until(
            lambda user=f"{prefix}-{role}", verbs=verbs: {verb for verb in verbs if rights.may(user, verb, REQUESTS)},
            lambda allowed, verbs=verbs: allowed == set(verbs),
            f"{role} is aggregated",
        )
    return prefix


@pytest.mark.parametrize(("role", "verbs"), [("view", VIEW), ("edit", EDIT), ("admin", ADMIN)])
def test_kubernetes_own_roles_cover_requests(people: str, rights: Rights, role: str, verbs: set[str]) -> None:
    user = f"{people}-{role}"
    assert {verb for verb in ADMIN if rights.may(user, verb, REQUESTS)} == verbs
    assert rights.may(user, "get", f"{REQUESTS}/status")


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_nobody_but_the_operator_writes_a_status(people: str, rights: Rights, role: str) -> None:
    for verb in ("update", "patch"):
        assert not rights.may(f"{people}-{role}", verb, f"{REQUESTS}/status")
        assert not rights.may(f"{people}-{role}", verb, f"{PLUGINS}/status")
    assert rights.may(OPERATOR, "patch", f"{REQUESTS}/status")
    assert rights.may(OPERATOR, "patch", f"{PLUGINS}/status")


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_whoever_edits_a_namespace_changes_no_plugin(people: str, rights: Rights, role: str) -> None:
    for verb in ("create", "update", "patch", "delete"):
        assert not rights.may(f"{people}-{role}", verb, PLUGINS)


def test_whoever_is_bound_to_it_enables_a_plugin_and_writes_no_status(rights: Rights, kubectl: Kubectl) -> None:
    user = f"plugin-editor-{uuid.uuid4().hex[:8]}"
    kubectl("create", "clusterrolebinding", user, "--clusterrole=engine-ops-plugin-editor", f"--user={user}")
    try:
        wait_until(lambda: rights.may(user, "patch", PLUGINS), bool, "the right is in effect")
        assert not rights.may(user, "patch", f"{PLUGINS}/status")
        assert not rights.may(user, "create", REQUESTS)
    finally:
        kubectl("delete", "clusterrolebinding", user)


def test_an_editor_applies_the_samples_and_a_viewer_reads_them(people: str, kubectl: Kubectl, namespace: str) -> None:
    sample = str(MANIFESTS / "samples" / "scheduling-one-task.yaml")
    kubectl("apply", "-n", namespace, "-f", sample, "--as", f"{people}-edit")
    assert "invoice-run" in kubectl("get", "optreq", "-n", namespace, "--as", f"{people}-view").stdout
    refused = kubectl("delete", "-n", namespace, "-f", sample, "--as", f"{people}-view", check=False)
    assert refused.returncode != 0
    assert "forbidden" in refused.stderr
    status = '{"status": {"observedGeneration": 7}}'
    refused = kubectl(
        *("patch", "optreq/invoice-run", "-n", namespace, "--subresource=status", "--type=merge", "-p", status),
        *("--as", f"{people}-edit"),
        check=False,
    )
    assert "forbidden" in refused.stderr
