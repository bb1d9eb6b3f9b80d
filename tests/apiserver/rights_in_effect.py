"""What was applied is in effect when the API server's own caches have it, a moment after kubectl has come back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from waiting import wait_until

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_SERVED = "/apis/engineops.dev/v1alpha1"
_BUILT_IN = "kubernetes.io/bootstrapping"

Json = dict[str, Any]


def user_of(namespace: str, account: str) -> str:
    """Return the name that the API server gives a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{account}"


def may(client: ApiClient, user: str, **attributes: str) -> bool:
    """Whether a user may do something: verb, group, resource, subresource, namespace, name."""
    spec: Json = {"user": user, "resourceAttributes": attributes}
    if user.startswith("system:serviceaccount:"):
        spec["groups"] = ["system:serviceaccounts", "system:authenticated"]
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = client.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def wait_for_rights(cluster: DevCluster, namespace: str, account: str) -> None:
    """Wait until a ServiceAccount has every right that a binding gives it."""
    user = user_of(namespace, account)
    with cluster.client() as client:
        for attributes in _rights_of(client, namespace, account):
            wait_until(lambda asked=attributes: may(client, user, **asked), bool, f"{user} may {attributes}")


def wait_until_installed(cluster: DevCluster, namespace: str) -> None:
    """Wait until the operator's manifests are in effect: its definitions, and the rights of its ServiceAccount."""
    wait_for_definitions(cluster)
    wait_for_rights(cluster, namespace, "engine-ops")


def wait_for_loss(cluster: DevCluster, namespace: str, account: str, **attributes: str) -> None:
    """Wait until a ServiceAccount no longer has a right."""
    user = user_of(namespace, account)
    with cluster.client() as client:
        wait_until(lambda: may(client, user, **attributes), lambda so: not so, f"{user} may not {attributes}")


def wait_for_definitions(cluster: DevCluster) -> None:
    """Wait until both kinds are served."""

    def served(client: ApiClient) -> bool:
        try:
            names = {resource["name"] for resource in client.request("GET", _SERVED)["resources"]}
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return {"optimizationrequests", "optimizerplugins"} <= names

    with cluster.client() as client:
        wait_until(lambda: served(client), bool, "the definitions are served")


def _rights_of(client: ApiClient, namespace: str, account: str) -> Iterator[dict[str, str]]:
    subject = ("ServiceAccount", namespace, account)
    for plural in ("clusterrolebindings", "rolebindings"):
        for binding in client.request("GET", f"{_RBAC}/{plural}")["items"]:
            subjects = binding.get("subjects") or ()
            if subject not in [(one["kind"], one.get("namespace"), one["name"]) for one in subjects]:
                continue
            where = binding["metadata"].get("namespace", "")
            role = binding["roleRef"]
            within = f"/namespaces/{where}" if role["kind"] == "Role" else ""
            found = client.request("GET", f"{_RBAC}{within}/{role['kind'].lower()}s/{role['name']}")
            for rule in found["rules"] or ():
                rights = _rights_in(rule, where)
                # Kubernetes' own roles have a thousand; they have been there from the start, and one shows the binding.
                yield from itertools.islice(rights, 1 if _BUILT_IN in found["metadata"].get("labels", {}) else None)


def _rights_in(rule: Json, namespace: str) -> Iterator[dict[str, str]]:
    for group in rule.get("apiGroups") or ():
        for found in rule.get("resources") or ():
            resource, _, subresource = found.partition("/")
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or ("",):
                    yield {
                        "verb": verb, "group": group, "resource": resource, "subresource": subresource,
                        "namespace": namespace, "name": name,
                    }  # fmt: skip
