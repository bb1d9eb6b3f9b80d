"""Where the control plane's binaries are: `KUBEBUILDER_ASSETS`, else the per-user cache, else built."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine_ops.devcluster.build import build_binaries, cached_binaries
from engine_ops.devcluster.errors import DevClusterError, MissingComponentError

ETCD = "etcd"
APISERVER = "kube-apiserver"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
KWOK = "kwok"
KUBECTL = "kubectl"

#: What a cluster can consist of, in the order of their start.
COMPONENTS = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK)
#: Without these there is no cluster.
REQUIRED = (ETCD, APISERVER)

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"


@dataclass(frozen=True)
class Binaries:
    """A directory of binaries, perhaps not all of them.

    Parameters
    ----------
    directory : Path
        Where they are, each under its component's name.
    """

    directory: Path

    def has(self, name: str) -> bool:
        """Tell whether the binary is there."""
        return os.access(self.directory / name, os.X_OK)

    def path(self, name: str) -> Path:
        """Give a binary's path.

        Parameters
        ----------
        name : str
            A component, or ``kubectl``.

        Returns
        -------
        Path
            The executable file.

        Raises
        ------
        MissingComponentError
            If it is not there.
        """
        if not self.has(name):
            raise MissingComponentError(
                f"{name} is not in {self.directory}: unset {ASSETS_VARIABLE} to use a complete set built by "
                f"`engine-ops devcluster build`, add the binary there, or start the cluster without it"
            )
        return self.directory / name

    def choose(self, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
        """Decide which components to start.

        Parameters
        ----------
        wanted : tuple of str, optional
            The caller's choice. Without it: everything that is there.

        Returns
        -------
        tuple of str
            Components in the order of their start; etcd and kube-apiserver are always among them.

        Raises
        ------
        MissingComponentError
            If a wanted or required one is not there.
        DevClusterError
            If a wanted one is not a component.
        """
        unknown = sorted(set(wanted or ()) - set(COMPONENTS))
        if unknown:
            raise DevClusterError(f"unknown component {', '.join(unknown)}: choose from {', '.join(COMPONENTS)}")
        chosen = tuple(
            name for name in COMPONENTS if name in REQUIRED or (self.has(name) if wanted is None else name in wanted)
        )
        for name in chosen:
            self.path(name)
        return chosen


def find_binaries(environ: Mapping[str, str] = os.environ) -> Binaries | None:
    """Find binaries that are there already.

    Parameters
    ----------
    environ : mapping
        The environment; `KUBEBUILDER_ASSETS` in it wins over the cache.

    Returns
    -------
    Binaries or None
        None where a build is needed.

    Raises
    ------
    DevClusterError
        If `KUBEBUILDER_ASSETS` names something that is not a directory.
    """
    assets = environ.get(ASSETS_VARIABLE)
    if assets:
        directory = Path(assets).expanduser().absolute()
        if not directory.is_dir():
            raise DevClusterError(f"{ASSETS_VARIABLE}={assets} is not a directory")
        return Binaries(directory)
    cached = cached_binaries()
    return None if cached is None else Binaries(cached)


def ensure_binaries(report: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> Binaries:
    """Find the binaries, or build them.

    Parameters
    ----------
    report : callable
        Takes a line for the user, now and then, while a build runs (some nine minutes on two cores).
    environ : mapping
        The environment.

    Returns
    -------
    Binaries
        The binaries.

    Raises
    ------
    BuildError
        If they are not there and cannot be built.
    """
    return find_binaries(environ) or Binaries(build_binaries(report))
