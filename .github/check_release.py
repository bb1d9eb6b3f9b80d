"""Hold a release's tag against the versions in the repository, and print the release's notes.

    python .github/check_release.py v1.2.3

The tag, ``pyproject.toml``, the image of ``manifests/base`` and a dated section of ``CHANGELOG.md`` must say the same.
Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

VERSION = re.compile(r"v([0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?)")
SECTION = re.compile(r"^## \[(?P<version>[^\]]+)\](?P<date> - \d{4}-\d{2}-\d{2})?[ \t]*$", re.MULTILINE)
NEW_TAG = re.compile(r"^ *newTag: *[\"']?(\S+?)[\"']? *$", re.MULTILINE)


class ReleaseError(Exception):
    """The repository is not ready for this tag; the message says why, one reason a line."""


def notes_of(tag: str, root: Path) -> str:
    """Return the notes of a release.

    Parameters
    ----------
    tag
        Such as ``v1.2.3`` or ``v1.2.3rc1``.
    root
        Of the repository.

    Raises
    ------
    ReleaseError
        If something says another version.
    """
    match = VERSION.fullmatch(tag)
    if match is None:
        raise ReleaseError(f"{tag} is no tag of a release: vMAJOR.MINOR.PATCH, as a candidate with rcN")
    version, faults = match[1], []
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if project["version"] != version:
        faults.append(f"pyproject.toml: version is {project['version']}, not {version}")
    base = root / "manifests" / "base" / "kustomization.yaml"
    tags = NEW_TAG.findall(base.read_text(encoding="utf-8"))
    if tags != [version]:
        faults.append(f"manifests/base/kustomization.yaml: newTag is {', '.join(tags) or 'missing'}, not {version}")
    notes = _section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if notes is None:
        faults.append(f"CHANGELOG.md: no section `## [{version}] - YYYY-MM-DD` with something in it")
    if faults or notes is None:
        raise ReleaseError("\n".join(faults))
    return notes


def _section(changelog: str, version: str) -> str | None:
    sections = list(SECTION.finditer(changelog))
    for match, following in zip(sections, [*sections[1:], None], strict=True):
        if match["version"] == version and match["date"]:
            text = changelog[match.end() : following.start() if following else len(changelog)].strip()
            return text or None
    return None


def main(arguments: list[str]) -> int:
    """Print the notes, or what is wrong."""
    if len(arguments) != 1:
        sys.stderr.write("usage: check_release.py TAG\n")
        return 2
    try:
        sys.stdout.write(notes_of(arguments[0], Path(__file__).resolve().parents[1]) + "\n")
    except ReleaseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
