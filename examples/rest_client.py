"""Ask over HTTP: a question, one that has no answer, one that is wrong, a long one that is followed.

engine-ops serve --memory &
python examples/rest_client.py
NAMESPACE=shop CA_FILE=ca.pem python examples/rest_client.py https://HOST:PORT

The second is an operator's: the token is the Pod's, or that of the kubeconfig's current context.
"""

from __future__ import annotations

import os
import sys

from engine_ops import EngineOpsClient, OptimizationRequest, OptimizationResult
from engine_ops.client import BadRequestError, EngineOpsError

WEB_SHOP = [
    {"id": "web", "cpu": "500m", "memory": "1Gi", "count": 30},
    {"id": "postgres", "cpu": 4, "memory": "16Gi", "count": 2},
]
NODE = {"cpu": 8, "memory": "32Gi"}


def ask(client: EngineOpsClient) -> None:
    """Ask, and wait: that something fits nowhere is an answer, too."""
    for name, node in (("web-shop", NODE), ("small-nodes", {"cpu": 2, "memory": "8Gi"})):
        request = OptimizationRequest(
            id=name, type="resource", data={"items": WEB_SHOP, "nodeCapacity": node}, search_seconds=0
        )
        answer = client.optimize(request)
        result = answer.result or {}
        print(f"{name}: {answer.reason}, {result['nodeCount']} nodes, at least {result['lowerBound']}")
        for item in result["unplacedItems"]:
            print(f"  {item['count']} of {item['id']}: {item['reason']}")


def ask_wrongly(client: EngineOpsClient) -> None:
    """Send what is not valid: each fault is named with its path."""
    items = [{"id": "web", "cpu": "500 m", "memory": -1}]
    try:
        client.optimize({"id": "wrong", "type": "resource", "data": {"items": items, "nodeCapacity": NODE}})
    except BadRequestError as error:
        print(f"wrong: {error.kind}, status {error.status}")
        for path, sentence in error.errors:
            print(f"  {path}: {sentence}")


def follow(client: EngineOpsClient) -> None:
    """Ask, and do not wait: each better answer is told as it is found."""
    items = [{"id": f"job-{n}", "cpu": f"{1000 + 37 * n % 700}m", "memory": f"{1 + 5 * n % 9}Gi"} for n in range(60)]
    request = OptimizationRequest(
        id="long",
        type="resource",
        data={"items": items, "nodeCapacity": NODE},
        search_seconds=25,  # at most: it ends as soon as no better answer is possible
    )
    client.submit(request)
    for event in client.events("long"):
        if isinstance(event, OptimizationResult):
            result = event.result or {}
            print(f"long: {event.reason}, {result['nodeCount']} nodes, at least {result['lowerBound']}")
        else:
            print(f"  so far {event.objective:g}, at least {event.lower_bound:g}")


def main() -> int:
    """Ask the API at the address of the first argument."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3000"
    try:
        with EngineOpsClient(
            address, namespace=os.environ.get("NAMESPACE"), verify=os.environ.get("CA_FILE")
        ) as client:
            ask(client)
            ask_wrongly(client)
            follow(client)
    except EngineOpsError as error:
        print(f"not done: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
