"""The operator itself: its Pod, its version, its Lease, its history."""

from __future__ import annotations

import asyncio
import datetime
from typing import Final

from engine_ops import __version__
from engine_ops.cli.ages import format_age
from engine_ops.cli.checks.finding import Finding, finding, note, ok, unknown
from engine_ops.kube.connection import Connection
from engine_ops.kube.glance import NAME, Glance, LeaseGlance, Part, part_of, pod_troubles, read_lease
from engine_ops.kube.reading import list_objects
from engine_ops.kube.rights import how_to_grant, needs_of

_INSTALL: Final = "kubectl apply --server-side -k manifests/base"
_LOOK_SECONDS: Final = 1.0
_RENEWED_EVERY_SECONDS: Final = 5.0
"""At most, by an operator of any release."""
_TROUBLES: Final = 3


def check_deployment(glance: Glance, *, serving: bool) -> list[Finding]:
    """Look at the Deployment and its Pods.

    Parameters
    ----------
    glance
        What there is of the operator.
    serving
        Whether somebody holds the Lease.
    """
    part, namespace = glance.deployment, glance.namespace
    if part.error is not None:
        return [unknown("operator", part.error)]
    found = part.value
    if found is None:
        if serving:
            return [note("operator", f"it runs outside of the cluster: there is no Deployment {namespace}/{NAME}")]
        message = f"there is no Deployment {NAME} in namespace {namespace}"
        return [finding("operator", message, f"name its namespace (-n), or install it: {_INSTALL}")]
    if found.wanted == 0:
        fix = f"kubectl scale -n {namespace} deployment/{NAME} --replicas=1"
        return [finding("operator", "the Deployment is scaled to 0: nobody answers requests", fix)]
    if found.ready < found.wanted:
        troubles = pod_troubles(glance.pods.value or ())[:_TROUBLES]
        why = "; ".join(troubles) or found.message or "Kubernetes does not say why"
        fix = (
            f"kubectl describe pods -n {namespace} -l app.kubernetes.io/name={NAME}; its last words: "
            f"kubectl logs -n {namespace} deployment/{NAME} -c operator --previous"
        )
        return [finding("operator", f"{found.ready} of {found.wanted} Pods are ready: {why}", fix)]
    several = []
    if found.wanted > 1:
        fix = f"kubectl scale -n {namespace} deployment/{NAME} --replicas=1"
        several = [note("operator", f"{found.wanted} replicas: one serves, the others wait for its Lease", fix)]
    return [ok("operator", f"Deployment {namespace}/{NAME}: {found.ready} of {found.wanted} ready"), *several]


def check_version(glance: Glance) -> Finding | None:
    """Compare the operator's version with this program's; None where there is nothing that could tell it."""
    found, version = glance.deployment.value, glance.version
    if version is None:
        if found is None:
            return None
        return note(
            "version", f"neither the operator nor its image {found.image} tells its version; this is {__version__}"
        )
    if version == __version__:
        return ok("version", f"operator and command line are both {__version__}")
    message = f"the operator is {version}, this command line {__version__}"
    fix = "install the same release here, or upgrade the operator"
    same_line = version.split(".")[:2] == __version__.split(".")[:2]
    return note("version", message, fix) if same_line else finding("version", message, fix)


async def wait_for_renewal(connection: Connection, glance: Glance) -> tuple[LeaseGlance | None, bool]:
    """Return the Lease, and whether somebody holds it.

    Where it has run out by this machine's clock it is watched for a moment: clocks differ, and what counts is whether
    it is being renewed.

    Raises
    ------
    UnavailableError
        If the API server cannot be reached.
    """
    first = glance.lease.value
    if first is None or not first.holder or first.fresh(_now()):
        return first, first is not None and first.fresh(_now())
    deadline = asyncio.get_running_loop().time() + _RENEWED_EVERY_SECONDS + 2 * _LOOK_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(_LOOK_SECONDS)
        again: Part[LeaseGlance] = await part_of(read_lease(connection, glance.namespace))
        if again.value is not None and again.value.version != first.version:
            return again.value, bool(again.value.holder)
    return first, False


def check_lease(glance: Glance, lease: LeaseGlance | None, *, held: bool) -> Finding:
    """Look whether an operator serves now.

    Parameters
    ----------
    glance
        What there is of the operator.
    lease, held
        See `wait_for_renewal`.
    """
    namespace = glance.namespace
    logs = f"see why: kubectl logs -n {namespace} deployment/{NAME} -c operator"
    if glance.deployment.error is None and glance.deployment.value is None:
        logs = "see the operator, above"  # there are no logs of what is not there
    if glance.lease.error is not None:
        return unknown("lease", glance.lease.error)
    if lease is None:
        return finding("lease", f"there is no Lease {namespace}/{NAME}: no operator serves, or has ever served", logs)
    age = lease.age_seconds(_now())
    when = "was never renewed" if age is None else f"was renewed {format_age(age)} ago"
    if held and not lease.fresh(_now()):
        message = f"{lease.holder} holds it and renews it, though by this machine's clock it {when}: the clocks differ"
        return note("lease", message, "set the clocks of this machine and of the nodes by NTP")
    if held:
        return ok("lease", f"{lease.holder} holds it; it {when}")
    if not lease.holder:
        return finding(
            "lease", f"nobody holds it: the last operator ended in good order; it {when}", f"start one; {logs}"
        )
    return finding("lease", f"{lease.holder} held it last, and it {when}: no operator serves", logs)


def check_history(glance: Glance, *, serving: bool) -> list[Finding]:
    """Look at what the operator says of its history.

    Parameters
    ----------
    glance
        What there is of the operator.
    serving
        Whether somebody holds the Lease; else it is what the last one said.
    """
    part, namespace = glance.conditions, glance.namespace
    if part.error is not None:
        return [unknown("history", part.error)]
    deployment = glance.deployment.value
    if not part.value:
        if deployment is not None and deployment.has("--no-history"):
            return [note("history", "none is kept: the operator runs with --no-history")]
        message = f"the operator has said nothing of it: no ConfigMap {namespace}/engine-ops-status that can be read"
        return [finding("history", message, "see whether the operator runs, and its rights to ConfigMaps there")]
    bad = [condition for condition in part.value if condition.get("status") != "True"]
    if bad:
        return [
            finding(
                "history", f"{one.get('type')}: {one.get('reason')}: {one.get('message')}", _history_fix(one, glance)
            )
            for one in bad
        ]
    told = ", ".join(str(condition.get("reason")).lower() for condition in part.value)
    return [ok("history", told) if serving else note("history", f"as the last operator left it: {told}")]


async def check_quota(connection: Connection, namespace: str) -> Finding | None:
    """Look whether a quota leaves room for the history's ConfigMaps; None where none counts them."""
    part = await part_of(list_objects(connection, f"/api/v1/namespaces/{namespace}/resourcequotas"))
    for quota in part.value or ():
        status = quota.get("status") or {}
        for resource in ("configmaps", "count/configmaps"):
            hard, used = (str((status.get(part) or {}).get(resource)) for part in ("hard", "used"))
            if not (hard.isdecimal() and used.isdecimal()):
                continue
            name = f"ResourceQuota {namespace}/{quota['metadata']['name']}"
            if int(used) >= int(hard):
                message = f"{name} is full: {used} of {hard} ConfigMaps; the history and models cannot be written"
                return finding("quota", message, f"raise {resource} in {name}: the history takes 30, and a model each")
    return None


def _history_fix(condition: dict[str, str], glance: Glance) -> str:
    namespace, deployment = glance.namespace, glance.deployment.value
    watched = () if deployment is None else deployment.watched
    needs = needs_of(namespace, watched)
    rights = {name: how_to_grant(needs[name], namespace, watched) for name in ("history", "outcomes")}
    fixes = {
        "HistoryLoaded": f"see its rights to ConfigMaps in namespace {namespace}: {rights['history']}",
        "HistoryWritable": "the message names what refuses: a quota, a right, a policy, or a newer version's format",
        "HistoryIntact": f"engine-ops history stats -n {namespace} names the segments; the others are used",
        "OutcomesReadable": f"see the rights for outcomes: {rights['outcomes']}",
    }
    return fixes.get(condition.get("type", ""), "")


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
