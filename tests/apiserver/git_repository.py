"""A Git repository with manifests, and an applier that brings them into a cluster as Flux does."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from waiting import wait_until

from engine_ops.devcluster import DevCluster

MANAGER: Final = "kustomize-controller"
_AUTHOR: Final = ("-c", "user.name=Team", "-c", "user.email=team@example.com", "-c", "commit.gpgsign=false")


def _git(*arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class GitRepository:
    """A repository of one kustomization.

    Parameters
    ----------
    path
        Where it is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _git("init", "--quiet", "--initial-branch=main", str(path))

    def commit(self, message: str, *manifests: dict[str, Any]) -> str:
        """Put manifests into it, in the place of those that were there; return the commit."""
        names = []
        for manifest in manifests:
            names.append(f"{manifest['kind'].lower()}-{manifest['metadata']['name']}.yaml")
            (self.path / names[-1]).write_text(json.dumps(manifest, indent=2) + "\n")
        kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
        (self.path / "kustomization.yaml").write_text(json.dumps(kustomization) + "\n")
        _git("-C", str(self.path), "add", "--all")
        _git("-C", str(self.path), *_AUTHOR, "commit", "--quiet", "-m", message)
        return _git("-C", str(self.path), "rev-parse", "HEAD")


@dataclasses.dataclass
class Applier:
    """Brings a repository's newest commit into a cluster.

    Parameters
    ----------
    cluster
        Where.
    repository
        What.
    directory
        For its clones.
    """

    cluster: DevCluster
    repository: GitRepository
    directory: Path

    def source(self) -> Path:
        """Return a clone of the newest commit."""
        commit = _git("-C", str(self.repository.path), "rev-parse", "HEAD")
        clone = self.directory / commit
        if not clone.exists():
            _git("clone", "--quiet", "--no-local", "--depth=1", f"file://{self.repository.path}", str(clone))
        assert _git("-C", str(clone), "rev-parse", "HEAD") == commit
        return clone

    def apply(self, *, force: bool = True, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Apply the newest commit. Flux takes fields from other managers (``force``)."""
        return self._run("apply", *(["--force-conflicts"] if force else []), check=check)

    def diff(self) -> str:
        """Return what an apply would change; nothing where there is no drift."""
        # kubectl reads an object, and then has an apply tried: another version of it means that somebody, such as the
        # operator with a status, has written in between, and what they wrote is shown as a difference.
        return wait_until(
            self._difference,
            lambda shown: not re.search(r"^[+-] +resourceVersion:", shown, re.MULTILINE),
            "nothing is written while it is looked at",
        )

    def _difference(self) -> str:
        done = self._run("diff", "--force-conflicts", check=False)
        assert done.returncode in (0, 1), done.stderr
        assert bool(done.stdout) == bool(done.returncode), done.stderr
        return done.stdout

    def _run(self, command: str, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        how = ("--server-side", f"--field-manager={MANAGER}", *arguments)
        return self.cluster.kubectl(command, *how, "-k", str(self.source()), check=check)
