"""The small parts of the local control plane: ports, certificates, kubeconfigs, binaries, directories, processes."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from engine_ops.devcluster import DevClusterError, MissingComponentError, find_binaries, kubeconfig, state
from engine_ops.devcluster.binaries import COMPONENTS, Binaries
from engine_ops.devcluster.certificates import CertificateAuthority
from engine_ops.devcluster.ports import LOOPBACK, free_ports
from engine_ops.devcluster.processes import tail
from engine_ops.devcluster.stages import write_stages


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Ports


def _can_be_bound(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def test_ports_differ_and_can_be_bound() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    # Nothing reserves them: connections of other processes may have taken one by now, though hardly a second.
    assert sum(map(_can_be_bound, ports)) > 15


def test_a_port_in_use_is_not_chosen() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        assert listener.getsockname()[1] not in free_ports(200)


# Certificates


def test_a_client_certificate_carries_user_and_groups(tmp_path: Path) -> None:
    pair = CertificateAuthority(tmp_path, "ca").client("admin", "devcluster-admin", ["system:masters", "more"])
    subject = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).subject
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["devcluster-admin"]
    assert [a.value for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)] == ["system:masters", "more"]


def test_keys_are_for_their_owner_only_and_the_authoritys_stays_in_memory(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, "ca")
    pair = authority.client("someone", "someone")
    assert _mode(pair.key) == 0o600
    assert not authority.key_pair.key.exists()
    assert _mode(authority.write_key()) == 0o600


def _handshake(tmp_path: Path, host: str) -> None:
    """Shake hands over a socket pair, with a server certificate for localhost, under Python's strictest rules."""
    authority = CertificateAuthority(tmp_path, "ca")
    served = authority.server("server", ["localhost", LOOPBACK])
    shown = authority.client("client", "someone")
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(served.certificate, served.key)
    server_context.load_verify_locations(authority.key_pair.certificate)
    server_context.verify_mode = ssl.CERT_REQUIRED
    client_context = ssl.create_default_context(cafile=str(authority.key_pair.certificate))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    client_context.load_cert_chain(shown.certificate, shown.key)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with server_context.wrap_socket(theirs, server_side=True) as connection:
                connection.sendall(b"hello")
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(ours, server_hostname=host) as connection:
            assert connection.recv(5) == b"hello"
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", LOOPBACK])
def test_certificates_pass_strict_verification(tmp_path: Path, host: str) -> None:
    _handshake(tmp_path, host)


def test_a_server_certificate_is_not_valid_for_other_hosts(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(tmp_path, "example.com")


# Kubeconfigs


def test_a_kubeconfig_for_a_certificate_embeds_everything(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path, "ca")
    pair = authority.client("admin", "admin")
    ca_file = authority.key_pair.certificate
    path = kubeconfig.write_for_certificate(
        tmp_path / "config", server="https://127.0.0.1:1", ca_file=ca_file, name="admin", key_pair=pair
    )
    assert _mode(path) == 0o600
    document = yaml.safe_load(path.read_text())
    (cluster,) = document["clusters"]
    (user,) = document["users"]
    (context,) = document["contexts"]
    assert cluster["cluster"]["server"] == "https://127.0.0.1:1"
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]) == ca_file.read_bytes()
    assert base64.b64decode(user["user"]["client-certificate-data"]) == pair.certificate.read_bytes()
    assert base64.b64decode(user["user"]["client-key-data"]) == pair.key.read_bytes()
    assert context["name"] == document["current-context"]
    assert (context["context"]["cluster"], context["context"]["user"]) == (cluster["name"], user["name"])


def test_a_kubeconfig_for_a_token_names_its_namespace_and_replaces_the_old_one(tmp_path: Path) -> None:
    ca_file = CertificateAuthority(tmp_path, "ca").key_pair.certificate
    path = tmp_path / "config"
    for token in ("old", "new"):
        kubeconfig.write_for_token(
            path, server="https://127.0.0.1:1", ca_file=ca_file, name="t", token=token, namespace="space"
        )
    document = yaml.safe_load(path.read_text())
    assert document["users"][0]["user"] == {"token": "new"}
    assert document["contexts"][0]["context"]["namespace"] == "space"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ca.crt", "config"]


# Binaries


def _install(directory: Path, *names: str) -> Binaries:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch(0o755)
    return Binaries(directory)


def test_what_is_there_is_started(tmp_path: Path) -> None:
    assert _install(tmp_path, "etcd", "kube-apiserver", "kubectl").choose(None) == ("etcd", "kube-apiserver")
    assert _install(tmp_path, *COMPONENTS).choose(None) == COMPONENTS


def test_etcd_and_the_api_server_are_always_started(tmp_path: Path) -> None:
    assert _install(tmp_path, *COMPONENTS).choose(("kwok",)) == ("etcd", "kube-apiserver", "kwok")


def test_a_missing_component_is_named_with_the_remedy(tmp_path: Path) -> None:
    binaries = _install(tmp_path, "etcd", "kube-apiserver", "kubectl")
    with pytest.raises(MissingComponentError, match=r"kube-scheduler is not in .*devcluster build"):
        binaries.choose(("kube-scheduler",))


def test_an_unknown_component_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match="unknown component kubelet"):
        _install(tmp_path, *COMPONENTS).choose(("kubelet",))


def test_kubebuilder_assets_wins_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert find_binaries({}) is None
    assert find_binaries({"KUBEBUILDER_ASSETS": str(tmp_path)}) == Binaries(tmp_path)
    with pytest.raises(DevClusterError, match="is not a directory"):
        find_binaries({"KUBEBUILDER_ASSETS": str(tmp_path / "absent")})


# Stages


def test_the_stages_are_one_file_of_stage_objects(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(write_stages(tmp_path / "stages.yaml").read_text()))
    assert {document["kind"] for document in documents} == {"Stage"}
    names = [document["metadata"]["name"] for document in documents]
    assert {"node-initialize", "node-heartbeat", "pod-ready", "pod-complete", "pod-delete"} <= set(names)
    assert len(set(names)) == len(names)


# Directories


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "engine-ops" / "devcluster"


@pytest.mark.parametrize("name", ["", "UP", "a_b", "-a", "a-", "../a", "a/b", "a" * 64])
def test_a_cluster_name_is_a_dns_label(home: Path, name: str) -> None:
    with pytest.raises(DevClusterError, match="cluster name"):
        state.cluster_directory(name)


def test_a_claimed_directory_is_private_live_and_gone_afterwards(home: Path) -> None:
    with state.claim("one") as directory:
        assert _mode(directory) == 0o700
        assert directory == state.cluster_directory("one")
        assert state.is_live(directory)
        assert state.sweep() == []
        with pytest.raises(DevClusterError, match="is up already"), state.claim("one"):
            pass
        assert state.is_live(directory)
    assert not directory.exists()
    assert not state.is_live(directory)


def test_looking_at_a_cluster_that_ends_meanwhile_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = state._registry
    directory = state.cluster_directory("ending")
    directory.mkdir()

    @contextlib.contextmanager
    def last() -> Iterator[None]:
        with registry():
            directory.rmdir()
        with registry():
            yield

    monkeypatch.setattr(state, "_registry", last)
    assert not state.is_live(directory)
    assert not directory.exists()


def test_the_directory_of_a_killed_owner_is_swept_by_the_next_claim(home: Path) -> None:
    script = "import os, signal\nfrom engine_ops.devcluster.state import claim\n"
    script += "with claim('killed'):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    environment = {**os.environ, "XDG_STATE_HOME": str(home.parents[1])}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = state.cluster_directory("killed")
    assert left.is_dir()
    assert not state.is_live(left)
    with state.claim("next"):
        assert not left.exists()


def test_a_state_survives_its_file(tmp_path: Path) -> None:
    component = state.ComponentState(name="etcd", pid=2, address="127.0.0.1:3", log_file="log", exit_code=4)
    written = state.ClusterState(name="a", pid=1, binaries="b", log_directory="l", ready=True, components=[component])
    assert state.read_state(tmp_path) is None
    written.write(tmp_path)
    assert state.read_state(tmp_path) == written


# Logs


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"x" * 100_000 + b"\n" + b"\n".join(b"line %d \xff" % n for n in range(100)))
    lines = tail(log, 3).splitlines()
    assert [line.split()[1] for line in lines] == ["97", "98", "99"]
