"""The custom resource definitions, applied and served."""

from __future__ import annotations

import time
from pathlib import Path

from engine_ops.devcluster import ApiError, DevCluster

PATH = "/apis/engineops.dev/v1alpha1/optimizationrequests"
NOT_YET = (404, 429, 503)
"""What the API server says while it sets up the storage of a definition."""
SERVED_SECONDS = 30.0


def apply_definitions(cluster: DevCluster, directory: Path) -> None:
    """Apply the definitions in a directory and wait until requests are served.

    A definition is Established a moment before the API server answers for it.

    Raises
    ------
    ApiError
        If they are not served in time.
    """
    cluster.kubectl("apply", "--server-side", "-f", str(directory))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    deadline = time.monotonic() + SERVED_SECONDS
    with cluster.client() as client:
        while True:
            try:
                client.request("GET", PATH)
            except ApiError as error:
                if error.status not in NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
            else:
                return
