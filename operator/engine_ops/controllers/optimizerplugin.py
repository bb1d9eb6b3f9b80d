"""The kopf handler of OptimizerPlugins."""

from __future__ import annotations

from typing import Any

import kopf

from engine_ops.api.base import GROUP, VERSION
from engine_ops.api.optimizerplugin import PLURAL
from engine_ops.controllers.plugin_reconciler import PluginReconciler
from engine_ops.controllers.view import PluginView


def register(registry: kopf.OperatorRegistry, reconciler: PluginReconciler) -> None:
    """Have kopf tell the reconciler of every plugin. They are cluster-scoped, whatever namespaces are watched.

    `kopf.on.event` and nothing else: change handlers would write annotations, timers would add finalizers.
    """

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        view = PluginView.of(event["object"])
        if event["type"] == "DELETED":
            reconciler.gone(view)
        else:
            reconciler.observe(view)
