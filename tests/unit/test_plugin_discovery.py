"""Plugins that installed packages offer, and plugins by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from plugin_stand_ins import Heard

from engine_ops import PluginConfig
from engine_ops.ml import PluginMetadata
from engine_ops.plugins import BaseOptimizationPlugin, PluginError, PluginRegistry, discover, register_installed
from engine_ops.plugins.discovery import load_class, make_plugin

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin-package"

GOOD = """
from engine_ops.ml import PluginMetadata
from engine_ops.plugins import BaseOptimizationPlugin
class Good(BaseOptimizationPlugin):
    metadata = PluginMetadata("good", "1.0.0", "A test")
    def optimize(self, request, historical_data=None):
        return self.answer(request, {})
class Clumsy(Good):
    def __init__(self, size):
        self.size = size
class Broken(Good):
    metadata = PluginMetadata("broken", "1.0.0", "A test")
    def init(self, config=None):
        raise OSError("no model file")
class Reserved(Good):
    metadata = PluginMetadata("none", "1.0.0", "A test")
class Abstract(BaseOptimizationPlugin):
    metadata = PluginMetadata("abstract", "1.0.0", "A test")
number = 1
"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Install:
    """Install a module, and a package's metadata that names places in it; returns the module's name."""
    # A name of its own for each test, since modules stay imported.
    stem = "p_" + re.sub(r"\W", "_", request.node.name)
    monkeypatch.syspath_prepend(tmp_path)

    def write(code: str, entry_points: Sequence[str] = (), *, package: str = "thing", version: str = "1.5") -> str:
        module = f"{stem}_{package}"
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        metadata = tmp_path / f"{package}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = ["[engine_ops.plugins]", *(each.replace("MODULE", module) for each in entry_points)]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return module

    return write


def test_a_class_by_its_name(install: Install) -> None:
    module = install(GOOD)
    plugin = make_plugin(load_class(f"{module}:Good"))
    assert isinstance(plugin, BaseOptimizationPlugin)
    assert plugin.metadata == PluginMetadata("good", "1.0.0", "A test")


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("MODULE", "must be written package.module:Class"),
        ("MODULE:Good.metadata", "must be written package.module:Class"),
        ("MODULE:Good; import os", "must be written package.module:Class"),
        ("MODULE:Good\n", "must be written package.module:Class"),
        ("MODULE:Absent", "cannot be imported: AttributeError: .*Absent"),
        ("MODULE_absent:Good", "cannot be imported: ModuleNotFoundError: No module named"),
        ("MODULE:number", "must be a subclass of MLPluginInterface or BaseOptimizationPlugin"),
        ("builtins:dict", "must be a subclass of MLPluginInterface or BaseOptimizationPlugin"),
        ("MODULE:Abstract", "is abstract: it lacks optimize"),
    ],
)
def test_what_is_no_class_of_plugins(install: Install, entry_point: str, message: str) -> None:
    module = install(GOOD)
    with pytest.raises(PluginError, match=message):
        load_class(entry_point.replace("MODULE", module))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('not on this machine')", "SystemExit: not on this machine"),
        ("def", "SyntaxError"),
    ],
)
def test_modules_that_fail_are_reported(install: Install, code: str, message: str) -> None:
    module = install(code)
    with pytest.raises(PluginError, match=rf"{module}:Plugin cannot be imported: {message}"):
        load_class(f"{module}:Plugin")


def test_a_class_that_needs_arguments(install: Install) -> None:
    module = install(GOOD)
    with pytest.raises(PluginError, match=rf"{module}:Clumsy cannot be made without arguments: TypeError"):
        make_plugin(load_class(f"{module}:Clumsy"))


def test_discover_reports_what_it_cannot_load(install: Install) -> None:
    good = install(GOOD, ["b-good = MODULE:Good", "a-absent = MODULE:Absent [extra]"], package="one")
    install("1 / 0", ["c-bad = MODULE:Plugin"], package="two", version="2.0")
    found = [each for each in discover() if each.distribution in ("one", "two")]
    assert [(each.name, each.distribution, each.version) for each in found] == [
        ("a-absent", "one", "1.5"),
        ("b-good", "one", "1.5"),
        ("c-bad", "two", "2.0"),
    ]
    assert found[0].entry_point == f"{good}:Absent"
    assert [each.plugin_class is not None for each in found] == [False, True, False]
    assert found[1].error is None
    assert found[0].error is not None
    assert "Absent" in found[0].error
    assert found[2].error is not None
    assert "division by zero" in found[2].error


def test_damaged_metadata_hides_no_other_package(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install(GOOD, ["bad line"], package="a-damaged")
    install(GOOD, ["good = MODULE:Good"], package="b-good")
    assert [each.name for each in discover() if each.distribution == "b-good"] == ["good"]
    assert any("the metadata of a package cannot be read" in message for message in caplog.messages)


def test_register_installed_registers_what_works_and_tells_of_the_rest(install: Install) -> None:
    classes = ["Abstract", "Broken", "Clumsy", "Good", "Reserved"]
    install(GOOD, [f"{name.lower()} = MODULE:{name}" for name in classes])
    registry, heard = PluginRegistry(), Heard()
    registry.subscribe(heard)
    registered = register_installed(registry, PluginConfig(priority=3))
    ours = [entry.name for entry in registered if entry.name in ("good", "broken", "abstract", "none")]
    assert ours == ["good"]
    entry = registry.get("good")
    assert entry is not None
    assert entry.config.priority == 3
    errors = {event.plugin: event.message for event in heard if event.kind == "error"}
    assert "is abstract" in errors["abstract"]
    assert "(package thing 1.5)" in errors["abstract"]
    assert errors["broken"] == "init failed: OSError: no model file"
    assert "cannot be made without arguments" in errors["clumsy"]
    assert "reserved" in errors["reserved"]

    assert register_installed(registry) == [], "those that are there stay as they are"
    assert registry.get("good") is entry
    assert "good" not in {event.plugin for event in heard if event.kind == "error"}


def test_a_package_that_is_there_twice_counts_once(
    install: Install, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(GOOD, ["twice = MODULE:Good"], version="2.0")
    older = tmp_path_factory.mktemp("older") / "thing-1.0.dist-info"
    older.mkdir()
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (older / "entry_points.txt").write_text("[engine_ops.plugins]\ntwice = absent:Good\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(older.parent)])
    assert [each.version for each in discover() if each.name == "twice"] == ["2.0"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example package is installed, from its wheel."""
    root = tmp_path_factory.mktemp("plugin-package")
    wheels, target = root / "wheels", root / "installed"
    _run("-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", wheels, EXAMPLE)
    (wheel,) = wheels.iterdir()
    assert wheel.name == "engine_ops_runtimes-1.0.0-py3-none-any.whl"
    _run("-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def _run(*arguments: object, path: Path | None = None) -> str:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_package_is_found_where_its_wheel_is_installed(installed: Path) -> None:
    script = (
        "from engine_ops.plugins import discover\n"
        "for each in discover():\n"
        "    if each.distribution == 'engine-ops-runtimes':\n"
        "        print(each.name, each.entry_point, each.version, each.error, each.plugin_class.__module__)\n"
    )
    assert _run("-c", script, path=installed).splitlines() == [
        "idle-first engine_ops_runtimes.idle_first:IdleFirstPlugin 1.0.0 None engine_ops_runtimes.idle_first",
        "last-two engine_ops_runtimes.last_two:LastTwoPlugin 1.0.0 None engine_ops_runtimes.last_two",
    ]
    assert _run("-c", script) == "", "nothing of it may be found where it is not installed"


def test_the_example_packages_own_tests_pass_on_what_is_installed(installed: Path) -> None:
    output = _run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", EXAMPLE / "pyproject.toml", EXAMPLE / "tests",
        path=installed,
    )  # fmt: skip
    assert " passed" in output
    assert "skipped" not in output


def test_the_readmes_code_prints_what_it_says(installed: Path) -> None:
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    said = re.search(r"prints `([^`]*)`", readme)
    assert said is not None
    assert _run("-c", code, path=installed).strip() == said[1]
