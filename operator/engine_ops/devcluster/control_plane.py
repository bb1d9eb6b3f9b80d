"""Starts the components in order and watches them. Runs inside the supervisor, in its only thread."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from engine_ops.devcluster import components as command_lines
from engine_ops.devcluster import kubeconfig
from engine_ops.devcluster.binaries import APISERVER, CONTROLLER_MANAGER, ETCD, KUBECTL, KWOK, SCHEDULER, Binaries
from engine_ops.devcluster.certificates import KeyPair
from engine_ops.devcluster.client import ApiClient, ApiError
from engine_ops.devcluster.errors import PortTakenError, StartError
from engine_ops.devcluster.ports import LOOPBACK, free_ports
from engine_ops.devcluster.processes import end, spawn, tail
from engine_ops.devcluster.stages import write_stages
from engine_ops.devcluster.state import ClusterState, ComponentState

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 5.0
#: A start that should be given up is not seen before a request ends. Shorter than what is left of a stop after it.
_PATIENCE_SECONDS = 10.0
_PORT_TAKEN = "address already in use"

ADMIN_KUBECONFIG = "admin.kubeconfig"
PKI_DIRECTORY = "pki"


class ControlPlane:
    """One control plane: started once, stopped once.

    Parameters
    ----------
    directory : Path
        The cluster's own, empty directory.
    state : ClusterState
        Kept up to date, in memory and in the directory.
    binaries : Binaries
        The binaries.
    chosen : tuple of str
        The components to start.
    deadline_seconds : float
        How long the whole start may take.
    checkpoint : callable
        Called often during the start; raises if the start should be given up.
    """

    def __init__(
        self,
        directory: Path,
        state: ClusterState,
        *,
        binaries: Binaries,
        chosen: tuple[str, ...],
        deadline_seconds: float,
        checkpoint: Callable[[], None],
    ) -> None:
        self._directory = directory
        self._state = state
        self._binaries = binaries
        self._chosen = chosen
        self._deadline_seconds = deadline_seconds
        self._checkpoint = checkpoint
        self._deadline = 0.0
        self._log_directory = Path(state.log_directory)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every component and wait until the cluster can be used.

        Raises
        ------
        StartError
            If a component ends, or the deadline passes; the message ends with the tail of the log.
        """
        self._deadline = time.monotonic() + self._deadline_seconds
        self._credentials = command_lines.make_credentials(self._directory / PKI_DIRECTORY)
        etcd_url = self._twice(self._start_etcd)
        self._state.server = self._twice(lambda: self._start_apiserver(etcd_url))
        admin = self._kubeconfig(ADMIN_KUBECONFIG, "admin", self._credentials.admin)
        del admin
        self._link_kubectl()
        with ApiClient(
            server=self._state.server, ca_file=self._credentials.ca.certificate, key_pair=self._credentials.admin
        ) as client:
            if CONTROLLER_MANAGER in self._chosen:
                path = self._kubeconfig("controller-manager.kubeconfig", "kcm", self._credentials.controller_manager)
                arguments = command_lines.controller_manager_arguments(self._credentials, kubeconfig=path)
                self._spawn(CONTROLLER_MANAGER, arguments)
            if SCHEDULER in self._chosen:
                path = self._kubeconfig("scheduler.kubeconfig", "scheduler", self._credentials.scheduler)
                self._spawn(SCHEDULER, command_lines.scheduler_arguments(kubeconfig=path))
            if KWOK in self._chosen:
                for collection, body in command_lines.kwok_rbac():
                    client.request("POST", collection, body)
                path = self._kubeconfig("kwok.kubeconfig", "kwok", self._credentials.kwok)
                stages = write_stages(self._directory / "stages.yaml")
                self._spawn(KWOK, command_lines.kwok_arguments(kubeconfig=path, stages=stages))
        self._await_first_objects()
        for name in self._chosen:
            self._check_alive(name)
        self._state.ready = True
        self._state.write(self._directory)

    def note_exits(self) -> None:
        """Record components that have ended on their own."""
        changed = False
        for component in self._state.components:
            exit_code = self.processes[component.name].poll()
            if exit_code is not None and component.exit_code is None:
                component.exit_code = exit_code
                changed = True
        if changed:
            self._state.write(self._directory)

    def stop(self) -> None:
        """End every component, the last one started first, so that none of them complains about another's end."""
        clients = [name for name in self.processes if name not in (ETCD, APISERVER)]
        for name in clients:
            if self.processes[name].poll() is None:
                self.processes[name].terminate()
        for name in (*clients, APISERVER, ETCD):
            if name in self.processes:
                end(self.processes[name], _GRACE_SECONDS)

    def _twice(self, start: Callable[[], str]) -> str:
        try:
            return start()
        except PortTakenError:
            return start()

    def _start_etcd(self) -> str:
        client_port, peer_port = free_ports(2)
        url = f"https://{LOOPBACK}:{client_port}"
        data_directory = self._directory / f"etcd-{client_port}"
        arguments = command_lines.etcd_arguments(
            self._credentials, data_directory=data_directory, client_port=client_port, peer_port=peer_port
        )
        self._spawn(ETCD, arguments, address=f"{LOOPBACK}:{client_port}")
        with self._client(url, self._credentials.etcd_ca, self._credentials.etcd_client) as client:
            self._await(ETCD, "answered /health", lambda: bool(client.request("GET", "/health")))
        return url

    def _start_apiserver(self, etcd_url: str) -> str:
        (port,) = free_ports(1)
        url = f"https://{LOOPBACK}:{port}"
        arguments = command_lines.apiserver_arguments(
            self._credentials,
            directory=self._directory,
            etcd_url=etcd_url,
            port=port,
            has_controllers=CONTROLLER_MANAGER in self._chosen,
        )
        self._spawn(APISERVER, arguments, address=f"{LOOPBACK}:{port}")
        with self._client(url, self._credentials.ca.certificate, self._credentials.admin) as client:
            self._await(APISERVER, "answered /readyz", lambda: bool(client.request("GET", "/readyz")))
        return url

    def _await_first_objects(self) -> None:
        """Wait for what everybody takes for given: the API server and the controllers make it once they are up."""
        namespace = "/api/v1/namespaces/default"
        account = f"{namespace}/serviceaccounts/default"
        with self._client(self._state.server, self._credentials.ca.certificate, self._credentials.admin) as client:
            self._await(APISERVER, "made the default namespace", lambda: bool(client.request("GET", namespace)))
            if CONTROLLER_MANAGER in self._chosen:
                self._await(
                    CONTROLLER_MANAGER, "made the default ServiceAccount", lambda: bool(client.request("GET", account))
                )

    def _client(self, server: str, ca_file: Path, key_pair: KeyPair) -> ApiClient:
        return ApiClient(server=server, ca_file=ca_file, key_pair=key_pair, timeout_seconds=_PATIENCE_SECONDS)

    def _kubeconfig(self, file_name: str, user: str, key_pair: KeyPair) -> Path:
        return kubeconfig.write_for_certificate(
            self._directory / file_name,
            server=self._state.server,
            ca_file=self._credentials.ca.certificate,
            name=user,
            key_pair=key_pair,
        )

    def _link_kubectl(self) -> None:
        """Put kubectl alone into a directory for PATH: the other binaries would only be in the way there."""
        directory = self._directory / "bin"
        directory.mkdir()
        if self._binaries.has(KUBECTL):
            (directory / KUBECTL).symlink_to(self._binaries.path(KUBECTL))

    def _spawn(self, name: str, arguments: list[str], *, address: str = "") -> None:
        log_file = self._log_directory / f"{name}.log"
        process = spawn(
            [str(self._binaries.path(name)), *arguments],
            log_file=log_file,
            working_directory=self._directory,
            # A home of its own: no component reads or writes anything in the user's.
            environment={"PATH": os.defpath, "HOME": str(self._directory), "TMPDIR": str(self._directory)},
        )
        self.processes[name] = process
        others = [component for component in self._state.components if component.name != name]
        entry = ComponentState(name=name, pid=process.pid, address=address, log_file=str(log_file))
        self._state.components = [*others, entry]
        self._state.write(self._directory)

    def _check_alive(self, name: str) -> None:
        exit_code = self.processes[name].poll()
        if exit_code is None:
            return
        said = tail(self._log_directory / f"{name}.log")
        kind = PortTakenError if _PORT_TAKEN in said else StartError
        raise kind(f"{name} ended with exit code {exit_code} at its start; its log ends with:\n{said}")

    def _await(self, name: str, what: str, check: Callable[[], bool]) -> None:
        last = "it did not answer"
        while True:
            self._checkpoint()
            for started in self.processes:
                self._check_alive(started)
            try:
                if check():
                    return
            except (OSError, ApiError) as error:
                last = str(error)
            if time.monotonic() > self._deadline:
                said = tail(self._log_directory / f"{name}.log")
                raise StartError(
                    f"{name} has not {what} within {self._deadline_seconds:.0f} s ({last}); its log ends with:\n{said}"
                )
            time.sleep(_POLL_SECONDS)
