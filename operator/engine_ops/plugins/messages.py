"""What is said to a plugin's process or service, and what it says: typed, bounded, never unpickled."""

from __future__ import annotations

import sys
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from engine_ops.history.feed import HistoryUpdate

MAX_REPLY_BYTES: Final = 8 * 2**20
"""Of one message from a plugin. A longer one ends its process."""

MAX_STATE_BYTES: Final = 64 * 2**20
"""Of a trained model's state; a larger one is not kept, and the model trained again instead."""

MAX_MESSAGE_BYTES: Final = MAX_STATE_BYTES + MAX_REPLY_BYTES
"""Of any message: one with a state and what goes with it."""

MAX_LINE: Final = 1024
"""Characters of a sentence of a plugin's, or about one."""

MAX_FAULTS: Final = 64
"""Faults of the settings that are named."""

MAX_TEXT: Final = 253
"""Characters of a name."""

MAX_SCORED: Final = 64
"""Amounts of a prediction that are scored; beside them are its duration and its success rate."""

MAX_SCHEMA_BYTES: Final = 32 * 1024
"""Of the JSON schema of the settings; a longer one is not shown."""

MAX_METADATA_BYTES: Final = 16 * 1024
"""Of what a model tells of its training, as JSON; more is not kept."""

# What comes from a plugin's process may be written by the plugin: a frame over these bounds is none. They hold when a
# frame is decoded, on the event loop, and lengths are looked at before what they count.
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Line = Annotated[str, Meta(max_length=MAX_LINE)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$", max_length=71)]
_Amount = Annotated[float, Meta(ge=0, le=sys.float_info.max)]  # neither infinite nor NaN
_Share = Annotated[float, Meta(ge=0, le=1)]
_ScoredKey = Annotated[str, Meta(max_length=MAX_TEXT + 32)]

DataFormat = Literal["json", "json-or-yaml"]


class Open(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """Load the plugin's class, make one, initialise it. The first message; answered with `Opened` or `Broken`.

    Parameters
    ----------
    entry_point
        ``package.module:Class``.
    name
        The plugin's name for the one who asks; in logs.
    config
        JSON of an object: the plugin's own settings.
    state
        A trained model's, see `engine_ops.plugins.model_state`; empty for none.
    """

    entry_point: str
    name: str
    config: bytes = b"{}"
    state: bytes = b""


class Ask(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """Answer a request. Answered with `Replied`.

    Parameters
    ----------
    request_id
        Of the request.
    type
        One of `engine_ops.engine.solvers.TYPES`.
    data
        The problem, encoded as ``data_format`` says.
    constraints
        JSON of an object; empty for none.
    data_format
        ``json-or-yaml`` for text that a user wrote (a ConfigMap): JSON is tried first, then YAML.
    extra
        JSON of an object whose fields stand beside ``type`` and ``constraints``: ``timestamp`` (epoch ms),
        ``namespace``, ``workload`` {namespace, kind, name} where the request names one.
    """

    request_id: str
    type: str
    data: bytes
    constraints: bytes = b""
    data_format: DataFormat = "json"
    extra: bytes = b""


class Train(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """Train the model on the history that was sent before. Answered with `Trained` or `Broken`.

    Parameters
    ----------
    replay
        A request to be replayed by a plugin that does not show whether it is trained: its ``optimize`` is called with
        the history, so that it trains itself now and not in a request.
    """

    replay: Ask | None = None


class Close(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """Shut the plugin down and end. Answered by the end of the stream."""


class Opened(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """The plugin is ready.

    Parameters
    ----------
    name, version, description, author
        What the plugin says of itself.
    types
        The request types that it can handle.
    config_schema
        JSON schema of its settings; empty where it has none.
    has_model
        Whether it can be trained: it has ``train_model``.
    is_trained
        Whether its model says that it is trained; None where it does not say.
    model_id
        Of the model; empty without one.
    """

    name: _Text
    version: _Text
    description: _Line
    types: Annotated[tuple[_Text, ...], Meta(max_length=64)]
    author: _Text | None = None
    config_schema: Annotated[bytes, Meta(max_length=MAX_SCHEMA_BYTES)] = b""
    has_model: bool = False
    is_trained: bool | None = None
    model_id: _Text = ""


class Broken(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """What was asked of the plugin failed.

    Parameters
    ----------
    stage
        ``import``, ``config`` (its schema rejects the settings), ``init``, ``load`` (of the state) or ``train``.
    message
        One line for people.
    faults
        Path and message of each fault of the settings; the paths begin with ``config``.
    """

    stage: Literal["import", "config", "init", "load", "train"]
    message: _Line
    faults: Annotated[tuple[tuple[_Line, _Line], ...], Meta(max_length=MAX_FAULTS)] = ()


class Replied(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """What the plugin said to a request.

    Parameters
    ----------
    envelope
        JSON of what it returned, ``{success, result, confidence, model_id}``; for `engine_ops.plugins.answers`.
        Empty where there is nothing to be read.
    no
        Why there is no result, if there is none.
    failed
        Whether the plugin is at fault: it raised, or returned what is no answer. It has not crashed.
    scored
        The numbers in it that can be scored, by key; see `engine_ops.ml.scoring.scored_values`.
    model_id, claimed_confidence
        As the plugin has them.
    is_trained
        See `Opened`.
    duration_us
        Time in the plugin, microseconds.
    """

    envelope: bytes = b""
    no: _Line | None = None
    failed: bool = False
    scored: Annotated[dict[_ScoredKey, _Amount], Meta(max_length=MAX_SCORED + 2)] = {}
    model_id: _Text | None = None
    claimed_confidence: _Share | None = None
    is_trained: bool | None = None
    duration_us: _Count = 0


class Trained(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """The model is trained, in this very process.

    Parameters
    ----------
    model_id
        Of the model.
    samples
        Points it was given.
    state
        What its ``save`` returned, see `engine_ops.plugins.model_state`; empty where it has no saved form.
    digest
        ``sha256:...`` of the state; of the training's circumstances where there is none.
    training_metadata
        JSON of an object: what the model tells of its training, bounded.
    is_trained
        See `Opened`.
    duration_ms
        Of the training.
    """

    model_id: _Text
    samples: _Count
    digest: _Digest
    state: Annotated[bytes, Meta(max_length=MAX_STATE_BYTES)] = b""
    training_metadata: Annotated[bytes, Meta(max_length=MAX_METADATA_BYTES)] = b"{}"
    is_trained: bool | None = None
    duration_ms: _Count = 0


Message = Open | Ask | Train | HistoryUpdate | Close
"""To the plugin. A `HistoryUpdate` is not answered; everything else is, in order."""

Answer = Opened | Broken | Replied | Trained
"""From the plugin."""
