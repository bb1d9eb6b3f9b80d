"""The pytest plugin, in a session of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_TEST = """
import pytest
from engine_ops.devcluster import pytest_plugin

def build(report):
    report("building for a while")
    pytest.skip("built nothing")

pytest_plugin.ensure_binaries = build

def test_something(cluster):
    pass
"""


def test_the_progress_of_a_build_is_seen_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "engine_ops.devcluster.pytest_plugin", "-rs", "-c", "/dev/null"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "building for a while" in done.stderr
    assert "built nothing" in done.stdout
