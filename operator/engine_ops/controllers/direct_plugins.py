"""Plugins as the REST API and health show them."""

from __future__ import annotations

import datetime
from typing import Any, Final

from engine_ops.controllers.plugin_status import counts_of, status_of
from engine_ops.plugins.hosted import HostedPlugin
from engine_ops.plugins.manager import PluginManager
from engine_ops.server.backend import PluginInfo

_SHOWN: Final = ("model", "candidate", "skill", "score", "confidence", "claimedConfidence", "latency", "lastError")
"""Fields of the resource's status, shown as they are there."""


def plugin_info(hosted: HostedPlugin) -> PluginInfo:
    """Return a plugin as the REST API shows it."""
    snapshot, spec = hosted.snapshot(), hosted.spec
    listed = () if spec.supported_types is None else tuple(str(each) for each in spec.supported_types)
    status = status_of(snapshot, {}, 0, datetime.datetime.now(datetime.UTC))
    shown: dict[str, Any] = {"state": str(snapshot.state), "message": snapshot.message}
    if snapshot.trained is not None:
        reason, message = snapshot.trained
        shown["trained"] = {"status": snapshot.is_trained, "reason": str(reason), "message": message}
    if snapshot.degraded is not None:
        shown["degraded"] = snapshot.degraded
    shown |= {name: status[name] for name in _SHOWN if name in status}
    shown["counts"] = counts_of(snapshot.counts)
    return PluginInfo(
        name=hosted.name,
        version=snapshot.version,
        description=snapshot.description,
        types=snapshot.types or listed,
        enabled=spec.enabled,
        priority=spec.priority,
        config=dict(spec.config or {}),
        status=shown,
    )


def plugins_health(manager: PluginManager) -> dict[str, object]:
    """Return what health says of the plugins, as JSON values, by name."""
    shown: dict[str, object] = {}
    for name in manager.names():
        snapshot = manager.snapshot(name)
        if snapshot is not None:
            shown[name] = {
                "state": snapshot.state,
                **counts_of(snapshot.counts),
                "lastError": snapshot.last_error.message if snapshot.last_error is not None else None,
            }
    return shown
