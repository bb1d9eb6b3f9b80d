"""Numbers of things in the texts of a repacking."""

from __future__ import annotations


def plural(number: int, word: str) -> str:
    """Return a number of things.

    >>> plural(1, "node"), plural(1200, "node")
    ('1 node', '1,200 nodes')
    """
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
