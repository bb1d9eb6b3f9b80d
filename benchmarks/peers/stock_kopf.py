"""The obvious way with kopf: its stock create and update handlers, its own patch, default settings and storages.

It writes the same constant answer as the bare watch. Takes KUBECONFIG; prints ``ready`` when it begins to list; ends on
SIGTERM.
"""

from __future__ import annotations

from typing import Any

import kopf
import uvloop
from answer import status

RESOURCE = ("engineops.dev", "v1alpha1", "optimizationrequests")


@kopf.on.startup()
async def tell(**_: Any) -> None:
    print("ready", flush=True)


@kopf.on.create(*RESOURCE)
@kopf.on.update(*RESOURCE)
async def answer(meta: kopf.Meta, patch: kopf.Patch, **_: Any) -> None:
    patch.status.update(status(meta["generation"]))


if __name__ == "__main__":
    kopf.configure()
    uvloop.run(kopf.operator(standalone=True, clusterwide=True))
