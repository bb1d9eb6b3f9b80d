"""A Lease is held through an API server that is away for a while, and let go before another may take it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run_in_virtual_time

from engine_ops.kube import lease as of_lease
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.lease import LEASE_SECONDS, RENEW_DEADLINE_SECONDS, RETRY_SECONDS, Lease, LeaseLostError

PATH = "/apis/coordination.k8s.io/v1/namespaces/n/leases"
LONGEST_SECONDS = RETRY_SECONDS + RENEW_DEADLINE_SECONDS
LATENCIES = st.floats(0.0, 0.1)
MOMENTS = st.floats(1.5, 30.0)  # it has been acquired by then
MANNERS = st.sampled_from(["stops", "drops", "refuses"])


class ApiServer:
    """One Lease, with optimistic concurrency; away from one moment to another.

    Parameters
    ----------
    manner
        ``stops``: what comes meanwhile is answered afterwards. ``drops``: it never is. ``refuses``: it is at once.
    """

    def __init__(self, *, away: tuple[float, float] = (0.0, 0.0), manner: str = "stops", latency: float = 0.01) -> None:
        self.away = away
        self.manner = manner
        self.latency = latency
        self.stored: dict[str, Any] | None = None
        self.versions = 0
        self.written: list[float] = []
        self.calls: list[tuple[str, str]] = []

    async def get(self, path: str) -> dict[str, Any]:
        self.calls.append(("GET", path))
        await self._be_there()
        if self.stored is None:
            raise ApiError(404, {})
        return json.loads(json.dumps(self.stored))

    async def request(self, method: str, path: str, *, body: bytes) -> bytes:
        self.calls.append((method, path))
        await self._be_there()
        sent = json.loads(body)
        if method == "PUT" and self.stored is None:
            raise ApiError(404, {})
        if self.stored is not None and (
            method == "POST" or sent["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]
        ):
            raise ApiError(409, {})
        self.put(sent)
        self.written.append(asyncio.get_running_loop().time())
        await self._be_there()  # the answer may be what does not come
        return json.dumps(self.stored).encode()

    def put(self, lease: dict[str, Any]) -> None:
        self.versions += 1
        lease["metadata"]["resourceVersion"] = str(self.versions)
        self.stored = lease

    async def _be_there(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self.latency)
        begin, end = self.away
        if begin <= loop.time() < end:
            if self.manner == "refuses":
                raise UnavailableError("refused")
            await asyncio.sleep(end - loop.time() if self.manner == "stops" else 3600.0)


def lease_of(api: ApiServer, identity: str = "me") -> Lease:
    connection: Any = api
    return Lease(connection, "n", "engine-ops", identity)


async def held_for(api: ApiServer, seconds: float) -> float | None:
    """Return when a Lease that was held was lost; None where it still was held after so many seconds."""
    lease = lease_of(api)
    await lease.acquire()
    holding = asyncio.create_task(lease.hold())
    done, _ = await asyncio.wait({holding}, timeout=seconds)
    if not done:
        assert lease.held
        holding.cancel()
        return None
    assert not lease.held
    with pytest.raises(LeaseLostError, match="the Lease engine-ops could not be renewed"):
        holding.result()
    return asyncio.get_running_loop().time()


@given(begin=MOMENTS, seconds=st.floats(0.0, 8.0), manner=MANNERS, latency=LATENCIES)
def test_an_api_server_that_is_away_for_eight_seconds_ends_nothing(
    begin: float, seconds: float, manner: str, latency: float
) -> None:
    api = ApiServer(away=(begin, begin + seconds), manner=manner, latency=latency)
    assert run_in_virtual_time(held_for(api, 120.0)) is None
    assert api.written[-1] > 110.0, "it was renewed to the end"


@given(begin=MOMENTS, manner=MANNERS, latency=LATENCIES)
def test_one_that_is_away_for_longer_ends_it_before_another_may_take_the_lease(
    begin: float, manner: str, latency: float
) -> None:
    api = ApiServer(away=(begin, begin + LONGEST_SECONDS + 3.0), manner=manner, latency=latency)
    lost = run_in_virtual_time(held_for(api, 120.0))
    assert lost is not None
    seen = [moment for moment in api.written if moment <= begin + latency]
    assert lost - seen[-1] <= LONGEST_SECONDS < LEASE_SECONDS - RETRY_SECONDS
    assert lost >= begin + 8.0


def test_a_renewal_is_one_call_every_two_seconds() -> None:
    api = ApiServer()
    assert run_in_virtual_time(held_for(api, 60.0)) is None
    assert api.calls[:2] == [("GET", f"{PATH}/engine-ops"), ("POST", PATH)]
    assert set(api.calls[2:]) == {("PUT", f"{PATH}/engine-ops")}
    assert len(api.calls) - 2 == pytest.approx(60.0 / RETRY_SECONDS, abs=1)


def touch(api: ApiServer) -> None:
    assert api.stored is not None
    api.put({**api.stored, "metadata": {**api.stored["metadata"], "labels": {"a": "b"}}})


def delete(api: ApiServer) -> None:
    api.stored = None


@pytest.mark.parametrize("change", [touch, delete])
def test_a_lease_that_was_changed_or_deleted_by_somebody_is_renewed_all_the_same(
    change: Callable[[ApiServer], None],
) -> None:
    async def main() -> None:
        api = ApiServer()
        lease = lease_of(api)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(5)
        change(api)
        await asyncio.sleep(5)
        assert not holding.done()
        assert api.stored is not None
        assert api.stored["spec"]["holderIdentity"] == "me"
        assert asyncio.get_running_loop().time() - api.written[-1] <= RETRY_SECONDS
        holding.cancel()

    run_in_virtual_time(main())


def test_a_lease_that_another_holds_is_lost_at_once() -> None:
    async def main() -> None:
        api = ApiServer()
        lease = lease_of(api)
        await lease.acquire()
        assert api.stored is not None
        api.put({**api.stored, "spec": {**api.stored["spec"], "holderIdentity": "another"}})
        with pytest.raises(LeaseLostError, match="another holds the Lease"):
            await lease.hold()
        assert api.stored["spec"]["holderIdentity"] == "another"
        assert asyncio.get_running_loop().time() < RETRY_SECONDS + 1

    run_in_virtual_time(main())


@given(begin=MOMENTS, seconds=st.floats(0.0, 60.0), manner=MANNERS)
def test_two_never_hold_it_at_once(begin: float, seconds: float, manner: str) -> None:
    async def main() -> None:
        api = ApiServer(away=(begin, begin + seconds), manner=manner)
        first, second = lease_of(api), lease_of(_OtherWay(api), "other")
        await first.acquire()
        tasks = [asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())]
        for _ in range(1200):
            await asyncio.sleep(0.1)
            assert not (first.held and second.held)
        assert first.held or second.held
        assert first.held or seconds > 8.0
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_in_virtual_time(main())


class _OtherWay(ApiServer):
    """The same Lease for somebody who is never cut off from it."""

    def __init__(self, same: ApiServer) -> None:
        super().__init__()
        self._same = same

    async def get(self, path: str) -> dict[str, Any]:
        self.stored = self._same.stored
        return await super().get(path)

    async def request(self, method: str, path: str, *, body: bytes) -> bytes:
        self.stored = self._same.stored
        return await super().request(method, path, body=body)

    def put(self, lease: dict[str, Any]) -> None:
        self._same.put(lease)
        self.stored = self._same.stored


def test_an_api_server_that_hangs_is_asked_again_while_the_lease_is_waited_for() -> None:
    async def main() -> None:
        api = ApiServer(away=(0.0, 4.0), manner="drops")
        await lease_of(api).acquire()
        assert asyncio.get_running_loop().time() < 4.0 + of_lease.ATTEMPT_SECONDS

    run_in_virtual_time(main())


class _SlowWrites(ApiServer):
    """Writes what it was sent also where nobody waits for the answer any more; reads are answered at once."""

    async def get(self, path: str) -> dict[str, Any]:
        latency, self.latency = self.latency, 0.0
        try:
            return await super().get(path)
        finally:
            self.latency = latency

    async def request(self, method: str, path: str, *, body: bytes) -> bytes:
        return await asyncio.shield(asyncio.create_task(super().request(method, path, body=body)))


def test_a_lease_is_given_back_though_a_renewal_was_under_way() -> None:
    async def main() -> None:
        api = _SlowWrites(latency=0.5)
        lease = lease_of(api)
        await lease.acquire()
        holding = asyncio.create_task(lease.hold())
        await asyncio.sleep(0.2)
        holding.cancel()
        await lease.release()
        assert api.stored is not None
        assert api.stored["spec"]["holderIdentity"] == ""

    run_in_virtual_time(main())
