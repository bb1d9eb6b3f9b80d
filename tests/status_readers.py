"""Those who wait for an object, each by its own rules: kstatus, kubectl, and Argo CD with the scripts in manifests/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lupa import lua51

ARGOCD = Path(__file__).parents[1] / "manifests" / "argocd"
HEALTH = frozenset({"Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"})
"""What Argo CD takes for a health; anything else becomes Unknown, without the message."""
_LIBRARIES = ("table", "package", "os")
_BASE = (
    "_G", "_VERSION", "assert", "collectgarbage", "dofile", "error", "getfenv", "getmetatable", "ipairs", "load",
    "loadfile", "loadstring", "module", "newproxy", "next", "pairs", "pcall", "print", "rawequal", "rawget", "rawset",
    "require", "select", "setfenv", "setmetatable", "tonumber", "tostring", "type", "unpack", "xpcall",
)  # fmt: skip

Object = Mapping[str, Any]


def script_of(kind: str) -> str:
    """Return the script for a kind."""
    return (ARGOCD / f"{kind.lower()}.lua").read_text(encoding="utf-8")


def argo_health(script: str, judged: Object) -> dict[str, Any]:
    """Run a script as Argo CD does: Lua 5.1 with the libraries base, table and package, the object as global ``obj``.

    Its own rule comes before any script: an object that is being deleted is Progressing. Source: Argo CD 3,
    ``util/lua/lua.go`` and ``gitops-engine/pkg/health/health.go``.

    Raises
    ------
    lupa.lua51.LuaError
        If the script fails.
    """
    if "deletionTimestamp" in judged["metadata"]:
        return {"status": "Progressing", "message": "Pending deletion"}
    lua = lua51.LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    for name in list(lua.globals()):
        if name not in _BASE + _LIBRARIES:
            lua.globals()[name] = None
    lua.execute('getmetatable("").__index = nil')  # no ("x"):upper() either
    lua.globals().obj = _as_lua(lua, json.loads(json.dumps(judged)))
    return dict(lua.execute(script).items())


def kstatus_of(judged: Object) -> str:
    """Read an object as kstatus does a kind that it does not know.

    Deletion, then the generation, then Reconciling and Stalled in the order of the list, then Ready; none of them is
    Current. Source: ``pkg/kstatus/status``, `Compute`, of sigs.k8s.io/cli-utils and of github.com/fluxcd/cli-utils.
    """
    if judged["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = judged.get("status") or {}
    generation = judged["metadata"].get("generation")
    if None not in (generation, status.get("observedGeneration")) and status["observedGeneration"] != generation:
        return "InProgress"
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    for condition in conditions:
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"


def kubectl_waits_no_longer(judged: Object) -> bool:
    """Whether ``kubectl wait --for=condition=Ready`` ends for an object.

    A condition's own observedGeneration goes before the status's. Source: k8s.io/kubectl, pkg/cmd/wait/condition.go.
    """
    status = judged.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"].casefold() == "ready":
            observed = condition.get("observedGeneration", status.get("observedGeneration"))
            behind = observed is not None and observed < judged["metadata"].get("generation", observed)
            return not behind and condition["status"].casefold() == "true"
    return False


def _as_lua(lua: lua51.LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _as_lua(lua, entry) for key, entry in value.items() if entry is not None})
    if isinstance(value, list):
        return lua.table_from([_as_lua(lua, entry) for entry in value])
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
