"""What a virtual environment holds, by the dependency that brought it."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MB = 1e6
"""Bytes: the criterion of 20 MB is in these, not in MiB."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A dependency that the project names, and what comes with it.

    Parameters
    ----------
    name
        Of the distribution, canonical.
    own_bytes
        Its own files, their bytecode among them.
    with_bytes
        And those of what it needs itself. What several need is counted with the largest of them.
    brings
        The names of these, largest first.
    """

    name: str
    own_bytes: int
    with_bytes: int
    brings: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer, taken apart.

    Parameters
    ----------
    parts
        By named dependency, largest first.
    bytecode_bytes
        How much of them is bytecode.
    project_bytes
        The project itself, its bytecode included.
    total_bytes
        The whole layer; what is neither of these is the environment's own.
    """

    parts: tuple[Part, ...]
    bytecode_bytes: int
    project_bytes: int
    total_bytes: int

    @property
    def more_bytes(self) -> int:
        """What the layer holds beyond the named dependencies."""
        return self.total_bytes - sum(part.with_bytes for part in self.parts)


def take_apart(root: Path, site_packages: Path, project: Path, extras: Sequence[str]) -> Layer:
    """Attribute each file of an environment to a dependency that ``pyproject.toml`` names.

    Parameters
    ----------
    root
        The environment: all that the layer holds.
    site_packages
        In it.
    project
        The ``pyproject.toml``.
    extras
        Optional dependencies that are installed as well.

    Raises
    ------
    ValueError
        If a distribution is there that nothing needs, or a named one is missing.
    """
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    named = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    found = {canonicalize_name(each.name): each for each in distributions(path=[str(site_packages)])}
    itself = found.pop(canonicalize_name(table["name"]))
    sizes = {name: _bytes_of(each) for name, each in found.items()}
    names = _wanted(map(Requirement, named), set())
    if missing := sorted(set(names) - set(found)):
        raise ValueError(f"not installed: {', '.join(missing)}")
    left = set(found) - set(names)
    parts = []
    for name in sorted(names, key=lambda name: -sizes[name]):
        brought = _closure(name, left, found)
        left -= brought
        brings = tuple(sorted(brought, key=lambda each: -sizes[each]))
        parts.append(Part(name, sizes[name], sizes[name] + sum(map(sizes.__getitem__, brings)), brings))
    if left:
        raise ValueError(f"installed, and nobody asked for it: {', '.join(sorted(left))}")
    project_bytes = _bytes_of(itself)
    bytecode = sum(path.stat().st_size for each in found.values() for path in _files(each) if path.suffix == ".pyc")
    parts.sort(key=lambda part: -part.with_bytes)
    return Layer(tuple(parts), bytecode, project_bytes, bytes_in(root))


def bytes_in(path: Path) -> int:
    """Return the size of a file, or of all files below a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())


def leftovers(root: Path) -> list[Path]:
    """Return what nobody asked for: tests, what packages are built with, and bytecode whose source is gone."""
    tests = [path for path in root.rglob("*") if path.is_dir() and path.name in {"test", "tests"}]
    tools = [path for name in ("pip", "pip-*", "setuptools*", "wheel*", "hatchling*") for path in root.rglob(name)]
    caches = [path for path in root.rglob("*") if path.name in {".cache", ".pytest_cache", ".mypy_cache"}]
    orphans = [path for path in root.rglob("__pycache__/*.pyc") if not _source_of(path).exists()]
    return [*tests, *tools, *caches, *orphans]


def _source_of(bytecode: Path) -> Path:
    return bytecode.parent.parent / (bytecode.name.partition(".")[0] + ".py")


def _files(distribution: Distribution) -> Iterable[Path]:
    """Yield the files that are there of those that RECORD lists, and the bytecode that was made of them since."""
    seen = set()
    for entry in distribution.files or ():
        path = Path(str(distribution.locate_file(entry)))
        tag = f"{path.stem}.{sys.implementation.name}-*.pyc"
        made = (path.parent / "__pycache__").glob(tag) if path.suffix == ".py" else ()
        for each in (path, *made):
            if each not in seen and each.is_file():
                seen.add(each)
                yield each


def _bytes_of(distribution: Distribution) -> int:
    return sum(path.stat().st_size for path in _files(distribution))


def _wanted(requirements: Iterable[Requirement], extras: set[str]) -> list[str]:
    return [
        canonicalize_name(each.name)
        for each in requirements
        if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def _closure(name: str, among: set[str], found: Mapping[str, Distribution]) -> set[str]:
    """Return what a distribution needs, and what that needs; other named ones answer for themselves."""
    reached: set[str] = set()
    ahead = [name]
    while ahead:
        for needed in _wanted(map(Requirement, found[ahead.pop()].requires or ()), set()):
            if needed in among and needed not in reached:
                reached.add(needed)
                ahead.append(needed)
    return reached
