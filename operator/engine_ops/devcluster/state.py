"""The directories of clusters: one for each, locked while it lives, swept when its owner was killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from engine_ops.devcluster.errors import DevClusterError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LOCK = "lock"
_STATE = "state.json"


@dataclass(kw_only=True)
class ComponentState:
    """One running component.

    Parameters
    ----------
    name : str
        The component.
    pid : int
        Its process.
    address : str
        Where it listens; empty if nowhere.
    log_file : str
        Its log.
    exit_code : int, optional
        Set once it has ended.
    """

    name: str
    pid: int
    address: str
    log_file: str
    exit_code: int | None = None


@dataclass(kw_only=True)
class ClusterState:
    """What a cluster's supervisor tells others about it.

    Parameters
    ----------
    name : str
        The cluster.
    pid : int
        The supervisor's process.
    ready : bool
        Whether every component came up.
    server : str
        The API server's address; empty until it is up.
    binaries : str
        The directory of the binaries.
    log_directory : str
        Where the logs are.
    components : list of ComponentState
        In the order of their start.
    """

    name: str
    pid: int
    binaries: str
    log_directory: str
    ready: bool = False
    server: str = ""
    components: list[ComponentState] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """Write it into the cluster's directory, whole."""
        descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=f".{_STATE}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=2)
        Path(temporary).replace(directory / _STATE)


def read_state(directory: Path) -> ClusterState | None:
    """Read a cluster's state.

    Parameters
    ----------
    directory : Path
        The cluster's directory.

    Returns
    -------
    ClusterState or None
        None if there is none yet.
    """
    try:
        document: dict[str, Any] = json.loads((directory / _STATE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    components = [ComponentState(**component) for component in document.pop("components")]
    return ClusterState(components=components, **document)


def clusters_root() -> Path:
    """Give the directory of all of this user's clusters, and make it."""
    root = platformdirs.user_state_path("engine-ops") / "devcluster"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def cluster_directory(name: str) -> Path:
    """Give a cluster's directory, which need not exist.

    Raises
    ------
    DevClusterError
        If the name is not a DNS label.
    """
    if not _NAME.fullmatch(name):
        raise DevClusterError(f"cluster name {name!r}: use lower-case letters, digits and '-', at most 63")
    return clusters_root() / name


@contextmanager
def _registry() -> Iterator[None]:
    """Hold the lock under which cluster directories come and go."""
    with FileLock(clusters_root() / ".registry.lock"):
        yield


def _try_lock(directory: Path) -> FileLock | None:
    lock = FileLock(directory / _LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError):
        return None
    return lock


def is_live(directory: Path) -> bool:
    """Tell whether a cluster's supervisor lives: it holds the lock for all of its life, however it ends."""
    with _registry():
        if not directory.is_dir():
            return False  # the lock would make it
        lock = _try_lock(directory)
        if lock is None:
            return directory.is_dir()
        lock.release()
        return False


def sweep() -> list[str]:
    """Remove the directories of clusters whose supervisor was killed.

    Returns
    -------
    list of str
        The names of those removed.
    """
    with _registry():
        return _sweep()


def _sweep() -> list[str]:
    removed = []
    for directory in sorted(clusters_root().iterdir()):
        if not directory.is_dir():
            continue
        lock = _try_lock(directory)
        if lock is not None:
            shutil.rmtree(directory, ignore_errors=True)
            lock.release()
            removed.append(directory.name)
    return removed


@contextmanager
def claim(name: str) -> Iterator[Path]:
    """Hold a new cluster directory, and remove it at the end. Directories of killed clusters go first.

    Parameters
    ----------
    name : str
        The cluster.

    Yields
    ------
    Path
        The empty directory.

    Raises
    ------
    DevClusterError
        If a cluster of this name lives.
    """
    directory = cluster_directory(name)
    with _registry():
        _sweep()
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise DevClusterError(f"cluster {name!r} is up already") from None
        lock = FileLock(directory / _LOCK)
        lock.acquire()
    try:
        yield directory
    finally:
        with _registry():
            shutil.rmtree(directory, ignore_errors=True)
            lock.release()
