"""What a plugin says of itself once it is ready, within bounds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine_ops.engine.solvers import TYPES
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
from engine_ops.plugins.base import BaseOptimizationPlugin, Plugin, PluginError
from engine_ops.plugins.fields import MAX_NAME
from engine_ops.plugins.messages import MAX_SCHEMA_BYTES, Opened
from engine_ops.plugins.registered import metadata_of
from engine_ops.plugins.session_guard import guarded, text_of
from engine_ops.plugins.session_request import empty_request

logger = logging.getLogger(__name__)

_MAX_VERSION: Final = 64
_MAX_DESCRIPTION: Final = 1024


def opened(plugin: Plugin) -> Opened:
    """Return what a plugin that is initialised says of itself.

    Raises
    ------
    PluginError
        If it says nothing of itself, or something of the wrong kind.
    """
    metadata = guarded("metadata", lambda: metadata_of(plugin))
    author = text_of(metadata.author, MAX_NAME)
    return Opened(
        name=text_of(metadata.name, MAX_NAME),
        version=text_of(metadata.version, _MAX_VERSION),
        description=text_of(metadata.description, _MAX_DESCRIPTION),
        author=author or None,
        types=types_of(plugin, metadata),
        config_schema=_config_schema(plugin),
        has_model=has_model(plugin),
        is_trained=is_trained(plugin),
        model_id=model_id_of(plugin),
    )


def types_of(plugin: Plugin, metadata: PluginMetadata) -> tuple[str, ...]:
    """Return the request types that a plugin may be asked for.

    Those that its ``can_handle`` says yes to; where that fails, those of its ``supported_types``. A
    `BaseOptimizationPlugin` is shown a request with nothing in it: one that says no to that may be waiting for a field,
    so that what it lists counts as well. It is asked again with each request.
    """
    return tuple(kind for kind in TYPES if _handles(plugin, metadata, kind))


def can_handle(plugin: BaseOptimizationPlugin, request: Any) -> bool:
    """Return whether a plugin takes a request.

    Raises
    ------
    PluginError
        If its ``can_handle`` fails, or says neither True nor False.
    """
    return _true_or_false(lambda: plugin.can_handle(request))


def has_model(plugin: Plugin) -> bool:
    """Whether a plugin can be trained."""
    return callable(attribute(plugin, "train_model"))


def model_of(plugin: Plugin) -> Any:
    """Return a plugin's model; None where it has none."""
    return attribute(plugin, "model")


def is_trained(plugin: Plugin) -> bool | None:
    """Return whether a plugin's model says that it is trained; None where it does not say."""
    said = attribute(model_of(plugin), "is_trained")
    # Not isinstance: it asks what is no bool for its __class__.
    return said if said is True or said is False else None


def model_id_of(plugin: Plugin) -> str:
    """Return what a plugin's model is called; empty where it has none, or no name."""
    return text_of(attribute(model_of(plugin), "model_id"), MAX_NAME)


def _handles(plugin: Plugin, metadata: PluginMetadata, kind: str) -> bool:
    listed = metadata.supported_types
    is_listed = guarded("supported_types", lambda: listed is None or kind in listed)
    try:
        if isinstance(plugin, MLPluginInterface):
            return _true_or_false(lambda: plugin.can_handle(kind))
        return can_handle(plugin, empty_request(kind)) or (listed is not None and is_listed)
    except PluginError:
        return is_listed


def _true_or_false(function: Callable[[], object]) -> bool:
    answer = guarded("can_handle", function)
    if answer is not True and answer is not False:
        raise PluginError(f"can_handle must return True or False, not {type(answer).__name__}")
    return answer is True


def _config_schema(plugin: Plugin) -> bytes:
    schema = attribute(plugin, "config_schema")
    if schema is None:
        return b""
    try:
        encoded = guarded("config_schema", lambda: msgspec.json.encode(schema.model_json_schema()))
    except PluginError:
        return b""
    if len(encoded) > MAX_SCHEMA_BYTES:
        logger.warning("the JSON schema of the settings is %d bytes long, and not shown", len(encoded))
        return b""
    return encoded


def attribute(owner: object, name: str) -> Any:
    """Return an attribute, which may be a property of the plugin's; None where it cannot be had."""
    try:
        return getattr(owner, name, None)
    except BaseException:  # noqa: BLE001 - foreign code
        return None
