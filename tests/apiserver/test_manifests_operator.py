"""The operator, with no more rights than manifests/ give it."""

from __future__ import annotations

import json

from operator_process import OperatorProcess

from engine_ops.devcluster.pytest_plugin import Kubectl

REQUEST = """
apiVersion: engineops.dev/v1alpha1
kind: OptimizationRequest
metadata: {name: shop}
spec:
  type: scheduling
  searchSeconds: 0
  data:
    task: {id: web, cpuRequired: 20, memoryRequired: 30}
    nodes:
      - {id: node-a, cpuLoad: 90, memoryLoad: 40}
      - {id: node-b, cpuLoad: 35, memoryLoad: 50}
"""


def test_answers_a_request_with_the_rights_of_its_service_account(
    operator: OperatorProcess, kubectl: Kubectl, namespace: str
) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=REQUEST)
    kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=30s", "optreq/shop")
    answered = json.loads(kubectl("get", "-n", namespace, "optreq/shop", "-o", "json").stdout)
    assert answered["status"]["result"]["nodeId"] == "node-b"
    assert operator.stop() == 0
