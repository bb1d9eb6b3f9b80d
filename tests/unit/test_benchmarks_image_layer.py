"""What a layer holds, by the dependency that brought it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from lib.image_layer import leftovers, take_apart

PROJECT = """
[project]
name = "ours"
dependencies = ["Alpha>=1", "beta"]
optional-dependencies.more = ["delta"]
"""


def install(packages: Path, name: str, files: dict[str, int], requires: tuple[str, ...] = ()) -> None:
    info = packages / f"{name}-1.dist-info"
    info.mkdir(parents=True)
    lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{lines}")
    for path, size in files.items():
        (packages / path).parent.mkdir(parents=True, exist_ok=True)
        (packages / path).write_bytes(b"x" * size)
    listed = [*(path for path in files if not path.endswith(".pyc")), "gone.py"]
    listed += [f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in listed))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    packages = tmp_path / "env" / "site-packages"
    cached = f"__pycache__/a.{sys.implementation.name}-313.pyc"
    install(packages, "alpha", {"alpha/a.py": 1000, f"alpha/{cached}": 500}, ("gamma", "beta; extra == 'x'"))
    install(packages, "beta", {"beta.py": 3000}, ("gamma", "alpha"))
    install(packages, "gamma", {"gamma.py": 40})
    install(packages, "delta", {"delta.py": 7})
    install(packages, "ours", {"ours/__init__.py": 200}, ("alpha", "beta"))
    (tmp_path / "env" / "launcher").write_bytes(b"x" * 11)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


def test_each_file_counts_for_one_dependency_and_the_rest_is_more(environment: Path) -> None:
    packages = environment / "env" / "site-packages"
    records = sum(path.stat().st_size for path in packages.glob("*.dist-info/*"))
    of_ours = sum(path.stat().st_size for path in packages.glob("ours-1.dist-info/*"))
    layer = take_apart(environment / "env", packages, environment / "pyproject.toml", ["more"])
    by_name = {part.name: part for part in layer.parts}
    assert {name: part.brings for name, part in by_name.items()} == {"alpha": (), "beta": ("gamma",), "delta": ()}
    assert layer.total_bytes == 1500 + 3000 + 40 + 7 + 200 + 11 + records
    assert layer.bytecode_bytes == 500
    assert layer.project_bytes == 200 + of_ours
    assert layer.more_bytes == 200 + of_ours + 11


def test_what_nobody_asked_for_is_an_error(environment: Path) -> None:
    with pytest.raises(ValueError, match="nobody asked for it: delta"):
        take_apart(environment / "env", environment / "env/site-packages", environment / "pyproject.toml", [])


def test_tests_tools_caches_and_orphans_are_leftovers(environment: Path) -> None:
    packages = environment / "env" / "site-packages"
    assert leftovers(environment / "env") == []
    unwanted = {packages / "alpha/tests", packages / "pip", packages / ".cache", packages / "wheel-1.dist-info"}
    for path in unwanted:
        path.mkdir(parents=True)
    (packages / "__pycache__").mkdir()
    orphan = packages / "__pycache__" / "old.cpython-313.pyc"
    orphan.write_bytes(b"")
    assert set(leftovers(environment / "env")) == unwanted | {orphan}
