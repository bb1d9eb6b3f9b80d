"""Plugins and requests: those that are not as their owners want them."""

from __future__ import annotations

import collections
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine_ops.api.conditions import READY, find
from engine_ops.cli.ages import format_age, seconds_since
from engine_ops.cli.checks.finding import Finding, finding, note, ok, unknown
from engine_ops.cli.hints import PLUGIN_HINTS, REQUEST_HINTS
from engine_ops.cli.plugin_rows import is_well, state_of
from engine_ops.kube.glance import Part
from engine_ops.kube.reading import RequestRow

MAX_NAMED: Final = 3
UNSEEN_SECONDS: Final = 60.0
"""A request of which the operator has not spoken for so long is not simply new."""


def check_plugins(part: Part[list[dict[str, Any]]], namespace: str) -> list[Finding]:
    """Look for plugins that cannot be asked.

    Parameters
    ----------
    part
        All plugins.
    namespace
        The operator's.
    """
    if part.error is not None:
        return [unknown("plugins", part.error)]
    plugins = part.value or []
    found = [_unwell(plugin, namespace) for plugin in plugins if not is_well(plugin)]
    if found:
        return found
    enabled = sum(1 for plugin in plugins if (plugin.get("spec") or {}).get("enabled", True))
    return [ok("plugins", f"{len(plugins)}, {enabled} of them enabled" if plugins else "there are none")]


def _unwell(plugin: Mapping[str, Any], namespace: str) -> Finding:
    name, state = plugin["metadata"]["name"], state_of(plugin)
    status = plugin.get("status") or {}
    condition = find(status, "Degraded") if (find(status, "Degraded") or {}).get("status") == "True" else None
    condition = condition or find(status, READY)
    if condition is None:
        message = f"{name}: the operator has not spoken of it: it does not follow plugins"
        fix = f"see why: kubectl logs -n {namespace} deployment/engine-ops -c operator | grep -i plugin"
        return finding("plugins", message, fix)
    hint = PLUGIN_HINTS.get(state, "engine-ops plugins {name}")
    said = condition.get("message") or "no more is said"
    return finding("plugins", f"{name}: {state}: {said}", hint.format(name=name, namespace=namespace))


def check_requests(part: Part[list[RequestRow]], counted: str, now: datetime.datetime) -> list[Finding]:
    """Look for requests that are stalled, or that nobody answers; say what others wait for.

    Parameters
    ----------
    part
        All requests.
    counted
        The namespace whose requests they are; empty for all.
    now
        UTC.
    """
    if part.error is not None:
        return [unknown("requests", part.error)]
    rows = part.value or []
    found = []
    for reason, group in _by_reason(rows, "stalled").items():
        said = group[0].to_dict()["message"]
        # One sentence of several would else read as that of the last one named.
        message = f"{len(group)} stalled, {reason}: {_named(group)}{'; the first' if len(group) > 1 else ''}: {said}"
        found.append(finding("requests", message, REQUEST_HINTS.get(reason, _explain(group[0]))))
    unseen = [row for row in rows if row.state == "unseen" and _age(row, now) > UNSEEN_SECONDS]
    if unseen:
        message = (
            f"{len(unseen)} without a word from the operator for {format_age(min(_age(row, now) for row in unseen))}"
        )
        fix = "see whether it serves (lease, above), and whether it watches their namespace"
        found.append(finding("requests", f"{message}: {_named(unseen)}", fix))
    waiting = [
        note("requests", f"{len(group)} waiting, {reason}: {_named(group)}", REQUEST_HINTS.get(reason, ""))
        for reason, group in _by_reason(rows, "waiting").items()
    ]
    where = f" in namespace {counted}, the only one that you may list" if counted else ""
    if not rows:
        return [ok("requests", f"there are none{where}")]
    well = len(rows) - sum(1 for row in rows if row.state in ("stalled", "waiting")) - len(unseen)
    return [*found, *waiting] if found else [ok("requests", f"{len(rows)}{where}, {well} as they should be"), *waiting]


def _by_reason(rows: Sequence[RequestRow], state: str) -> dict[str, list[RequestRow]]:
    groups = collections.defaultdict(list)
    for row in rows:
        if row.state == state:
            groups[str(row.to_dict()["reason"])].append(row)
    return dict(groups)


def _named(rows: Sequence[RequestRow]) -> str:
    names = [f"{row.metadata.namespace}/{row.metadata.name}" for row in rows[:MAX_NAMED]]
    more = len(rows) - MAX_NAMED
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _explain(row: RequestRow) -> str:
    return f"engine-ops explain {row.metadata.name} -n {row.metadata.namespace}"


def _age(row: RequestRow, now: datetime.datetime) -> float:
    return seconds_since(row.metadata.creation_timestamp, now) or 0.0
