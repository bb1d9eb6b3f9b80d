"""`engine-ops run` without credentials: what it says, and to whom."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from cli_support import PROGRAM

from engine_ops import __version__


def run(kubeconfig: Path, *options: str) -> list[str]:
    """Return the lines of an operator that cannot start."""
    command = [*PROGRAM, "run", f"--kubeconfig={kubeconfig}", "--workers=1", "--probes=none", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def test_people_are_told_in_plain_lines(tmp_path: Path) -> None:
    first, *_, last = run(tmp_path / "none")
    assert first == f"engine-ops {__version__}"
    assert last.startswith("error: ")
    assert "no credentials" in last


def test_collectors_are_told_in_json_alone(tmp_path: Path) -> None:
    first, *_, last = map(json.loads, run(tmp_path / "none", "--log-format=json"))
    assert (first["level"], first["message"]) == ("info", f"engine-ops {__version__}")
    assert last["level"] == "error"
    assert "no credentials" in last["message"]
    assert not last["message"].startswith("error")
