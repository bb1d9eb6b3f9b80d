"""How much memory a plugin uses: its process and all that descend from it. Read from /proc.

What counts is the resident memory of the plugin's process beyond what the host had when it forked it (those pages are
shared), and all of its descendants'. Where there are descendants, which share pages with it in their turn, and the sum
is above the limit, the proportional set size decides, which counts every page once.
"""

from __future__ import annotations

import os
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = 1
"""Index of the resident set in /proc/PID/statm, in pages."""


def children(pid: int) -> list[int]:
    """Return the children of a process, of all its threads; empty if it is gone. Later ones may be missing."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_bytes().split())
    except OSError:  # it ended while we looked
        pass
    return found


def descendants(pid: int) -> list[int]:
    """Return the children of a process, theirs, and so on."""
    found: list[int] = []
    ahead = children(pid)
    while ahead:
        child = ahead.pop()
        found.append(child)
        ahead += children(child)
    return found


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_bytes().split()
    except OSError:
        return 0
    return int(fields[_RESIDENT]) * _PAGE_BYTES


def proportional_bytes(pid: int) -> int | None:
    """Return a process's resident memory, each page divided by those who share it; None if it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def used_bytes(pid: int, shared_bytes: int, limit_bytes: int) -> int:
    """Return what a plugin uses, as exactly as is needed to compare it with its limit.

    Parameters
    ----------
    pid
        Of its process.
    shared_bytes
        The resident memory of the host when it forked it.
    limit_bytes
        Where fewer are used, the shared pages of descendants may be counted more than once.
    """
    own = max(0, resident_bytes(pid) - shared_bytes)
    others = descendants(pid)
    used = own + sum(map(resident_bytes, others))
    if used <= limit_bytes or not others:
        return used
    exact = 0
    for process in (pid, *others):
        size = proportional_bytes(process)
        if size is None and resident_bytes(process):
            return used  # a process that hides its memory is taken at its worst
        exact += size or 0  # none of one that has ended since it was found
    return exact
