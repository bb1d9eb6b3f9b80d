"""One operator at a time: a Lease, held as long as this process serves.

The identity is the Pod's name, so that a container that was killed and started again takes over at once. Outside a
Pod it is the host's and the user's, and a local lock keeps two processes of that one identity apart.
"""

from __future__ import annotations

import asyncio
import datetime
import fcntl
import getpass
import hashlib
import logging
import os
import pathlib
import socket
import tempfile
from typing import Any, Self

import msgspec

from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

logger = logging.getLogger(__name__)

# The three of client-go's leader election, as Kubernetes' own controllers have them.
LEASE_SECONDS = 15
"""Others take the Lease when they have seen no renewal for so long."""
RENEW_DEADLINE_SECONDS = 10.0
"""A renewal that has been tried for so long is given up, and the process ends: before another may take the Lease."""
RETRY_SECONDS = 2.0
"""Between two renewals, and between two attempts."""
ATTEMPT_SECONDS = 3.0
"""The limit of one attempt: where one hangs for ever, three others have their time, each on a new connection."""
_LAST_SECONDS = 0.5
"""What the last attempt has at least."""


class LeaseLostError(RuntimeError):
    """Somebody else holds the Lease, or it could not be renewed in time."""


class Lease:
    """A ``coordination.k8s.io/v1`` Lease.

    Parameters
    ----------
    connection
        To the API server.
    namespace, name
        Of the Lease.
    identity
        Of this process; see `own_identity`.

    Attributes
    ----------
    held : bool
        Whether it is held, as far as is known.
    """

    def __init__(self, connection: Connection, namespace: str, name: str, identity: str) -> None:
        self._connection = connection
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name = name
        self._written: dict[str, Any] | None = None
        self.identity = identity
        self.held = False

    async def acquire(self) -> None:
        """Take the Lease, waiting for its holder to let it run out.

        Raises
        ------
        ApiError
            If the operator has no right to it.
        """
        await self._acquire()
        self.held = True

    async def _acquire(self) -> None:
        observed, since, told = "", 0.0, ""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    lease = await self._read()
                    if lease is None:
                        await self._create()
                        return
                    holder = lease["spec"].get("holderIdentity") or ""
                    # Clocks of two machines differ: what counts is how long we have seen no renewal.
                    if lease["metadata"]["resourceVersion"] != observed:
                        observed, since = lease["metadata"]["resourceVersion"], loop.time()
                    duration = lease["spec"].get("leaseDurationSeconds") or LEASE_SECONDS
                    if holder in ("", self.identity) or loop.time() - since > duration:
                        await self._replace(lease, taking_over=holder != self.identity)
                        return
                if holder != told:
                    logger.warning("waiting: %s holds the Lease %s", holder, self._name)
                    told = holder
            except ApiError as error:
                if error.status != 409 and not error.retriable:
                    raise
            except (UnavailableError, TimeoutError) as error:
                logger.warning("waiting for the API server: %s", _cause(error))
            await asyncio.sleep(begun + RETRY_SECONDS - loop.time())

    async def hold(self) -> None:
        """Renew the Lease until it is lost.

        Raises
        ------
        LeaseLostError
            When it is; the process must end at once.
        """
        try:
            await self._hold()
        finally:
            self.held = False

    async def _hold(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + RENEW_DEADLINE_SECONDS
        while True:
            renewed = await self._renew_until(deadline)
            deadline = renewed + RETRY_SECONDS + RENEW_DEADLINE_SECONDS
            await asyncio.sleep(renewed + RETRY_SECONDS - loop.time())

    async def _renew_until(self, deadline: float) -> float:
        """Renew it, and return when that was begun: others count from when it was written, which is not before."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                async with asyncio.timeout_at(min(begun + ATTEMPT_SECONDS, deadline)):
                    await self._renew()
                return begun
            except (ApiError, UnavailableError, TimeoutError) as error:
                now = loop.time()
                if now >= deadline - _LAST_SECONDS:
                    raise LeaseLostError(f"the Lease {self._name} could not be renewed: {_cause(error)}") from error
                logger.warning("the Lease is not renewed yet: %s", _cause(error))
                self._written = None  # perhaps it was renewed all the same, and is of another version now
            await asyncio.sleep(min(begun + RETRY_SECONDS, deadline - _LAST_SECONDS) - now)

    async def release(self) -> None:
        """Give the Lease back, so that a successor need not wait. Failing that, it runs out by itself."""
        try:
            try:
                await self._give_back()
            except ApiError as error:
                if error.status != 409:
                    raise
                await self._give_back()  # a renewal that was given up on the way was written in between
        except (ApiError, UnavailableError) as error:
            logger.warning("the Lease was not given back: %s", error)

    async def _give_back(self) -> None:
        lease = await self._read()
        if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
            lease["spec"]["holderIdentity"] = ""
            lease["spec"]["leaseDurationSeconds"] = 1
            await self._put(lease)

    async def _renew(self) -> None:
        if self._written is not None:
            try:  # without a look: whoever has taken or deleted it meanwhile has made another version of it
                await self._replace(self._written, taking_over=False)
                return
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
                self._written = None
        lease = await self._read()
        if lease is None:
            await self._create()
            return
        holder = lease["spec"].get("holderIdentity")
        if holder != self.identity:
            raise LeaseLostError(f"{holder or 'nobody'} holds the Lease {self._name} now")
        await self._replace(lease, taking_over=False)

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._connection.get(self._path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def _create(self) -> None:
        now = _now()
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "acquireTime": now,
                "renewTime": now,
            },
        }
        await self._write("POST", self._collection, lease)

    async def _replace(self, lease: dict[str, Any], *, taking_over: bool) -> None:
        spec = lease["spec"]
        spec["holderIdentity"] = self.identity
        spec["leaseDurationSeconds"] = LEASE_SECONDS
        spec["renewTime"] = _now()
        if taking_over:
            spec["acquireTime"] = spec["renewTime"]
            spec["leaseTransitions"] = (spec.get("leaseTransitions") or 0) + 1
        await self._put(lease)

    async def _put(self, lease: dict[str, Any]) -> None:
        await self._write("PUT", self._path, lease)

    async def _write(self, method: str, path: str, lease: dict[str, Any]) -> None:
        answer = await self._connection.request(method, path, body=msgspec.json.encode(lease))
        self._written = msgspec.json.decode(answer)


class LocalLock:
    """Keeps two processes of one identity on one machine apart. The kernel frees it when the process ends."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._file: int | None = None

    @classmethod
    def for_lease(cls, server: str, namespace: str, name: str) -> Self:
        """Return the lock of a Lease of one API server."""
        digest = hashlib.sha256(f"{server}/{namespace}/{name}".encode()).hexdigest()[:16]
        return cls(pathlib.Path(tempfile.gettempdir()) / f"engine-ops-{os.getuid()}-{digest}.lock")

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        ConnectError
            If another process of this user holds it.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise ConnectError(
                "another engine-ops of this user already serves this cluster from this machine"
            ) from error
        self._file = handle

    def release(self) -> None:
        """Free the lock."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def own_identity() -> tuple[str, bool]:
    """Return this process's identity, and whether it is a Pod's."""
    pod = os.environ.get("POD_NAME")
    if pod:
        return pod, True
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return socket.gethostname(), True
    return f"{socket.gethostname()}-{getpass.getuser()}", False


def _cause(error: Exception) -> str:
    return str(error) or "the API server did not answer in time"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
