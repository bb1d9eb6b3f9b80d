"""What `engine-ops plugins` prints: a row for each plugin, or all of one."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops.api.conditions import READY, RECONCILING, STALLED, find, is_true
from engine_ops.cli.ages import format_age, seconds_since
from engine_ops.cli.colours import Colour, Painted, show
from engine_ops.cli.printing import format_table, format_yaml, safe

HEADERS: Final = (
    "NAME",
    "ENABLED",
    "PRIORITY",
    "STATE",
    "TYPES",
    "VERSION",
    "SKILL",
    "REQUESTS",
    "ANSWERS",
    "FAILURES",
    "AGE",
)

_DEGRADED: Final = "Degraded"
_COUNTS: Final = ("requests", "answers", "failures", "declined", "leftOut", "fallbacks")


def state_of(plugin: Mapping[str, Any]) -> str:
    """Return the reason of the condition Ready, or of Degraded where that is true; Unseen where there is none."""
    status = plugin.get("status") or {}
    degraded = find(status, _DEGRADED)
    if degraded is not None and degraded.get("status") == "True":
        return str(degraded.get("reason") or _DEGRADED)
    ready = find(status, READY)
    return "Unseen" if ready is None else str(ready.get("reason") or "Unknown")


def is_well(plugin: Mapping[str, Any]) -> bool:
    """Whether the plugin is as its owner wants it: it can be asked, or is disabled."""
    status = plugin.get("status") or {}
    return is_true(status, READY) and not is_true(status, _DEGRADED) and not is_true(status, STALLED)


def plugin_to_dict(plugin: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plugin as the REST API shows it, with its settings and its status."""
    spec, status = plugin.get("spec") or {}, dict(plugin.get("status") or {})
    return {
        "name": plugin["metadata"]["name"],
        "version": status.get("version", ""),
        "description": status.get("description", ""),
        "supportedTypes": status.get("types") or spec.get("supportedTypes") or [],
        "config": {"enabled": spec.get("enabled", True), "priority": spec.get("priority", 0)},
        "settings": spec.get("config") or {},
        "source": spec.get("source") or {},
        "status": status,
    }


def format_plugins(plugins: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of all plugins, the one that is asked first at the top; empty for none."""
    if not plugins:
        return ""
    now = datetime.datetime.now(datetime.UTC)
    ordered = sorted(plugins, key=_asked_first)
    return format_table(HEADERS, [_cells(plugin, now) for plugin in ordered])


def format_plugin(plugin: Mapping[str, Any]) -> str:
    """Return all of one plugin, for people."""
    return "".join(f"{line}\n" for line in _lines(plugin))


def _asked_first(plugin: Mapping[str, Any]) -> tuple[bool, int, str]:
    spec = plugin.get("spec") or {}
    return (not spec.get("enabled", True), -int(spec.get("priority", 0)), plugin["metadata"]["name"])


def _painted_state(plugin: Mapping[str, Any]) -> str:
    state, status = state_of(plugin), plugin.get("status") or {}
    if not (plugin.get("spec") or {}).get("enabled", True):
        return Painted(state, Colour.PALE)
    if is_well(plugin):
        return Painted(state, Colour.GOOD)
    waits = is_true(status, RECONCILING) and not is_true(status, _DEGRADED)
    return Painted(state, Colour.WAITING if waits or not status.get("conditions") else Colour.BAD)


def _cells(plugin: Mapping[str, Any], now: datetime.datetime) -> tuple[str, ...]:
    spec, status = plugin.get("spec") or {}, plugin.get("status") or {}
    counts = status.get("counts") or {}
    return (
        plugin["metadata"]["name"],
        "true" if spec.get("enabled", True) else "false",
        str(spec.get("priority", 0)),
        _painted_state(plugin),
        ",".join(status.get("types") or spec.get("supportedTypes") or ()),
        str(status.get("version", "")),
        str(status.get("skill", "")),
        *(str(counts.get(name, "")) for name in ("requests", "answers", "failures")),
        format_age(seconds_since(plugin["metadata"].get("creationTimestamp"), now)),
    )


def _lines(plugin: Mapping[str, Any]) -> Iterator[str]:
    known, spec = plugin_to_dict(plugin), plugin.get("spec") or {}
    status = known["status"]
    version = f" {known['version']}" if known["version"] else ""
    yield safe(f"{known['name']}{version}") + f": {show(_painted_state(plugin))}"
    if known["description"]:
        yield safe(known["description"])
    yield ""
    source = known["source"]
    service = source.get("service")
    where = (
        source.get("entryPoint", "")
        if service is None
        else f"Service {service.get('namespace')}/{service.get('name')}, port {service.get('port', 80)}"
    )
    facts = [
        ("enabled", "yes" if known["config"]["enabled"] else "no"),
        ("priority", str(known["config"]["priority"])),
        ("mode", str(spec.get("mode", "active"))),
        ("types", ", ".join(known["supportedTypes"]) or "what the plugin says"),
        ("source", where),
        ("limits", _pairs(spec.get("limits"))),
        ("training", _pairs(spec.get("training"))),
        ("model", _model(status.get("model"))),
        ("candidate", _model(status.get("candidate"))),
        ("skill", _skill(status)),
        ("confidence", f"{status['confidence']:.0%}" if isinstance(status.get("confidence"), int | float) else ""),
        ("counts", ", ".join(f"{(status.get('counts') or {}).get(name, 0)} {name}" for name in _COUNTS)),
        ("latency", _pairs(status.get("latency"))),
        ("last error", str(status.get("lastError", ""))),
    ]
    width = max(len(name) for name, _ in facts) + 3
    for name, text in facts:
        if text:
            yield f"{name.ljust(width)}{safe(text)}"
    if known["settings"]:
        yield ""
        yield "config"
        for line in format_yaml([known["settings"]]).splitlines():
            yield f"  {safe(line)}"
    conditions = status.get("conditions") or ()
    if conditions:
        yield ""
        rows = [[str(condition.get(key, "")) for key in _CONDITION] for condition in conditions]
        yield from format_table([key.upper() for key in _CONDITION], rows).splitlines()


_CONDITION: Final = ("type", "status", "reason", "message")


def _pairs(values: Mapping[str, Any] | None) -> str:
    flat = {}
    for name, value in (values or {}).items():
        flat.update(
            {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
        )
    return ", ".join(f"{name} {value}" for name, value in flat.items())


def _model(model: Mapping[str, Any] | None) -> str:
    if not model:
        return ""
    parts = [str(model.get("id", ""))]
    parts += [str(model["digest"])] if model.get("digest") else []
    parts += [f"trained {model['trainedAt']}"] if model.get("trainedAt") else []
    parts += [f"on {model['samples']} points"] if model.get("samples") is not None else []
    parts += [str(model["message"])] if model.get("message") else []
    return ", ".join(parts)


def _skill(status: Mapping[str, Any]) -> str:
    skill, score = status.get("skill"), status.get("score") or {}
    if skill is None:
        return ""
    if not score:
        return str(skill)
    return f"{skill}, of {score.get('outcomes', 0)} outcomes of {score.get('key', '')}"
