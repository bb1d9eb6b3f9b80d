"""All that `engine-ops doctor` looks at, and how it is told."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Sequence
from typing import Any, Final

from engine_ops import __version__
from engine_ops.cli.checks.content import check_plugins, check_requests
from engine_ops.cli.checks.definitions import check_definitions, check_metrics, check_server, check_webhooks
from engine_ops.cli.checks.finding import Finding, Level
from engine_ops.cli.checks.operator import (
    check_deployment,
    check_history,
    check_lease,
    check_quota,
    check_version,
    wait_for_renewal,
)
from engine_ops.cli.checks.rights import check_operators_rights, check_own_rights
from engine_ops.cli.colours import Colour, Painted, show
from engine_ops.cli.overview import overview
from engine_ops.cli.printing import safe
from engine_ops.kube.connection import Connection

_COLOURS: Final = {
    Level.OK: Colour.GOOD,
    Level.NOTE: Colour.WAITING,
    Level.FINDING: Colour.BAD,
    Level.UNKNOWN: Colour.WAITING,
}
_LEVEL_WIDTH: Final = 9
_CHECK_WIDTH: Final = 19


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What the doctor has found.

    Parameters
    ----------
    findings
        In order.
    """

    findings: Sequence[Finding]

    @property
    def exit_code(self) -> int:
        """1 for a finding; else 2 where something could not be looked at; else 0."""
        levels = {found.level for found in self.findings}
        if Level.FINDING in levels:
            return 1
        return 2 if Level.UNKNOWN in levels else 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        counts = collections.Counter(found.level for found in self.findings)
        return {
            "healthy": self.exit_code == 0,
            "cliVersion": __version__,
            "counts": {level.value: counts[level] for level in Level},
            "checks": [found.to_dict() for found in self.findings],
        }

    def to_text(self) -> str:
        """Return it for people."""
        text = ""
        for found in self.findings:
            level = show(Painted(found.level.value, _COLOURS[found.level]), found.level.value.ljust(_LEVEL_WIDTH))
            text += f"{level}{found.check.ljust(_CHECK_WIDTH)}{safe(found.message)}\n"
            if found.fix:
                text += f"{' ' * (_LEVEL_WIDTH + _CHECK_WIDTH)}fix: {safe(found.fix)}\n"
        return f"{text}\n{self._verdict()}\n"

    def _verdict(self) -> str:
        counts = collections.Counter(found.level for found in self.findings)
        findings, unknown = counts[Level.FINDING], counts[Level.UNKNOWN]
        parts = []
        if findings:
            parts.append(show(Painted(f"{findings} finding{'' if findings == 1 else 's'}", Colour.BAD)))
        if unknown:
            checks = f"{unknown} check{'' if unknown == 1 else 's'}"
            parts.append(show(Painted(f"{checks} could not be made", Colour.WAITING)))
        return ", ".join(parts) or show(Painted("healthy", Colour.GOOD))


def blind(why: str) -> Finding:
    """Return the only line of a report about a cluster that cannot be reached."""
    fix = "see that it runs, and that the kubeconfig names it and you (--kubeconfig, --context): kubectl cluster-info"
    return Finding("server", Level.UNKNOWN, f"cannot be looked at: {why}", fix)


async def examine(connection: Connection, namespace: str) -> Report:
    """Look at everything.

    Parameters
    ----------
    connection
        With the user's rights.
    namespace
        The operator's.

    Raises
    ------
    ApiError
        If the API server does not know the user.
    UnavailableError
        If it cannot be reached.
    """
    server = await check_server(connection)  # first by itself: who cannot be reached is told once
    definitions, found = await asyncio.gather(check_definitions(connection), overview(connection, namespace))
    glance = found.glance
    (lease, held), operators, own, quota, metrics, webhooks = await asyncio.gather(
        wait_for_renewal(connection, glance),
        check_operators_rights(connection, glance),
        check_own_rights(connection, namespace),
        check_quota(connection, namespace),
        check_metrics(connection),
        check_webhooks(connection),
    )
    defined = not any(one.level is Level.FINDING and "does not know" in one.message for one in definitions)
    lines = [
        server,
        *definitions,
        *check_deployment(glance, serving=held),
        check_version(glance),
        check_lease(glance, lease, held=held),
        *operators,
        *check_history(glance, serving=held),
        quota,
        *(check_plugins(found.plugins, namespace) if defined else ()),
        *(check_requests(found.requests, found.counted, found.now) if defined else ()),
        metrics,
        webhooks,
        own,
    ]
    return Report([line for line in lines if line is not None])
