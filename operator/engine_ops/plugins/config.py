"""How a registered plugin is used."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Self, get_args

from engine_ops.api.optimizerplugin import PluginLimits
from engine_ops.engine.request import RequestType

_TYPES = frozenset(get_args(RequestType))


@dataclasses.dataclass(frozen=True, slots=True)
class PluginConfig:
    """How a plugin is used: whether it is asked, before whom, with which settings.

    Parameters
    ----------
    enabled
        Whether it is asked. Disabling keeps it, and what it has learned.
    priority
        Of all plugins that can handle a request, the one of highest priority is asked first.
    config
        The plugin's own settings, as JSON values. Copied.
    limits
        What one worker of the plugin may use. Only workers are limited: a plugin that is called in the caller's own
        process is not.
    supported_types
        The request types that it is asked for, at most; None leaves it to the plugin.

    Raises
    ------
    ValueError
        If a value is of the wrong kind; the message names the field.
    """

    enabled: bool = True
    priority: int = 0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limits: PluginLimits = dataclasses.field(default_factory=PluginLimits)
    supported_types: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        # What comes in may be a user's YAML: types are not checked there.
        given: dict[str, object] = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not isinstance(given["enabled"], bool):
            raise ValueError(f"enabled: must be true or false, not {self.enabled!r}")
        if not isinstance(given["priority"], int) or isinstance(given["priority"], bool):
            raise ValueError(f"priority: must be a whole number, not {self.priority!r}")
        if not isinstance(given["config"], Mapping):
            raise ValueError(f"config: must be an object, not {type(self.config).__name__}")
        if not isinstance(given["limits"], PluginLimits):
            raise ValueError(f"limits: must be PluginLimits, not {type(self.limits).__name__}")
        object.__setattr__(self, "config", copy.deepcopy(dict(self.config)))
        if self.supported_types is not None:
            object.__setattr__(self, "supported_types", _request_types(given["supported_types"]))

    def changed(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with some fields changed.

        Parameters
        ----------
        changes
            Field name to its new value. ``config`` is replaced as a whole, never merged.

        Raises
        ------
        ValueError
            If a field is unknown or a value is wrong; the message names the field.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"{name}: unknown field; known are {', '.join(known)}")
        return dataclasses.replace(self, **changes)

    def settings(self) -> dict[str, Any]:
        """Return a copy of `config` that a plugin may change as it likes."""
        return copy.deepcopy(dict(self.config))


def _request_types(given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, (list, tuple, set, frozenset)):
        raise ValueError(f"supported_types: must be a list, not {type(given).__name__}")
    for each in given:
        if each not in _TYPES:
            raise ValueError(f"supported_types: {each!r} is none of {', '.join(sorted(_TYPES))}")
    return tuple(sorted(set(given)))
