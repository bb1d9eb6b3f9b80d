"""The examples run, and print what their README shows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serve_support import serving

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCK = re.compile(r"^```console\n\$ python examples/(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = dict(BLOCK.findall((EXAMPLES / "README.md").read_text(encoding="utf-8")))


OVER_HTTP = "rest_client.py"
SO_FAR = re.compile(r"^  so far \d+, at least \d+\n", re.MULTILINE)


def test_the_readme_shows_all() -> None:
    assert set(SHOWN) == {"standalone_example.py", "python_example.py", OVER_HTTP}


def test_the_example_over_http_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """Which answers there are on the way depends on the machine."""
    script = [sys.executable, "-W", "error", EXAMPLES / OVER_HTTP]
    with serving("--memory") as served:
        done = subprocess.run([*script, served.url], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert SO_FAR.search(done.stdout)
    assert SO_FAR.sub("", done.stdout) == SO_FAR.sub("", SHOWN[OVER_HTTP])
    gone = subprocess.run([*script, served.url], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr.startswith(f"not done: {served.url}: the connection is refused")


@pytest.mark.parametrize("name", sorted(set(SHOWN) - {OVER_HTTP}))
def test_examples_print_what_the_readme_shows(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SHOWN[name]
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


def test_the_standalone_example_imports_the_data_classes_only() -> None:
    tree = ast.parse((EXAMPLES / "standalone_example.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    ours = {f"engine_ops.ml.{name}" for name in ("PredictionResult", "WorkloadDataPoint", "WorkloadDataset")}
    assert ours <= froms
    assert {name.partition(".")[0] for name in (names | froms) - ours} <= sys.stdlib_module_names
    script = f"import runpy, sys; runpy.run_path({str(EXAMPLES / 'standalone_example.py')!r}, run_name='__main__')\n"
    script += "print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
