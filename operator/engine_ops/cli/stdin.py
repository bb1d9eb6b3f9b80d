"""Standard input as a file among others."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Final

STDIN: Final = "-"
"""The name that stands for standard input."""


def read_stdin(names: Collection[str]) -> bytes:
    """Return all of standard input if it is among the files, else nothing.

    Called before an event loop runs: on a terminal, Ctrl-C must end the wait.
    """
    return sys.stdin.buffer.read() if STDIN in names else b""
