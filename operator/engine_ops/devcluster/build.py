"""Builds the binaries from Go modules into the per-user cache: once, whole, or not at all.

Everything happens below one temporary directory inside the cache, under a lock, and ends with a rename. What a killed
build leaves behind, the next one removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from engine_ops.devcluster.errors import BuildError
from engine_ops.devcluster.processes import spawn, tail
from engine_ops.devcluster.toolchain import find_go

KUBERNETES_VERSION = "v1.36.3"
_MAJOR, _MINOR = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
# Without the version the API server calls itself v0.0.0, and clients misjudge its features.
LDFLAGS = (
    "-s -w"
    f" -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
    f" -X k8s.io/component-base/version.gitMajor={_MAJOR}"
    f" -X k8s.io/component-base/version.gitMinor={_MINOR}"
)
#: Measured: module cache 0.8 GB, build cache 2.9 GB, binaries 0.4 GB, a Go distribution 0.3 GB.
NEEDED_BYTES = 5_000_000_000
_HEARTBEAT_SECONDS = 15.0
_TEMPORARY_PREFIX = ".build-"

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One binary to build.

    Parameters
    ----------
    name : str
        What it is called in the cache.
    package : str
        The Go package of its command.
    installed_as : str
        What `go install` calls it.
    version_arguments : tuple of str
        A call that ends at once, to see that the binary runs.
    """

    name: str
    package: str
    installed_as: str
    version_arguments: tuple[str, ...] = ("--version",)


TOOLS = (
    Tool(name="etcd", package="go.etcd.io/etcd/server/v3", installed_as="server"),
    *(
        Tool(name=name, package=f"k8s.io/kubernetes/cmd/{name}", installed_as=name)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ),
    Tool(
        name="kubectl",
        package="k8s.io/kubernetes/cmd/kubectl",
        installed_as="kubectl",
        version_arguments=("version", "--client"),
    ),
    Tool(name="kwok", package="sigs.k8s.io/kwok/cmd/kwok", installed_as="kwok"),
)


def cache_root() -> Path:
    """Give the directory of all builds of this user; it need not exist."""
    return platformdirs.user_cache_path("engine-ops") / "devcluster"


def cache_key() -> str:
    """Name a build after everything that it depends on: modules, their hashes, flags, platform."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update(_module_file(name))
    digest.update(LDFLAGS.encode())
    digest.update(f"{sys.platform}/{platform.machine()}".encode())
    return digest.hexdigest()[:16]


def cached_binaries() -> Path | None:
    """Find binaries that were built before.

    Returns
    -------
    Path or None
        Their directory. It appears by a rename: if it is there, it is complete.
    """
    directory = cache_root() / cache_key()
    return directory if directory.is_dir() else None


def build_binaries(report: Report) -> Path:
    """Build all binaries, unless they are there. Several calls at once build once.

    Parameters
    ----------
    report : callable
        Takes progress lines: one for each binary, and a heartbeat.

    Returns
    -------
    Path
        The directory of the binaries in the cache.

    Raises
    ------
    BuildError
        If there is no Go and none can be had, the disk is too full, or a package does not build.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    with _exclusive(root, report):
        ready = cached_binaries()
        if ready is not None:
            return ready
        _remove_leftovers(root)
        free_bytes = shutil.disk_usage(root).free
        if free_bytes < NEEDED_BYTES:
            raise BuildError(
                f"building the control plane takes {NEEDED_BYTES / 1e9:.0f} GB below {root} for a while, and "
                f"{free_bytes / 1e9:.1f} GB are free"
            )
        report(f"building the control plane (Kubernetes {KUBERNETES_VERSION}) once, into {root / cache_key()}")
        work = Path(tempfile.mkdtemp(dir=root, prefix=_TEMPORARY_PREFIX))
        try:
            finished = _build(work, report)
            finished.rename(root / cache_key())
        finally:
            _remove_tree(work)
    return root / cache_key()


def _build(work: Path, report: Report) -> Path:
    started = time.monotonic()

    def say(line: str) -> None:
        report(f"[{time.monotonic() - started:4.0f} s] {line}")

    go = find_go(work / "go", say)
    source, installed, finished = work / "source", work / "installed", work / "finished"
    for directory in (source, installed, finished):
        directory.mkdir()
    for name in ("go.mod", "go.sum"):
        (source / name).write_bytes(_module_file(name))
    environment = _environment(work)
    for number, tool in enumerate(TOOLS, 1):
        say(f"{tool.name} ({number} of {len(TOOLS)})")
        arguments = [str(go), "install", "-trimpath", f"-ldflags={LDFLAGS}", tool.package]
        _run(arguments, work=work, source=source, environment=environment, heartbeat=lambda: say("  still at it"))
        binary = finished / tool.name
        try:
            (installed / tool.installed_as).rename(binary)
            subprocess.run([binary, *tool.version_arguments], capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            raise BuildError(f"{tool.name} was built and does not run: {error}") from error
    size_bytes = sum(file.stat().st_size for file in finished.iterdir())
    say(f"done: {len(TOOLS)} binaries, {size_bytes / 1e6:.0f} MB; removing the build's caches")
    return finished


def _environment(work: Path) -> dict[str, str]:
    """Keep the user's proxy settings, and nothing that would change the result or write outside of `work`."""
    changed = {
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GO111MODULE": "on",
        "CGO_ENABLED": "0",
        "GOBIN": str(work / "installed"),
        "GOPATH": str(work / "gopath"),
        "GOMODCACHE": str(work / "modules"),
        "GOCACHE": str(work / "cache"),
        "GOTMPDIR": str(work),
    }
    kept = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH", "GOROOT")}
    return {**kept, **changed}


def _run(
    arguments: list[str], *, work: Path, source: Path, environment: dict[str, str], heartbeat: Callable[[], None]
) -> None:
    log_file = work / "go.log"
    process = spawn(arguments, log_file=log_file, working_directory=source, environment=environment, own_session=True)
    try:
        while True:
            try:
                exit_code = process.wait(_HEARTBEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                heartbeat()
    except BaseException:
        # The whole session: the compilers that `go` started must not write on while the directory is removed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if exit_code != 0:
        raise BuildError(f"{' '.join(arguments[:2])} {arguments[-1]}: exit code {exit_code}:\n{tail(log_file, 30)}")


@contextmanager
def _exclusive(root: Path, report: Report) -> Iterator[None]:
    lock = FileLock(root / ".lock")
    waited = False
    while True:
        try:
            lock.acquire(timeout=_HEARTBEAT_SECONDS if waited else 0)
            break
        except Timeout:
            report("still waiting for the other build" if waited else "another build is under way: waiting for it")
            waited = True
    try:
        yield
    finally:
        lock.release()


def _remove_leftovers(root: Path) -> None:
    """Remove what killed builds left. Only under the lock: nobody else's build can be alive then."""
    for entry in root.iterdir():
        if entry.name.startswith(_TEMPORARY_PREFIX):
            _remove_tree(entry)


def _remove_tree(directory: Path) -> None:
    """Remove a directory, also one of read-only files and directories, such as Go's module cache."""
    for parent, _, _ in os.walk(directory):
        # Top-down: each directory becomes writable before the walk goes into it.
        with contextlib.suppress(OSError):
            Path(parent).chmod(stat.S_IRWXU)
    shutil.rmtree(directory, ignore_errors=True)


def _module_file(name: str) -> bytes:
    return (resources.files("engine_ops.devcluster") / "gomod" / name).read_bytes()
