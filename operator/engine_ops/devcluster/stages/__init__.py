"""How kwok's nodes and pods live: Stage objects, one file each."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def write_stages(path: Path) -> Path:
    """Write all Stage objects into one file, for kwok's ``--config``.

    Parameters
    ----------
    path : Path
        The file to write.

    Returns
    -------
    Path
        `path`.
    """
    files = sorted(
        (entry for entry in resources.files(__name__).iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    path.write_text("---\n".join(entry.read_text(encoding="utf-8") for entry in files), encoding="utf-8")
    return path
