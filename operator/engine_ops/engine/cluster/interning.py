"""Equal things kept once: strings, lists of requests, kinds of pods."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from typing import Final

import msgspec

from engine_ops.engine.cluster.records import PodKind

MAX_STRINGS: Final = 100_000
"""Beyond so many the table of strings is emptied. What was shared stays shared; only later strings start anew."""

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


class Interner:
    """Tables of what was seen. Kinds leave theirs with the last pod that has them."""

    def __init__(self) -> None:
        # Not sys.intern: in Python 3.12 what is interned there is never freed.
        self._strings: dict[str, str] = {}
        self._kinds: weakref.WeakValueDictionary[bytes, PodKind] = weakref.WeakValueDictionary()

    def text(self, text: str) -> str:
        """Return the string that stands for all equal ones."""
        if len(self._strings) >= MAX_STRINGS:
            self._strings.clear()
        return self._strings.setdefault(text, text)

    def mapping(self, mapping: Mapping[str, str] | None) -> dict[str, str]:
        """Return a dict of shared keys and values."""
        text = self.text
        return {text(key): text(value) for key, value in mapping.items()} if mapping else {}

    def kind(self, kind: PodKind) -> PodKind:
        """Return the kind that stands for all equal ones."""
        key = hashlib.blake2b(_ENCODER.encode(kind), digest_size=16).digest()
        known = self._kinds.get(key)
        if known is None:
            self._kinds[key] = known = kind
        return known

    def __len__(self) -> int:
        """Return the number of kinds in use."""
        return len(self._kinds)
