"""The kopf handler of OptimizationRequests."""

from __future__ import annotations

from typing import Any

import kopf

from engine_ops.api.base import GROUP, VERSION
from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.controllers.reconciler import RequestReconciler
from engine_ops.controllers.view import RequestView


def register(registry: kopf.OperatorRegistry, reconciler: RequestReconciler) -> None:
    """Have kopf tell the reconciler of every object.

    `kopf.on.event` and nothing else: change handlers would write annotations, timers would add finalizers.
    """

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        view = RequestView.of(event["object"])
        if event["type"] == "DELETED":
            reconciler.gone(view)
        else:
            reconciler.observe(view)
