"""`engine-ops devcluster`, as far as it needs no cluster."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_support import engine_ops

from engine_ops.cli import devcluster
from engine_ops.devcluster import DevCluster


class _Standing(DevCluster):
    """A cluster that is only an environment."""

    def __init__(self) -> None:
        self.name = "standing"

    def environment(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        return {**environ, "KUBECONFIG": "/the/cluster/config"}


@pytest.fixture
def _signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        ("exit 0", 0),
        ("exit 42", 42),
        ("kill -9 $$", 128 + signal.SIGKILL),
        ('test "$KUBECONFIG" = /the/cluster/config', 0),
        # A signal to the command line reaches the command, which decides what to do about it.
        ("trap 'exit 9' TERM; kill -TERM $PPID; while :; do sleep 0.02; done", 9),
    ],
)
def test_a_commands_exit_code_is_passed_on(script: str, exit_code: int) -> None:
    assert devcluster._run(_Standing(), ("sh", "-c", script)) == exit_code


@pytest.mark.usefixtures("_signals")
def test_a_signal_that_comes_while_the_command_is_started_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hit(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: None)  # what nobody forwards must not end the tests
    monkeypatch.setattr(subprocess, "Popen", Hit)
    assert devcluster._run(_Standing(), ("sleep", "600")) == 128 + signal.SIGTERM


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_is_ignored_as_under_nohup_the_command_ignores_too(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    assert devcluster._run(_Standing(), ("sh", "-c", f"kill -{number.value} $PPID $$; exit 7")) == 7


@pytest.mark.usefixtures("_signals")
def test_a_command_that_cannot_be_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("")
    assert devcluster._run(_Standing(), ("no-such-command",)) == 127
    assert devcluster._run(_Standing(), (str(tmp_path / "text"),)) == 126
    assert "no-such-command: command not found" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["status"], ["kubeconfig"]])
def test_a_cluster_that_is_down(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = engine_ops("devcluster", *arguments)
    assert result.exit_code == 1
    assert "cluster default is down; start it with `engine-ops devcluster up`" in result.output


def test_down_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = engine_ops("devcluster", "down")
    assert (result.exit_code, result.output) == (0, "cluster default was not up\n")


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize("command", ["up", "down", "status", "kubeconfig"])
def test_a_name_that_is_none(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = engine_ops("devcluster", command, "--name", "../elsewhere")
    assert result.exit_code == 1
    assert "use lower-case letters" in result.output
