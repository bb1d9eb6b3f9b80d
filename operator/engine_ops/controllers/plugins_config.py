"""Where the operator's plugins run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginsConfig:
    """Where the operator's plugins run.

    Parameters
    ----------
    host
        The socket of a plugin host that runs already, such as a second container; None for one of our own.
    services
        ``namespace/name`` of a Service to its address, where it is not the cluster's own: for plugin authors.
    state_directory
        Where models are kept that no ConfigMap can hold; None for nowhere.
    """

    host: str | None = None
    services: Mapping[str, str] = dataclasses.field(default_factory=dict)
    state_directory: str | None = None
