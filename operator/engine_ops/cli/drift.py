"""Generated files that are no longer as they would be generated."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path


def has_drifted(path: Path, expected: str) -> bool:
    """Whether a file is not as generated; prints the unified diff then. A file that is not there counts as empty."""
    actual = path.read_text(encoding="utf-8") if path.is_file() else ""
    if actual == expected:
        return False
    before, after = actual.splitlines(keepends=True), expected.splitlines(keepends=True)
    sys.stdout.writelines(difflib.unified_diff(before, after, str(path), "generated"))
    return True
