"""What is said to a plugin's process or service, and what it says: typed, never unpickled."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from engine_ops.history.feed import HistoryUpdate

MAX_REPLY_BYTES: Final = 8 * 2**20
"""Of one message from a plugin. A longer one ends its process."""

MAX_STATE_BYTES: Final = 64 * 2**20
"""Of a trained model's state; a larger one is not kept, and the model trained again instead."""

MAX_MESSAGE_BYTES: Final = MAX_STATE_BYTES + MAX_REPLY_BYTES
"""Of any message: one with a state and what goes with it."""

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

    name: str
    version: str
    description: str
    types: tuple[str, ...]
    author: str | None = None
    config_schema: bytes = b""
    has_model: bool = False
    is_trained: bool | None = None
    model_id: str = ""


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
    message: str
    faults: tuple[tuple[str, str], ...] = ()


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
    no: str | None = None
    failed: bool = False
    scored: dict[str, float] = {}
    model_id: str | None = None
    claimed_confidence: float | None = None
    is_trained: bool | None = None
    duration_us: int = 0


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

    model_id: str
    samples: int
    digest: str
    state: bytes = b""
    training_metadata: bytes = b"{}"
    is_trained: bool | None = None
    duration_ms: int = 0


Message = Open | Ask | Train | HistoryUpdate | Close
"""To the plugin. A `HistoryUpdate` is not answered; everything else is, in order."""

Answer = Opened | Broken | Replied | Trained
"""From the plugin."""
