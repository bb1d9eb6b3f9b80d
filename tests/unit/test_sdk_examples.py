"""The examples run, and print what their README shows."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCK = re.compile(r"^```console\n\$ python examples/(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = dict(BLOCK.findall((EXAMPLES / "README.md").read_text(encoding="utf-8")))


def test_the_readme_shows_both() -> None:
    assert set(SHOWN) == {"standalone_example.py", "python_example.py"}


@pytest.mark.parametrize("name", sorted(SHOWN))
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
