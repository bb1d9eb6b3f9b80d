"""What a plugin said to one request, or why it said nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from engine_ops.api.reasons import Reason


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What came of asking a plugin.

    Parameters
    ----------
    plugin
        Its name.
    version
        As it says; empty where that is not known.
    envelope
        JSON of what it returned, for `engine_ops.plugins.answers`; None where there is a ``no``.
    no
        Why there is nothing to serve: one sentence, without the plugin's name and without a full stop.
    fault
        Whether the plugin is to blame for the ``no``: it raised, was too slow, crashed.
    waiting
        Where the ``no`` passes by itself, the reason to wait: `Reason.STARTING`, `Reason.NOT_ENOUGH_DATA`,
        `Reason.TRAINING` or `Reason.PLUGIN_UNAVAILABLE`; None where it does not.
    model_id
        Of the model that answered.
    scored
        The numbers in the reply that its outcome will be held against.
    confidence
        The measured one of that model; None below 30 outcomes.
    claimed_confidence
        What the plugin says of itself.
    declined
        Whether the ``no`` is the plugin's own: it was asked, and said so in good order.
    shadow
        Whether the ``no`` is because it is in shadow: it is asked aside, and never served.
    """

    plugin: str
    version: str = ""
    envelope: bytes | None = None
    no: str | None = None
    fault: bool = False
    waiting: Reason | None = None
    model_id: str | None = None
    scored: Mapping[str, float] = dataclasses.field(default_factory=dict)
    confidence: float | None = None
    claimed_confidence: float | None = None
    declined: bool = False
    shadow: bool = False
