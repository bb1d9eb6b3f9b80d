"""How a start fails: with fake components that do what real ones do rarely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine_ops.devcluster import Binaries, DevCluster, StartError, state
from engine_ops.devcluster.processes import spawn


def _fake_etcd(directory: Path, script: str) -> Binaries:
    for name in ("etcd", "kube-apiserver"):
        (directory / name).write_text(f'#!/bin/sh\necho "$@" >> {directory}/calls\n{script}\n')
        (directory / name).chmod(0o755)
    return Binaries(directory)


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


def _remaining() -> list[str]:
    return [entry.name for entry in state.clusters_root().iterdir() if entry.is_dir()]


def test_a_component_that_ends_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    binaries = _fake_etcd(tmp_path, "seq 1000; echo the disk is on fire; exit 3")
    with pytest.raises(StartError, match=r"(?s)^etcd ended with exit code 3.*999\n1000\nthe disk is on fire$"):
        DevCluster.start(binaries=binaries)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert _remaining() == []


def test_a_lost_port_is_tried_once_more_with_another(tmp_path: Path) -> None:
    binaries = _fake_etcd(tmp_path, "echo 'listen tcp 127.0.0.1:1: bind: address already in use'; exit 1")
    with pytest.raises(StartError, match="address already in use"):
        DevCluster.start(binaries=binaries)
    first, second = (tmp_path / "calls").read_text().splitlines()
    listens = [next(a for a in call.split() if a.startswith("--listen-client-urls")) for call in (first, second)]
    assert listens[0] != listens[1]


def test_the_deadline_ends_a_component_that_does_not_answer(tmp_path: Path) -> None:
    binaries = _fake_etcd(tmp_path, f"echo $$ > {tmp_path}/pid; echo thinking; exec sleep 600")
    said = ""
    for seconds in (1, 4, 16, 64):  # on a busy machine the deadline may pass before it has said anything
        with pytest.raises(StartError, match=f"^etcd has not answered /health within {seconds} s ") as raised:
            DevCluster.start(binaries=binaries, timeout_seconds=seconds)
        said = str(raised.value)
        if "thinking" in said:
            break
    assert said.endswith("thinking")
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert _remaining() == []


# Stands in for etcd and the API server, whose default namespace comes a while after it calls itself ready.
_SLOW_API_SERVER = """
import http.server, pathlib, ssl, sys

def option(*names):
    return next(value for name, _, value in (word.partition("=") for word in sys.argv) if name in names)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status = 200
        if self.path == "/api/v1/namespaces/default":
            asked = pathlib.Path(sys.argv[0]).with_name("asked")
            before = asked.read_text() if asked.exists() else ""
            asked.write_text(before + "x")
            status = 200 if len(before) == 3 else 404
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

port = option("--listen-client-urls", "--secure-port").rpartition(":")[2]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(option("--cert-file", "--tls-cert-file"), option("--key-file", "--tls-private-key-file"))
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def test_a_cluster_is_ready_when_its_default_namespace_is_there(tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text(f"#!{sys.executable}\n{_SLOW_API_SERVER}")
        (tmp_path / name).chmod(0o755)
    with DevCluster.start(components=(), binaries=Binaries(tmp_path)):
        assert (tmp_path / "asked").read_text() == "xxxx"


def test_logs_in_a_directory_of_the_callers_stay(tmp_path: Path) -> None:
    binaries = _fake_etcd(tmp_path, "echo last words; exit 1")
    with pytest.raises(StartError):
        DevCluster.start(binaries=binaries, log_dir=tmp_path / "logs")
    assert (tmp_path / "logs" / "etcd.log").read_text() == "last words\n"


def test_a_process_whose_starter_is_gone_before_it_runs_does_not_run(tmp_path: Path) -> None:
    # The starter is killed between fork and the child's first look: stood in for by a parent that is not the starter.
    script = (
        "import os, pathlib, engine_ops.devcluster.processes as p\n"
        "os.getpid = lambda: 1\n"
        f"d = pathlib.Path({str(tmp_path)!r})\n"
        "p.spawn(['/bin/touch', str(d / 'ran')], log_file=d / 'log', working_directory=d, environment={}).wait()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "log").exists()
    assert not (tmp_path / "ran").exists()


def test_a_spawned_process_has_the_given_environment_only(tmp_path: Path) -> None:
    process = spawn(
        ["/usr/bin/env"], log_file=tmp_path / "log", working_directory=tmp_path, environment={"ONLY": "this"}
    )
    assert process.wait() == 0
    lines = (tmp_path / "log").read_text().splitlines()
    # Python sets LC_CTYPE for itself where the locale is C, and hands it on.
    assert [line for line in lines if not line.startswith("LC_CTYPE=")] == ["ONLY=this"]


def test_an_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    _fake_etcd(tmp_path, f"echo $$ > {tmp_path}/fifo; exec sleep 600")
    script = "import pathlib, sys\nfrom engine_ops.devcluster import Binaries, DevCluster\n"
    script += "DevCluster.start(binaries=Binaries(pathlib.Path(sys.argv[1])))\n"
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE) as starter:
        pid = int((tmp_path / "fifo").read_text())
        starter.send_signal(signal.SIGINT)
        _, said = starter.communicate(timeout=30)
    assert b"KeyboardInterrupt" in said
    assert not Path(f"/proc/{pid}").exists()
    assert _remaining() == []
