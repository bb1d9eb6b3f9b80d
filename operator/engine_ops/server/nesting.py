"""How deep JSON is nested, before anything reads it: readers recurse, and a stack has an end."""

from __future__ import annotations

from typing import Final

import numpy as np

MAX_NESTING: Final = 100
"""Of containers in containers."""

_OTHERS: Final = bytes(set(range(256)) - set(b'[]{}"'))


def is_too_deep(text: bytes, limit: int = MAX_NESTING) -> bool:
    """Whether JSON has more than a number of containers in one another; takes a few milliseconds for 10 MiB.

    Of what is no JSON nothing is promised but an answer.
    """
    if text.count(b"[") + text.count(b"{") <= limit:
        return False
    if b"\\" in text:
        # From the left, pairs first: what is left of a run of backslashes escapes the quote after it, or nothing.
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = text.translate(None, _OTHERS)
    # Two quotes side by side are an empty string, or the seam of two: without them the others stay paired.
    outside = b"".join(marks.replace(b'""', b"").split(b'"')[::2])
    brackets = np.frombuffer(outside, dtype=np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    return bool(len(brackets)) and int(np.cumsum(np.where(opening, 1, -1)).max()) > limit
