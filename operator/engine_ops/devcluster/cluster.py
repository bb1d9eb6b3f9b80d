"""A local control plane, as its users see it."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from engine_ops.devcluster import kubeconfig as kubeconfig_files
from engine_ops.devcluster.binaries import CONTROLLER_MANAGER, KUBECTL, Binaries, ensure_binaries
from engine_ops.devcluster.certificates import KeyPair
from engine_ops.devcluster.client import ApiClient
from engine_ops.devcluster.control_plane import ADMIN_KUBECONFIG, PKI_DIRECTORY
from engine_ops.devcluster.errors import DevClusterError, StartError
from engine_ops.devcluster.kubectl import run_kubectl
from engine_ops.devcluster.launch import launch, stop_cluster, wait_or_kill
from engine_ops.devcluster.nodes import create_nodes, wait_until_nodes_ready
from engine_ops.devcluster.service_accounts import service_account_token
from engine_ops.devcluster.state import ClusterState, cluster_directory, is_live, read_state
from engine_ops.devcluster.supervisor import Order

#: Generous: a laptop that is busy with other things starts it in half a minute.
START_SECONDS = 120.0
_POLL_SECONDS = 0.05


def _silent(line: str) -> None:
    del line


class DevCluster:
    """A running control plane. Made by `start` or `attach`; a context manager that stops it.

    Attributes
    ----------
    name : str
        Its name, unique among this user's clusters.
    directory : Path
        Its files; gone after its end.
    server : str
        The API server's address, such as ``https://127.0.0.1:34567``.
    """

    def __init__(self, directory: Path, supervisor: subprocess.Popen[bytes] | None = None) -> None:
        state = read_state(directory)
        if state is None:
            raise DevClusterError(f"no cluster in {directory}")
        self.name = state.name
        self.directory = directory
        self.server = state.server
        self._log_directory = Path(state.log_directory)
        self._binaries = Binaries(Path(state.binaries))
        self._supervisor = supervisor

    @classmethod
    def start(
        cls,
        *,
        components: tuple[str, ...] | None = None,
        log_dir: Path | None = None,
        name: str | None = None,
        binaries: Binaries | None = None,
        timeout_seconds: float = START_SECONDS,
        detached: bool = False,
        report: Callable[[str], None] = _silent,
    ) -> DevCluster:
        """Start a control plane and wait until it is ready.

        Parameters
        ----------
        components : tuple of str, optional
            Names from `engine_ops.devcluster.COMPONENTS`; etcd and kube-apiserver are always started. By default
            everything whose binary is there.
        log_dir : Path, optional
            Where the components' logs go; by default into the cluster's directory, to be removed with it.
        name : str, optional
            Its name; by default a random one.
        binaries : Binaries, optional
            By default from `KUBEBUILDER_ASSETS`, else the cache, else built.
        timeout_seconds : float
            How long the start may take, without a build.
        detached : bool
            Whether the cluster stays when this process ends. By default it ends with it, even on SIGKILL.
        report : callable
            Takes progress lines of a build.

        Returns
        -------
        DevCluster
            The cluster.

        Raises
        ------
        MissingComponentError
            If the binary of a wanted component is not there.
        BuildError
            If the binaries are not there and cannot be built.
        StartError
            If it does not come up; the message ends with the tail of the guilty component's log.
        DevClusterError
            If a cluster of this name is up.
        """
        found = binaries or ensure_binaries(report)
        order = Order(
            name=name or f"run-{os.getpid()}-{secrets.token_hex(4)}",
            binaries=str(found.directory),
            components=found.choose(components),
            deadline_seconds=timeout_seconds,
            log_directory=None if log_dir is None else str(log_dir.absolute()),
            parent_pid=None if detached else os.getpid(),
        )
        return cls(cluster_directory(order.name), launch(order))

    @classmethod
    def attach(cls, name: str, *, timeout_seconds: float = START_SECONDS) -> DevCluster | None:
        """Find a cluster that runs already, and wait until it is ready.

        Parameters
        ----------
        name : str
            Its name.
        timeout_seconds : float
            How long to wait for one that is just starting.

        Returns
        -------
        DevCluster or None
            None if there is none. Leaving it as a context manager stops it.

        Raises
        ------
        StartError
            If it does not become ready in time.
        """
        directory = cluster_directory(name)
        deadline = time.monotonic() + timeout_seconds
        while is_live(directory):
            state = read_state(directory)
            if state is not None and state.ready:
                return cls(directory)
            if time.monotonic() > deadline:
                raise StartError(f"cluster {name!r} has not become ready within {timeout_seconds:.0f} s")
            time.sleep(_POLL_SECONDS)
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / ADMIN_KUBECONFIG

    @property
    def ca_file(self) -> Path:
        """The authority that the API server's certificate is checked against."""
        return self.directory / PKI_DIRECTORY / "ca.crt"

    @property
    def admin(self) -> KeyPair:
        """The administrator's client certificate and key."""
        pki = self.directory / PKI_DIRECTORY
        return KeyPair(certificate=pki / "admin.crt", key=pki / "admin.key")

    @property
    def binaries(self) -> Binaries:
        """The binaries that it runs."""
        return self._binaries

    @property
    def log_dir(self) -> Path:
        """Where its logs are."""
        return self._log_directory

    @property
    def state(self) -> ClusterState:
        """Its processes and addresses, as they are now.

        Raises
        ------
        DevClusterError
            If it has ended.
        """
        state = read_state(self.directory)
        if state is None:
            raise DevClusterError(f"cluster {self.name!r} has ended")
        return state

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Give an environment in which kubectl and every client reach this cluster.

        Parameters
        ----------
        environ : mapping
            What it is based on.

        Returns
        -------
        dict
            With KUBECONFIG set and the cluster's kubectl first on PATH. kubectl's discovery cache goes into the
            cluster's directory instead of the user's home.
        """
        return {
            **environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.directory / "kubectl-cache"),
            "PATH": os.pathsep.join([str(self.directory / "bin"), environ.get("PATH", os.defpath)]),
        }

    def kubectl(
        self,
        *arguments: str,
        stdin: str | None = None,
        check: bool = True,
        kubeconfig: Path | None = None,
        timeout_seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this cluster.

        Parameters
        ----------
        *arguments : str
            Its arguments, such as ``"get", "nodes"``.
        stdin : str, optional
            What it reads, such as manifests for ``apply -f -``.
        check : bool
            Whether to raise on failure.
        kubeconfig : Path, optional
            By default the administrator's.
        timeout_seconds : float
            When to give up.

        Returns
        -------
        subprocess.CompletedProcess
            With its output as text.

        Raises
        ------
        DevClusterError
            If it fails and `check` is set; with what it said.
        subprocess.TimeoutExpired
            If it takes too long.
        """
        environment = self.environment()
        environment["KUBECONFIG"] = str(kubeconfig or self.kubeconfig)
        return run_kubectl(
            self._binaries.path(KUBECTL),
            arguments,
            environment=environment,
            stdin=stdin,
            check=check,
            timeout_seconds=timeout_seconds,
        )

    def create_kubeconfig_for_token(self, token: str, path: Path, *, namespace: str | None = None) -> Path:
        """Write a kubeconfig for a bearer token.

        Parameters
        ----------
        token : str
            The token.
        path : Path
            The file to write.
        namespace : str, optional
            The default namespace in it.

        Returns
        -------
        Path
            `path`.
        """
        return kubeconfig_files.write_for_token(
            path, server=self.server, ca_file=self.ca_file, name="token", token=token, namespace=namespace
        )

    def service_account_kubeconfig(
        self, namespace: str, name: str, path: Path | None = None, *, duration_seconds: int = 3600
    ) -> Path:
        """Write a kubeconfig with a fresh token of a ServiceAccount, from the TokenRequest API.

        Parameters
        ----------
        namespace, name : str
            The ServiceAccount, which must exist.
        path : Path, optional
            The file to write; by default one in the cluster's directory.
        duration_seconds : int
            How long the token is valid; the API server takes 600 and more.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        DevClusterError
            If the API server refuses.
        """
        path = path or self.directory / f"{namespace}.{name}.kubeconfig"
        with self.client() as client:
            token = service_account_token(client, namespace, name, duration_seconds=duration_seconds)
        return self.create_kubeconfig_for_token(token, path, namespace=namespace)

    def client(self) -> ApiClient:
        """Open a connection to the API server as administrator. Close it, or use it as a context manager."""
        return ApiClient(server=self.server, ca_file=self.ca_file, key_pair=self.admin)

    def add_nodes(
        self,
        count: int,
        *,
        cpu: str = "8",
        memory: str = "32Gi",
        pods: int = 110,
        labels: Mapping[str, str] | None = None,
        resources: Mapping[str, str] | None = None,
        prefix: str = "node",
        timeout_seconds: float = 60.0,
    ) -> list[str]:
        """Add simulated nodes and wait until they are Ready, and take pods.

        Parameters
        ----------
        count : int
            How many.
        cpu, memory : str
            Kubernetes quantities, for capacity and allocatable alike.
        pods : int
            How many pods each takes.
        labels : mapping, optional
            Labels of each.
        resources : mapping, optional
            Further resources of each, such as ``{"nvidia.com/gpu": "8"}``.
        prefix : str
            They are called ``<prefix>-0``, ``<prefix>-1`` and so on.
        timeout_seconds : float
            How long to wait.

        Returns
        -------
        list of str
            Their names.

        Raises
        ------
        DevClusterError
            If one of them exists, or they do not become Ready in time.
        """
        names = [f"{prefix}-{index}" for index in range(count)]
        taints_go = any(component.name == CONTROLLER_MANAGER for component in self.state.components)
        with self.client() as client:
            create_nodes(
                client, names, cpu=cpu, memory=memory, pods=pods, labels=labels or {}, resources=resources or {}
            )
            wait_until_nodes_ready(client, names, timeout_seconds=timeout_seconds, taints_go=taints_go)
        return names

    def wait(self) -> None:
        """Wait until the cluster ends, for a cluster that this object started."""
        if self._supervisor is not None:
            self._supervisor.wait()

    def stop(self) -> None:
        """End every process of the cluster and remove its directory. Does nothing if it has ended."""
        if self._supervisor is None:
            stop_cluster(self.name)
            return
        if self._supervisor.poll() is None:
            self._supervisor.terminate()
        wait_or_kill(self._supervisor)
