"""`engine-ops crds` prints, writes and checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli_support import engine_ops
from click.testing import Result

from engine_ops.api.crd import RESOURCES


def run(*arguments: str | Path) -> Result:
    return engine_ops("crds", *arguments)


@pytest.fixture
def generated(tmp_path: Path) -> tuple[Path, Path]:
    """A directory of CRDs and an API reference, fresh from the command."""
    crds, docs = tmp_path / "new" / "crds", tmp_path / "docs" / "api.md"
    assert run("--output", crds, "--docs", docs).exit_code == 0
    return crds, docs


def test_prints_all_definitions_by_default() -> None:
    result = run()
    assert result.exit_code == 0
    assert list(yaml.safe_load_all(result.stdout)) == [resource.to_crd() for resource in RESOURCES]


def test_writes_one_file_a_definition(generated: tuple[Path, Path]) -> None:
    crds, docs = generated
    assert sorted(path.name for path in crds.iterdir()) == sorted(resource.file_name for resource in RESOURCES)
    assert docs.read_text(encoding="utf-8").count("\n## ") == len(RESOURCES)


def test_a_check_of_what_was_generated_passes_in_silence(generated: tuple[Path, Path]) -> None:
    crds, docs = generated
    result = run("--check", crds, "--docs", docs)
    assert (result.exit_code, result.output) == (0, "")


def test_a_check_shows_what_drifted_and_writes_nothing(generated: tuple[Path, Path]) -> None:
    crds, docs = generated
    file = crds / RESOURCES[0].file_name
    edited = file.read_text(encoding="utf-8").replace("maximum: 3600", "maximum: 7200", 1)
    file.write_text(edited, encoding="utf-8")
    result = run("--check", crds, "--docs", docs)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f"--- {file}"
    assert [line.replace(" ", "") for line in lines if line[0] in "+-"][2:] == ["-maximum:7200", "+maximum:3600"]
    assert "run `engine-ops crds`" in result.stderr
    assert file.read_text(encoding="utf-8") == edited


def test_a_check_misses_no_file(generated: tuple[Path, Path]) -> None:
    crds, docs = generated
    (crds / RESOURCES[1].file_name).unlink()
    assert run("--check", crds).exit_code == 1
    assert run("--output", crds).exit_code == 0
    assert run("--check", crds).exit_code == 0

    docs.unlink()
    assert run("--check", crds, "--docs", docs).exit_code == 1

    (crds / "old.yaml").write_text("kind: CustomResourceDefinition\n", encoding="utf-8")
    result = run("--check", crds)
    assert result.exit_code == 1
    assert "-kind: CustomResourceDefinition" in result.stdout


def test_to_write_and_to_check_at_once_is_a_mistake(tmp_path: Path) -> None:
    result = run("--output", tmp_path, "--check", tmp_path)
    assert result.exit_code == 2
    assert "--output and --check exclude each other" in result.stderr


def test_the_command_needs_no_heavy_library() -> None:
    code = (
        "import sys; from engine_ops.cli.main import main; main(['crds'], standalone_mode=False);"
        "sys.stderr.write(' '.join({'kopf', 'kubernetes', 'aiohttp', 'numpy'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")
