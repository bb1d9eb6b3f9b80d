"""Clusters of their own: how they end, what they leave, and the command line. Each runs in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_ops.devcluster import DevCluster, state
from engine_ops.devcluster.binaries import ASSETS_VARIABLE, Binaries

_DEADLINE_SECONDS = 60.0

# Started in a thread that ends: the cluster belongs to the process, not to the thread that happened to start it.
_STARTER = """
import json, sys, threading, time
from engine_ops.devcluster import DevCluster

def start():
    global cluster
    cluster = DevCluster.start()

thread = threading.Thread(target=start)
thread.start()
thread.join()
state = cluster.state
print(json.dumps([str(cluster.directory), state.pid, [c.pid for c in state.components]]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def binaries(devcluster_binaries: Binaries) -> Binaries:
    return devcluster_binaries


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binaries: Binaries) -> Path:
    """A user with a kubeconfig, whom no cluster may disturb."""
    kube = tmp_path / ".kube"
    kube.mkdir()
    (kube / "config").write_text("current-context: production\n")
    (tmp_path / "other").write_text("current-context: staging\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "other"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv(ASSETS_VARIABLE, str(binaries.directory))
    return tmp_path


def _engine_ops(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from engine_ops.cli.main import main; main()", "devcluster", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)


def _gone(pid: int) -> bool:
    """Whether a process has ended, also if nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in {_DEADLINE_SECONDS} s: {what}"
        time.sleep(0.05)


def _directories() -> list[str]:
    return [entry.name for entry in state.clusters_root().iterdir() if entry.is_dir()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_everything_ends_with_the_parent(home: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        directory, supervisor, pids = json.loads(parent.stdout.readline())
        assert len(pids) == 5
        assert not any(_gone(pid) for pid in (supervisor, *pids))
        parent.send_signal(number)
        parent.wait()
    _eventually(lambda: all(_gone(pid) for pid in (supervisor, *pids)), "every process ended")
    # The supervisor outlives its parent just long enough to clean up.
    assert not Path(directory).exists()


def test_components_end_with_a_killed_supervisor_and_the_next_start_cleans_up(home: Path, binaries: Binaries) -> None:
    killed = DevCluster.start(components=(), binaries=binaries)
    found = killed.state
    os.kill(found.pid, signal.SIGKILL)
    killed.wait()
    _eventually(lambda: all(_gone(component.pid) for component in found.components), "etcd and the API server ended")
    assert killed.directory.exists()
    with DevCluster.start(components=(), binaries=binaries) as started:
        assert _directories() == [started.name]
        assert [component.name for component in started.state.components] == ["etcd", "kube-apiserver"]
        # Without controllers nobody makes ServiceAccounts, and pods are admitted without.
        started.kubectl("run", "pod", "--image=any")
    assert _directories() == []


def test_a_component_that_ends_is_told(home: Path, binaries: Binaries) -> None:
    with DevCluster.start(name="hurt", components=("kube-scheduler",), binaries=binaries) as hurt:
        scheduler = hurt.state.components[-1]
        os.kill(scheduler.pid, signal.SIGKILL)
        _eventually(lambda: hurt.state.components[-1].exit_code == -signal.SIGKILL, "the exit was noted")
        said = _engine_ops("status", "--name", "hurt")
        assert said.returncode == 1
        assert "exited (-9)" in said.stdout


def test_up_with_a_command(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    script = (
        'kubectl get namespace default -o name && echo "$KUBECONFIG" && kubectl config use-context devcluster; exit 7'
    )
    done = _engine_ops("up", "--component", "etcd", "--", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    found, config, _ = done.stdout.splitlines()
    assert found == "namespace/default"
    assert not Path(config).exists()
    assert _directories() == []
    # The user's kubeconfigs, and every other file of theirs, are as they were; nothing new but the registry's lock.
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {path: content for path, content in after.items() if (home / "state") not in path.parents} == before


def test_up_status_kubeconfig_down(home: Path) -> None:
    down = _engine_ops("status")
    assert (down.returncode, down.stdout) == (1, "")
    assert "cluster default is down" in down.stderr
    assert _engine_ops("kubeconfig").returncode == 1

    up = _engine_ops("up", "--nodes", "2")
    assert up.returncode == 0, up.stderr
    try:
        again = _engine_ops("up", "--nodes", "2")
        assert again.returncode == 0
        assert "is up already" in again.stderr
        assert again.stdout == up.stdout
        assert _engine_ops("up", "--component", "etcd", "--", "true").returncode == 0, "one of its own beside it"

        status = _engine_ops("status")
        assert status.returncode == 0
        rows = [line.split() for line in status.stdout.splitlines()[2:]]
        assert [row[0] for row in rows] == [
            "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok",
        ]  # fmt: skip
        assert {row[2] for row in rows} == {"running"}
        pids = [int(row[1]) for row in rows]

        config = _engine_ops("kubeconfig").stdout.strip()
        assert f'export KUBECONFIG="{config}"' in up.stdout
        cluster = DevCluster.attach("default")
        assert cluster is not None
        assert str(cluster.kubeconfig) == config
        assert len(cluster.kubectl("get", "nodes", "-o", "name").stdout.splitlines()) == 2
        pids.append(cluster.state.pid)
    finally:
        done = _engine_ops("down")
    assert done.stdout == "cluster default is down\n"
    assert all(_gone(pid) for pid in pids)
    assert _directories() == []
    again = _engine_ops("down")
    assert (again.returncode, again.stdout) == (0, "cluster default was not up\n")


def test_up_in_the_foreground_ends_orderly_at_sigterm(home: Path) -> None:
    command = "from engine_ops.cli.main import main; main()"
    arguments = ["devcluster", "up", "--foreground", "--component", "etcd", "--name", "front"]
    with subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"export KUBECONFIG=")
        assert _directories() == ["front"]
        process.terminate()
        process.communicate(timeout=_DEADLINE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert _directories() == []
