"""The command lines of the control plane's components."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine_ops.devcluster.certificates import CertificateAuthority, KeyPair, write_signing_key
from engine_ops.devcluster.ports import LOOPBACK

SERVICE_CIDR = "10.0.0.0/24"
SERVICE_ADDRESS = "10.0.0.1"
KWOK_USER = "engine-ops:kwok"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Every certificate and key of one control plane.

    etcd and the aggregation layer have authorities of their own: a client certificate of the cluster opens neither
    etcd nor an extension API server.
    """

    ca: KeyPair
    etcd_ca: Path
    etcd: KeyPair
    etcd_client: KeyPair
    apiserver: KeyPair
    front_proxy_ca: Path
    front_proxy: KeyPair
    token_key: Path
    token_public_key: Path
    admin: KeyPair
    controller_manager: KeyPair
    scheduler: KeyPair
    kwok: KeyPair


def make_credentials(directory: Path) -> Credentials:
    """Make all certificates and keys.

    Parameters
    ----------
    directory : Path
        Where the files go; nobody but the owner should be able to read it.

    Returns
    -------
    Credentials
        The files.
    """
    directory.mkdir(mode=0o700, parents=True)
    ca = CertificateAuthority(directory, "ca")
    etcd_ca = CertificateAuthority(directory, "etcd-ca")
    front_proxy_ca = CertificateAuthority(directory, "front-proxy-ca")
    token_key, token_public_key = write_signing_key(directory, "service-account")
    ca.write_key()
    service_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    apiserver_hosts = ["localhost", LOOPBACK, SERVICE_ADDRESS, *service_names, f"{service_names[-1]}.cluster.local"]
    return Credentials(
        ca=ca.key_pair,
        etcd_ca=etcd_ca.key_pair.certificate,
        etcd=etcd_ca.server("etcd", ["localhost", LOOPBACK], also_client=True),
        etcd_client=etcd_ca.client("etcd-client", "kube-apiserver"),
        apiserver=ca.server("kube-apiserver", apiserver_hosts),
        front_proxy_ca=front_proxy_ca.key_pair.certificate,
        front_proxy=front_proxy_ca.client("front-proxy", "front-proxy-client"),
        token_key=token_key,
        token_public_key=token_public_key,
        admin=ca.client("admin", "devcluster-admin", ["system:masters"]),
        controller_manager=ca.client("kube-controller-manager", "system:kube-controller-manager"),
        scheduler=ca.client("kube-scheduler", "system:kube-scheduler"),
        kwok=ca.client("kwok", KWOK_USER),
    )


def etcd_arguments(credentials: Credentials, *, data_directory: Path, client_port: int, peer_port: int) -> list[str]:
    """Give etcd's arguments. Clients and peers must show a certificate: other users of the machine cannot read it."""
    client_url, peer_url = f"https://{LOOPBACK}:{client_port}", f"https://{LOOPBACK}:{peer_port}"
    pair = credentials.etcd
    return [
        "--name=devcluster",
        f"--data-dir={data_directory}",
        f"--listen-client-urls={client_url}",
        f"--advertise-client-urls={client_url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=devcluster={peer_url}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={credentials.etcd_ca}",
        "--client-cert-auth",
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={credentials.etcd_ca}",
        "--peer-client-cert-auth",
        # The data does not outlive the cluster: what a power cut would lose is not worth waiting for the disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_arguments(
    credentials: Credentials, *, directory: Path, etcd_url: str, port: int, has_controllers: bool
) -> list[str]:
    """Give kube-apiserver's arguments, with RBAC, Node authorization and the aggregation layer."""
    arguments = [
        f"--etcd-servers={etcd_url}",
        f"--etcd-cafile={credentials.etcd_ca}",
        f"--etcd-certfile={credentials.etcd_client.certificate}",
        f"--etcd-keyfile={credentials.etcd_client.key}",
        f"--bind-address={LOOPBACK}",
        f"--secure-port={port}",
        f"--cert-dir={directory}",
        f"--tls-cert-file={credentials.apiserver.certificate}",
        f"--tls-private-key-file={credentials.apiserver.key}",
        f"--client-ca-file={credentials.ca.certificate}",
        "--authorization-mode=Node,RBAC",
        # As kubeadm has it; and the only tokens for users that are no ServiceAccounts without a server of their own.
        "--enable-bootstrap-token-auth",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={credentials.token_public_key}",
        f"--service-account-signing-key-file={credentials.token_key}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--requestheader-client-ca-file={credentials.front_proxy_ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={credentials.front_proxy.certificate}",
        f"--proxy-client-key-file={credentials.front_proxy.key}",
        # Its own endpoint would have to be a loopback address, which Endpoints refuse; the address announced is one
        # reserved for documentation, so that a machine without a network can start it.
        "--endpoint-reconciler-type=none",
        "--advertise-address=192.0.2.1",
    ]
    if not has_controllers:
        # Nobody would make the default ServiceAccounts that this plugin demands of every pod.
        arguments.append("--disable-admission-plugins=ServiceAccount")
    return arguments


def controller_manager_arguments(credentials: Credentials, *, kubeconfig: Path) -> list[str]:
    """Give kube-controller-manager's arguments."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={credentials.token_key}",
        f"--root-ca-file={credentials.ca.certificate}",
        f"--cluster-signing-cert-file={credentials.ca.certificate}",
        f"--cluster-signing-key-file={credentials.ca.key}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def scheduler_arguments(*, kubeconfig: Path) -> list[str]:
    """Give kube-scheduler's arguments."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def kwok_arguments(*, kubeconfig: Path, stages: Path) -> list[str]:
    """Give kwok's arguments. Without a server address it listens nowhere."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--config={stages}",
        "--manage-all-nodes",
        "--node-ip=192.0.2.1",
        "--node-lease-duration-seconds=40",
    ]


def kwok_rbac() -> list[tuple[str, dict[str, object]]]:
    """Give the rights of kwok's user, as pairs of a collection's path and the object to create there."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": KWOK_USER}
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete", "patch", "update"]},
        {"apiGroups": [""], "resources": ["nodes/status", "pods/status"], "verbs": ["patch", "update"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch", "update"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": ["get", "list", "watch", "create", "patch", "update"],
        },
    ]
    path = f"/apis/{group}/v1"
    return [
        (
            f"{path}/clusterroles",
            {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        ),
        (
            f"{path}/clusterrolebindings",
            {
                "apiVersion": f"{group}/v1",
                "kind": "ClusterRoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": KWOK_USER},
                "subjects": [{"apiGroup": group, "kind": "User", "name": KWOK_USER}],
            },
        ),
    ]
