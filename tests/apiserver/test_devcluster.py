"""The local control plane does what a real one does."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rights_in_effect import wait_for_rights
from waiting import wait_until

from engine_ops.devcluster import ApiError, DevCluster, DevClusterError, KeyPair


def _pod(name: str, annotations: dict[str, str], restart_policy: str = "Never") -> str:
    container = {"name": "main", "image": "any", "resources": {"requests": {"cpu": "10m"}}}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"restartPolicy": restart_policy, "containers": [container]},
        }
    )


@pytest.fixture
def node(cluster: DevCluster, namespace: str) -> str:
    (name,) = cluster.add_nodes(1, cpu="4", memory="8Gi", prefix=namespace)
    return name


def _wait(cluster: DevCluster, namespace: str, what: str, condition: str) -> dict[str, Any]:
    cluster.kubectl("-n", namespace, "wait", what, f"--for={condition}", "--timeout=30s")
    document: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", what, "-o", "json").stdout)
    return document


# Nodes and pods


def test_nodes_become_ready_with_what_was_asked_for(cluster: DevCluster, namespace: str) -> None:
    labels, resources = {"pool": namespace}, {"nvidia.com/gpu": "4"}
    names = cluster.add_nodes(2, cpu="16", memory="64Gi", pods=30, labels=labels, resources=resources, prefix=namespace)
    listed = json.loads(cluster.kubectl("get", "nodes", "-l", f"pool={namespace}", "-o", "json").stdout)["items"]
    assert [item["metadata"]["name"] for item in listed] == names == [f"{namespace}-0", f"{namespace}-1"]
    for item in listed:
        wanted = {"cpu": "16", "memory": "64Gi", "pods": "30", "nvidia.com/gpu": "4"}
        assert item["status"]["allocatable"] == item["status"]["capacity"] == wanted
        assert {c["type"]: c["status"] for c in item["status"]["conditions"]}["Ready"] == "True"


def test_a_node_holds_a_lease(cluster: DevCluster, node: str) -> None:
    cluster.kubectl(
        "-n",
        "kube-node-lease",
        "wait",
        f"lease/{node}",
        "--for=jsonpath={.spec.leaseDurationSeconds}=40",
        "--timeout=30s",
    )


def test_a_job_completes(cluster: DevCluster, namespace: str, node: str) -> None:
    cluster.kubectl("-n", namespace, "create", "job", "answer", "--image=any")
    job = _wait(cluster, namespace, "job/answer", "condition=Complete")
    assert job["status"]["succeeded"] == 1


def test_a_pod_runs_on_the_node_and_goes_when_deleted(cluster: DevCluster, namespace: str, node: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("plain", {}))
    pod = _wait(cluster, namespace, "pod/plain", "condition=Ready")
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["podIP"]
    cluster.kubectl("-n", namespace, "delete", "pod/plain", "--timeout=30s")


def test_a_pod_runs_for_as_long_as_its_annotation_says(cluster: DevCluster, namespace: str, node: str) -> None:
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("short", {"engineops.dev/run-for": "10ms"}))
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("long", {"engineops.dev/run-for": "1h"}))
    pod = _wait(cluster, namespace, "pod/short", "jsonpath={.status.phase}=Succeeded")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert _wait(cluster, namespace, "pod/long", "condition=Ready")["status"]["phase"] == "Running"


def test_a_pod_fails_where_its_annotation_says_so(cluster: DevCluster, namespace: str, node: str) -> None:
    annotations = {"engineops.dev/outcome": "Failed", "engineops.dev/exit-code": "3", "engineops.dev/run-for": "10ms"}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("broken", annotations))
    pod = _wait(cluster, namespace, "pod/broken", "jsonpath={.status.phase}=Failed")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_a_pod_runs_out_of_memory_and_fails(cluster: DevCluster, namespace: str, node: str) -> None:
    annotations = {"engineops.dev/outcome": "OOMKilled", "engineops.dev/run-for": "10ms"}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("big", annotations))
    pod = _wait(cluster, namespace, "pod/big", "jsonpath={.status.phase}=Failed")
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)


def test_a_pod_runs_out_of_memory_and_restarts_again_and_again(cluster: DevCluster, namespace: str, node: str) -> None:
    annotations = {"engineops.dev/outcome": "OOMKilled", "engineops.dev/run-for": "1s"}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", stdin=_pod("big", annotations, "Always"))
    pod = wait_until(
        lambda: _wait(cluster, namespace, "pod/big", "condition=Ready"),
        lambda found: found["status"]["containerStatuses"][0]["restartCount"] >= 2,
        "it is restarted twice",
    )
    assert pod["status"]["phase"] == "Running"
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "OOMKilled"


# Who may do what


def test_rbac_denies_a_service_account_without_rights(cluster: DevCluster, namespace: str, tmp_path: Path) -> None:
    config = cluster.service_account_kubeconfig(namespace, "default", tmp_path / "config")
    who = cluster.kubectl("auth", "whoami", "-o", "json", kubeconfig=config).stdout
    assert json.loads(who)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:default"
    with pytest.raises(DevClusterError, match=r"(?s)Forbidden.*cannot list resource \"pods\""):
        cluster.kubectl("get", "pods", kubeconfig=config)
    # The same question is answered once the right is there: what failed above was the right.
    view = ["--clusterrole=view", f"--serviceaccount={namespace}:default"]
    cluster.kubectl("-n", namespace, "create", "rolebinding", "may-view", *view)
    wait_for_rights(cluster, namespace, "default")
    assert "No resources found" in cluster.kubectl("get", "pods", kubeconfig=config).stderr


def test_a_wrong_token_is_refused(cluster: DevCluster, tmp_path: Path) -> None:
    config = cluster.create_kubeconfig_for_token("nonsense", tmp_path / "config")
    with pytest.raises(DevClusterError, match=r"Unauthorized|logged in"):
        cluster.kubectl("get", "namespaces", kubeconfig=config)


def test_the_servers_certificate_is_checked(cluster: DevCluster) -> None:
    port = urlsplit(cluster.server).port
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(connection, server_hostname="127.0.0.1")
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"


def test_etcd_wants_a_certificate_of_its_own_authority(cluster: DevCluster) -> None:
    (etcd,) = (component for component in cluster.state.components if component.name == "etcd")
    pki = cluster.ca_file.parent
    host, _, port = etcd.address.partition(":")

    def ask(shown: KeyPair | None) -> bytes:
        context = ssl.create_default_context(cafile=str(pki / "etcd-ca.crt"))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        with (
            socket.create_connection((host, int(port))) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            secured.sendall(b"GET /version HTTP/1.1\r\nHost: etcd\r\n\r\n")
            return secured.recv(12)

    right = KeyPair(certificate=pki / "etcd-client.crt", key=pki / "etcd-client.key")
    assert ask(right) == b"HTTP/1.1 200"
    for wrong in (None, cluster.admin):
        # In TLS 1.3 the refusal arrives with the first read: as an alert, or as a reset that overtakes it.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(wrong)


def test_an_api_error_has_its_status(cluster: DevCluster) -> None:
    with cluster.client() as client, pytest.raises(ApiError, match="not found") as caught:
        client.request("GET", "/api/v1/namespaces/absent")
    assert caught.value.status == 404


# Where it listens


def _listening(pid: int) -> set[str]:
    """Give the hexadecimal local addresses of a process's listening sockets, from the kernel's tables."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue  # closed meanwhile
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    addresses = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A" or (table.startswith("udp") and fields[2].endswith(":0000"))
            if fields[9] in inodes and listens:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def test_everything_listens_on_loopback_only(cluster: DevCluster) -> None:
    state = cluster.state
    found = {component.name: _listening(component.pid) for component in state.components}
    assert found["etcd"] == found["kube-apiserver"] == {"0100007F"}
    assert set().union(*found.values(), _listening(state.pid)) == {"0100007F"}


def test_files_are_for_their_owner_only(cluster: DevCluster) -> None:
    assert cluster.directory.stat().st_mode & 0o077 == 0
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0
    assert cluster.admin.key.stat().st_mode & 0o077 == 0
