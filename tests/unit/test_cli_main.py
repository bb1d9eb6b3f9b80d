from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest
from cli_support import PROGRAM, REQUESTS, engine_ops

from engine_ops import __version__

COMMANDS = ("run", "solve", "explain", "history", "crds", "devcluster")


def test_the_commands_are_listed() -> None:
    result = engine_ops("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = engine_ops(name, "-h")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_the_version() -> None:
    assert engine_ops("--version").stdout == f"engine-ops, version {__version__}\n"


def test_a_command_that_is_not_there() -> None:
    result = engine_ops("slove")
    assert result.exit_code == 2
    assert "slove" in result.stderr


def test_kubectl_finds_it_as_a_plugin() -> None:
    """`kubectl engine-ops` looks for kubectl-engine_ops on the PATH: dashes of a name become underscores."""
    scripts = {entry.name: entry.value for entry in importlib.metadata.entry_points(group="console_scripts")}
    assert scripts["kubectl-engine_ops"] == scripts["engine-ops"] == "engine_ops.cli.main:main"


def _modules_after(*arguments: str) -> set[str]:
    """The top-level modules and our own, loaded by a run in a process of its own."""
    code = (
        "import json, sys\n"
        "from engine_ops.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit:\n"
        "    sys.stderr.write(json.dumps(sorted(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stderr.splitlines()[-1]))


HEAVY = {"kopf", "kubernetes", "aiohttp", "uvloop", "cryptography"}


def test_help_loads_nothing_heavy() -> None:
    assert not _modules_after("--help") & (HEAVY | {"numpy", "pydantic", "yaml", "asyncio"})


def test_solve_loads_no_client_and_leaves_the_algorithms_to_its_workers() -> None:
    modules = _modules_after("solve", "-f", str(REQUESTS))
    assert "engine_ops.cli.solve" in modules
    assert not modules & (HEAVY | {"numpy", "engine_ops.kube.connection"})


def test_explain_of_a_file_loads_no_client() -> None:
    modules = _modules_after("explain", "-f", str(REQUESTS))
    assert "engine_ops.cli.explain" in modules
    assert not modules & HEAVY


def test_the_operators_own_process_leaves_the_algorithms_to_its_workers() -> None:
    code = "import sys, engine_ops.controllers.operator; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_the_program_stands_on_its_own() -> None:
    done = subprocess.run([*PROGRAM, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == f"engine-ops, version {__version__}\n"
