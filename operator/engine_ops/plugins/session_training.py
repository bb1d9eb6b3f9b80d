"""Training a plugin's model, and what is kept of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import msgspec

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.plugins.base import Plugin, PluginError
from engine_ops.plugins.json_values import RefusedError, json_value
from engine_ops.plugins.messages import MAX_METADATA_BYTES, MAX_STATE_BYTES, Open, Trained
from engine_ops.plugins.model_state import digest_of, encode_state
from engine_ops.plugins.session_guard import describe, guarded
from engine_ops.plugins.session_opened import attribute, is_trained, model_id_of, model_of

logger = logging.getLogger(__name__)


def train(plugin: Any, points: list[WorkloadDataPoint]) -> int:
    """Train a plugin's model. Return how long it took, in milliseconds.

    Parameters
    ----------
    plugin
        One that has ``train_model``.
    points
        All of them, the plugin's own from now on.

    Raises
    ------
    PluginError
        If it fails.
    """
    started = time.monotonic()
    guarded("train_model", lambda: plugin.train_model(points))
    return round((time.monotonic() - started) * 1000)


class Circumstances(NamedTuple):
    """What a model without a saved form is told apart by, beside its name.

    Parameters
    ----------
    entry_point, config
        The plugin and its settings.
    samples
        Points it was trained on.
    newest
        When the last of them was, milliseconds since the epoch.
    """

    entry_point: str
    config: bytes
    samples: int
    newest: int

    @classmethod
    def of(cls, opening: Open, points: Sequence[WorkloadDataPoint]) -> Self:
        """Return those of a training. Called before it: the points are the plugin's, which may change or drop them.

        Parameters
        ----------
        opening
            What the plugin was made of.
        points
            What it is to be trained on; at least one.
        """
        return cls(opening.entry_point, opening.config, len(points), max(point.timestamp for point in points))


def trained(plugin: Plugin, circumstances: Circumstances, duration_ms: int) -> Trained:
    """Return what is sent of a training that is done.

    A state that cannot be kept is no fault of the training: the model is trained again where it would be needed.

    Parameters
    ----------
    plugin
        The plugin, trained.
    circumstances
        Of the training.
    duration_ms
        Of the training.
    """
    state = _state_of(plugin)
    model_id = model_id_of(plugin)
    return Trained(
        model_id=model_id,
        samples=circumstances.samples,
        digest=digest_of(state) if state else _digest_of((*circumstances, model_id)),
        state=state,
        training_metadata=_metadata_of(plugin),
        is_trained=is_trained(plugin),
        duration_ms=duration_ms,
    )


def _state_of(plugin: Plugin) -> bytes:
    model = model_of(plugin)
    save = attribute(model, "save")
    if not callable(save):
        return b""
    try:
        saved: object = guarded("save", save)
        if saved is None:
            return b""
        if not isinstance(saved, Mapping):
            raise PluginError(f"save must return a dict or None, not {type(saved).__name__}")
        state = guarded("save", lambda: encode_state(saved))
    except PluginError as error:
        logger.warning("the model's state is not kept: %s", error)
        return b""
    if len(state) > MAX_STATE_BYTES:
        logger.warning("the model's state is not kept: it has %d bytes, at most %d are", len(state), MAX_STATE_BYTES)
        return b""
    return state


def _metadata_of(plugin: Plugin) -> bytes:
    try:
        metadata = json_value(model_of(plugin).training_metadata, max_bytes=MAX_METADATA_BYTES)
        encoded = msgspec.json.encode(metadata)
    except RefusedError as error:
        logger.warning("the model's training_metadata are not kept: %s", error)
        return b"{}"
    except BaseException as error:  # noqa: BLE001 - foreign code
        logger.warning("the model's training_metadata are not kept: %s", describe(error))
        return b"{}"
    return encoded if isinstance(metadata, dict) and len(encoded) <= MAX_METADATA_BYTES else b"{}"


def _digest_of(circumstances: tuple[object, ...]) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(circumstances)).hexdigest()}"
