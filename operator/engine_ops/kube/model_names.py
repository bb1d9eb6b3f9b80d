"""What the ConfigMaps of a plugin's models are called.

A plugin's name may have all of the 253 characters that a ConfigMap's may have. What does not fit is cut, and a hash of
the whole keeps it apart from others.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

MAX_NAME: Final = 253
MAX_LABEL: Final = 63
_HASH_LENGTH: Final = 16


def index_name(plugin: str) -> str:
    """Return the name of the ConfigMap that says which models a plugin has."""
    return _named("engine-ops-plugin-", plugin)


def model_name(plugin: str, digest: str) -> str:
    """Return the name of the ConfigMap of one state of a plugin's model.

    >>> model_name("durations", "sha256:0123456789abcdef")
    'engine-ops-model-durations-0123456789ab'
    """
    short = digest.rpartition(":")[2][:12].lower()
    if not re.fullmatch(r"[0-9a-f]{12}", short):  # no digest of ours, yet it needs a name
        short = _hash(digest)[:12]
    return _named("engine-ops-model-", plugin, f"-{short}")


def label_value(plugin: str) -> str:
    """Return a plugin's name as the value of a label."""
    return _fitting(plugin, MAX_LABEL)


def _named(prefix: str, plugin: str, suffix: str = "") -> str:
    return f"{prefix}{_fitting(plugin, MAX_NAME - len(prefix) - len(suffix))}{suffix}"


def _fitting(plugin: str, room: int) -> str:
    if len(plugin) <= room:
        return plugin
    return f"{plugin[: room - _HASH_LENGTH - 1].rstrip('-.')}-{_hash(plugin)[:_HASH_LENGTH]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
