"""What `engine-ops status` shows."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops import __version__
from engine_ops.cli.ages import format_age, seconds_since
from engine_ops.cli.colours import Colour, Painted, show
from engine_ops.cli.plugin_rows import format_plugins, is_well, plugin_to_dict
from engine_ops.cli.printing import safe
from engine_ops.cli.requests import STATES
from engine_ops.kube.connection import Connection
from engine_ops.kube.glance import Glance, Part, look, part_of, pod_troubles
from engine_ops.kube.reading import RequestRow, list_plugins, list_requests

MAX_REASONS: Final = 5
"""Reasons that are counted by name for each state."""

_WIDTH: Final = 13
_COLOURS: Final = {"stalled": Colour.BAD, "waiting": Colour.WAITING, "unseen": Colour.WAITING}


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """The operator, its requests and its plugins.

    Parameters
    ----------
    glance
        What there is of the operator.
    requests, plugins
        All there are.
    counted
        The namespace whose requests they are; empty for all.
    now
        When it was read.
    """

    glance: Glance
    requests: Part[list[RequestRow]]
    plugins: Part[list[dict[str, Any]]]
    counted: str
    now: datetime.datetime

    @property
    def nothing_readable(self) -> bool:
        """Whether every part was refused."""
        return all(part.error is not None for part in self._parts().values())

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON values; null for what is not there or may not be read."""
        refused = {name: part.error.message for name, part in self._parts().items() if part.error is not None}
        return {
            "cliVersion": __version__,
            "namespace": self.glance.namespace,
            "deployment": self._deployment(),
            "pods": None if self.glance.pods.value is None else [_pod(pod) for pod in self.glance.pods.value],
            "lease": self._lease(),
            "requests": self._requests(),
            "plugins": None
            if self.plugins.value is None
            else {"count": len(self.plugins.value), "plugins": [plugin_to_dict(one) for one in self.plugins.value]},
            "history": None if self.glance.conditions.value is None else {"conditions": self.glance.conditions.value},
            "refused": refused,
        }

    def to_text(self) -> str:
        """Return the same for people."""
        parts: Sequence[tuple[str, Iterator[str]]] = (
            ("operator", self._operator_lines()),
            ("lease", self._lease_lines()),
            ("history", self._history_lines()),
            ("requests", self._request_lines()),
            ("plugins", self._plugin_lines()),
        )
        text = ""
        for name, lines in parts:
            for number, line in enumerate(lines):
                text += f"{('' if number else name).ljust(_WIDTH)}{line}\n"
        if self.plugins.value:
            text += "\n" + format_plugins(self.plugins.value)
        return text

    def _parts(self) -> dict[str, Part[Any]]:
        glance = self.glance
        return {
            "deployment": glance.deployment,
            "pods": glance.pods,
            "lease": glance.lease,
            "history": glance.conditions,
            "requests": self.requests,
            "plugins": self.plugins,
        }

    def _deployment(self) -> dict[str, Any] | None:
        found = self.glance.deployment.value
        if found is None:
            return None
        return {
            "image": found.image,
            "version": self.glance.version,
            "replicas": found.wanted,
            "readyReplicas": found.ready,
            "watchedNamespaces": list(found.watched),
            "createdAt": found.created_at,
            "message": found.message or None,
        }

    def _lease(self) -> dict[str, Any] | None:
        found = self.glance.lease.value
        if found is None:
            return None
        return {
            "holder": found.holder or None,
            "renewedAt": found.renewed_at or None,
            "durationSeconds": found.duration_seconds,
            "held": found.fresh(self.now),
        }

    def _requests(self) -> dict[str, Any] | None:
        rows = self.requests.value
        if rows is None:
            return None
        states = collections.Counter(row.state for row in rows)
        return {
            "namespace": self.counted or None,
            "count": len(rows),
            "byState": {state: states[state] for state in STATES},
            "byReason": {state: dict(reasons.most_common()) for state, reasons in _reasons(rows).items()},
        }

    def _operator_lines(self) -> Iterator[str]:
        part, namespace = self.glance.deployment, self.glance.namespace
        found = part.value
        if found is None:
            yield _refused(part) or f"no Deployment engine-ops in namespace {namespace}"
            return
        well = found.ready >= found.wanted > 0
        ready = Painted(f"{found.ready}/{found.wanted} ready", Colour.GOOD if well else Colour.BAD)
        age = format_age(seconds_since(found.created_at, self.now))
        version = self.glance.version
        untold = f", version {safe(version)}" if version is not None and version != found.version else ""
        yield f"{safe(found.image)}{untold}, {show(ready)}, in namespace {namespace}, {age} old"
        if found.message:
            yield safe(found.message)
        if found.watched:
            yield f"watches {', '.join(found.watched)}"
        for trouble in pod_troubles(self.glance.pods.value or ()):
            yield safe(trouble)

    def _lease_lines(self) -> Iterator[str]:
        part = self.glance.lease
        found = part.value
        if found is None:
            yield _refused(part) or f"there is none in namespace {self.glance.namespace}: no operator has run there"
            return
        age = found.age_seconds(self.now)
        when = "never renewed" if age is None else f"renewed {format_age(age)} ago"
        if not found.holder:
            yield show(Painted("held by nobody", Colour.BAD)) + f": the last operator ended; {when}"
        elif found.fresh(self.now):
            yield f"{show(Painted('held', Colour.GOOD))} by {safe(found.holder)}, {when}"
        else:
            yield f"{show(Painted('run out', Colour.BAD))}: {safe(found.holder)} had it, {when}"

    def _history_lines(self) -> Iterator[str]:
        part = self.glance.conditions
        if part.value is None:
            yield _refused(part) or "the operator has said nothing of it"
            return
        bad = [condition for condition in part.value if condition.get("status") != "True"]
        good = [str(condition.get("reason")).lower() for condition in part.value if condition.get("status") == "True"]
        if not part.value:
            yield "the operator has said nothing of it"
        for condition in bad:
            name = show(Painted(str(condition.get("reason")), Colour.BAD))
            yield f"{name}: {safe(str(condition.get('message')))}"
        if good:
            yield ", ".join(dict.fromkeys(good))

    def _request_lines(self) -> Iterator[str]:
        rows = self.requests.value
        if rows is None:
            yield _refused(self.requests) or "the custom resource definitions are missing"
            return
        where = f" in namespace {self.counted}, the only one that you may list" if self.counted else ""
        states = collections.Counter(row.state for row in rows)
        listed = [_painted(f"{states[state]:,} {state}", state) for state in STATES if states[state]]
        yield f"{len(rows):,}{where}" + (f": {', '.join(listed)}" if listed else "")
        for state, reasons in _reasons(rows).items():
            named = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(MAX_REASONS))
            yield f"{state}: {safe(named)}"

    def _plugin_lines(self) -> Iterator[str]:
        plugins = self.plugins.value
        if plugins is None:
            yield _refused(self.plugins) or "the custom resource definitions are missing"
            return
        enabled = [plugin for plugin in plugins if (plugin.get("spec") or {}).get("enabled", True)]
        unwell = [plugin for plugin in enabled if not is_well(plugin)]
        text = f"{len(plugins):,}: {len(enabled):,} enabled" if plugins else "0: the built-in algorithms answer"
        yield text + (", " + show(Painted(f"{len(unwell):,} not ready", Colour.BAD)) if unwell else "")


async def overview(connection: Connection, namespace: str) -> Overview:
    """Read everything that there is to show.

    Where requests of all namespaces may not be listed, those of the context's namespace are.

    Raises
    ------
    UnavailableError
        If the API server cannot be reached.
    """
    glance, requests, plugins = await asyncio.gather(
        look(connection, namespace),
        part_of(list_requests(connection)),
        part_of(list_plugins(connection)),
    )
    counted = ""
    if requests.error is not None and requests.error.status == 403:
        own = await part_of(list_requests(connection, connection.namespace))
        if own.value is not None:
            requests, counted = own, connection.namespace
    return Overview(glance, requests, plugins, counted, datetime.datetime.now(datetime.UTC))


def _reasons(rows: Sequence[RequestRow]) -> dict[str, collections.Counter[str]]:
    """Count the reasons of what is not well, by state."""
    found: dict[str, collections.Counter[str]] = {}
    for row in rows:
        if row.state in ("waiting", "stalled"):
            reason = str(row.to_dict()["reason"])
            found.setdefault(row.state, collections.Counter())[reason] += 1
    return {state: found[state] for state in STATES if state in found}


def _pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or ()
    return {
        "name": pod["metadata"]["name"],
        "phase": status.get("phase"),
        "ready": bool(containers) and all(container.get("ready") for container in containers),
        "restarts": sum(container.get("restartCount", 0) for container in containers),
        "startedAt": status.get("startTime"),
        "node": (pod.get("spec") or {}).get("nodeName"),
    }


def _painted(text: str, state: str) -> str:
    colour = _COLOURS.get(state)
    return text if colour is None else show(Painted(text, colour))


def _refused(part: Part[Any]) -> str:
    return "" if part.error is None else safe(f"cannot be read: {part.error.message}")
