"""What the blobs of a history are called, and what their labels say."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from engine_ops.api.base import GROUP
from engine_ops.history.codec import FORMAT, SegmentHeader

HEAD: Final = "engine-ops-history-head"
OPEN: Final = "engine-ops-history-open"
_SEGMENT: Final = "engine-ops-history-"
_DAMAGED: Final = "engine-ops-history-damaged-"
_NUMBER = re.compile(re.escape(_SEGMENT) + r"(\d{8,18})")

WHAT: Final = f"{GROUP}/history"
FORMAT_LABEL: Final = f"{GROUP}/format"
SEQUENCE: Final = f"{GROUP}/sequence"
COUNT: Final = f"{GROUP}/count"
FROM_MS: Final = f"{GROUP}/from-ms"
TO_MS: Final = f"{GROUP}/to-ms"


def segment_name(sequence: int) -> str:
    """Return the name of a sealed segment."""
    return f"{_SEGMENT}{sequence:08d}"


def sequence_of(name: str) -> int | None:
    """Return the sequence of a sealed segment of this name, None for every other blob."""
    match = _NUMBER.fullmatch(name)
    if match is None or segment_name(int(match[1])) != name:
        return None
    return int(match[1])


def damaged_name(name: str, content: bytes) -> str:
    """Return the name under which a damaged blob is set aside."""
    # One without content is told apart by its name.
    return f"{_DAMAGED}{hashlib.sha256(content or name.encode()).hexdigest()[:8]}"


def is_damaged_name(name: str) -> bool:
    """Whether a blob was set aside."""
    return name.startswith(_DAMAGED)


def segment_labels(what: str, header: SegmentHeader) -> dict[str, str]:
    """Return the labels of a segment or the head: what can be read without the content."""
    return {
        WHAT: what,
        FORMAT_LABEL: str(FORMAT),
        SEQUENCE: str(header.sequence),
        COUNT: str(header.count),
        FROM_MS: _label(header.start_ms),
        TO_MS: _label(header.end_ms),
    }


def format_label(text: str | None) -> int | None:
    """Return the format that a label names, None where it names none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def sequence_label(text: str | None) -> int | None:
    """Return the sequence that a label names, None where it names none."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 19 else None


def _label(moment_ms: int) -> str:
    # A label begins with a letter or a digit, so that a time before 1970 cannot stand there as it is.
    return str(moment_ms) if moment_ms >= 0 else "0"
