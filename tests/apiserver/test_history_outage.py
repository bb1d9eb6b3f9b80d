"""The API server gone for 30 s under load: each finished solve has one point, also where the operator dies in it.

Gone for 8 s, nothing ends at all.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_outage import ApiServer
from history_objects import HistoryObjects
from history_operator import Keepers, end
from history_place import HistoryPlace, wait_until
from history_solves import Solves
from operator_process import OperatorError

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.binaries import Binaries

_CRDS = Path(__file__).parents[2] / "crds"
HANGS_SECONDS, REFUSES_SECONDS = 12.0, 18.0
SERVES_SECONDS = 60.0
SURVIVED_SECONDS = 7.5


@pytest.fixture
def own_cluster(devcluster_binaries: Binaries) -> Iterator[DevCluster]:
    """A control plane whose API server may be killed."""
    with DevCluster.start(components=("etcd", "kube-apiserver"), binaries=devcluster_binaries) as started:
        started.kubectl("apply", "--server-side", "-f", str(_CRDS))
        started.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(_CRDS))
        yield started


class Side:
    """Requests and the operator that answers them."""

    def __init__(
        self, cluster: DevCluster, name: str, stack: contextlib.ExitStack, directory: Path, **options: float
    ) -> None:
        own = f"{name}-own"
        for namespace in (name, own):
            cluster.kubectl("create", "namespace", namespace)
        self.place = stack.enter_context(contextlib.closing(HistoryPlace(cluster, own, name)))
        history = HistoryObjects(cluster, name, own)
        self.solves = stack.enter_context(contextlib.closing(Solves(cluster, name, history)))
        self.keepers = stack.enter_context(Keepers(cluster, name, own, directory))
        self.seeded = self.place.seed(495)
        self.operator = self.keepers.start(**options)

    def start_again(self, *, wait: bool) -> None:
        """Start an operator, again whenever it ends, as the kubelet would; wait until it serves, if told to."""
        deadline = time.monotonic() + SERVES_SECONDS
        while True:
            if self.operator.returncode is not None:
                self.operator = self.keepers.start(wait=False)
            if not wait:
                return
            try:
                self.operator.wait_for_line("^watching", SERVES_SECONDS)
            except OperatorError:
                if self.operator.returncode is None or time.monotonic() > deadline:
                    raise
            else:
                return

    def load(self, prefix: str) -> None:
        """Make requests that take a while, so that some are on their way whenever it ends."""
        self.solves.make_some(f"{prefix}-quick", 15)
        self.solves.make_some(f"{prefix}-slow", 4, searchSeconds=1)


def test_the_api_server_is_gone_for_30_seconds(own_cluster: DevCluster, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        api_server = ApiServer(own_cluster, tmp_path)
        stack.callback(api_server.stop)
        # One operator is left alone, as the kubelet would: it ends as it cannot renew its Lease, and is started again.
        # The other is killed in the middle of it.
        left, killed = (Side(own_cluster, name, stack, tmp_path) for name in ("left", "killed"))
        sides = (left, killed)
        for side in sides:
            side.load("before")
        wait_until(lambda: len(left.solves.note()) == 19 and bool(left.solves.finished), "some are answered")
        for side in sides:
            side.solves.change_all(cpu=4)
            side.load("on-the-way")
            side.solves.note()
        api_server.hang()
        began = time.monotonic()
        end(killed.operator)
        killed.start_again(wait=False)
        wait_until(lambda: time.monotonic() - began > HANGS_SECONDS, "it hung for so long")
        api_server.kill()
        assert left.operator.wait_for_exit() == 1
        left.start_again(wait=False)
        wait_until(lambda: time.monotonic() - began > HANGS_SECONDS + REFUSES_SECONDS, "it was gone for so long")
        api_server.start()
        for side in sides:
            side.solves.close()  # the connection from before
            side.start_again(wait=True)
            side.load("after")
        for side in sides:
            side.solves.wait_kept(besides=side.seeded, seconds=60.0)
            assert len(side.solves.finished) >= 19 * 3


def test_an_api_server_that_hangs_for_a_while_ends_no_operator(own_cluster: DevCluster, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        api_server = ApiServer(own_cluster, tmp_path)
        stack.callback(api_server.stop)
        # How long a Lease lasts is told by tests whose clock waits for them; here the test itself may be held up.
        side = Side(own_cluster, "hung", stack, tmp_path, renew_deadline_seconds=120.0)
        api_server.hang()
        began = time.monotonic()
        side.operator.wait_for_line("the Lease is not renewed yet")
        wait_until(lambda: time.monotonic() - began > SURVIVED_SECONDS, "it hung for so long")
        api_server.go_on()
        side.solves.make_some("afterwards", 3)
        wait_until(lambda: len(side.solves.note()) == 3 and len(side.solves.finished) == 3, "they are answered")
        assert side.operator.returncode is None
