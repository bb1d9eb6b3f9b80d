"""The result cache: what has been answered is not solved again while it would be answered alike."""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from engine_ops.server.questions import Question

_ENTRY_BYTES: Final = 400
"""What an entry takes beside the answer: the key, two objects, a place in the dictionary."""

_LARGEST_SHARE: Final = 4
"""An answer that would fill more than one part in so many is not kept: it would push out everything else."""


class _Entry(NamedTuple):
    answer: bytes
    until: float


class ResultCache:
    """Answers by the content of their questions; the least recently used go first.

    Parameters
    ----------
    max_entries
        How many are kept; 0 for none.
    max_bytes
        How large they are together.
    clock
        Seconds that only go up.
    """

    def __init__(self, *, max_entries: int, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._answers: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0
        self._hits = 0
        self._misses = 0
        self._bypasses = 0
        self._stores = 0
        self._evictions = 0
        self._too_large = 0

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        return self.max_entries > 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: bytes) -> bytes | None:
        """Return the answer that was put under a key; None where there is none (any more)."""
        entry = self._answers.get(key)
        if entry is not None and entry.until <= self._clock():
            self._drop(key)
            entry = None
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._answers.move_to_end(key)
        return entry.answer

    def bypass(self) -> None:
        """Count a question whose caller wants no answer of the cache."""
        self._bypasses += 1

    def put(self, key: bytes, answer: bytes, seconds: float = math.inf) -> None:
        """Keep an answer for some time, in the place of an earlier one under this key."""
        if not self.enabled:
            return
        size = len(answer) + _ENTRY_BYTES
        if size * _LARGEST_SHARE > self.max_bytes:
            self._too_large += 1
            return
        if key in self._answers:
            self._drop(key)
        self._answers[key] = _Entry(answer, self._clock() + seconds)
        self._bytes += size
        self._stores += 1
        while len(self._answers) > self.max_entries or self._bytes > self.max_bytes:
            self._drop(next(iter(self._answers)))
            self._evictions += 1

    def _drop(self, key: bytes) -> None:
        self._bytes -= len(self._answers.pop(key).answer) + _ENTRY_BYTES

    def stats(self) -> dict[str, Any]:
        """Return numbers: ``hits``, ``misses``, ``hitRatio`` (None before the first), ``entries``, ``bytes`` ..."""
        read = self._hits + self._misses
        return {
            "hits": self._hits,
            "misses": self._misses,
            "hitRatio": self._hits / read if read else None,
            "bypasses": self._bypasses,
            "entries": len(self._answers),
            "maxEntries": self.max_entries,
            "bytes": self._bytes,
            "maxBytes": self.max_bytes,
            "stores": self._stores,
            "evictions": self._evictions,
            "tooLarge": self._too_large,
        }


def cache_key(question: Question, *, content: bytes, lineup: str) -> bytes:
    """Return the key of a question: equal for questions that are answered alike.

    Parameters
    ----------
    question
        The question. Its id and who asks it do not matter; the namespace does: whether something is an answer of the
        cache tells what was asked before, and who may ask in one namespace need not know what is asked in another.
    content
        Digest of its data and constraints, which does not depend on how they were written.
    lineup
        `engine_ops.server.backend.Engine.lineup` for it.
    """
    asked = [question.namespace, question.type, question.plugin, question.search_seconds, lineup]
    head = msgspec.json.encode(asked)
    return hashlib.sha256(b"\0".join((head, content))).digest()
