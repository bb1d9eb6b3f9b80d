"""`AsyncEngineOpsClient`: the REST API from asyncio."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Self, TypeVar

import aiohttp

from engine_ops.client import calls
from engine_ops.client.async_session import new_session
from engine_ops.client.calls import Call, Moment
from engine_ops.client.causes import why_unreachable
from engine_ops.client.errors import UnreachableError, error_of
from engine_ops.client.messages import Improvement, OptimizationState
from engine_ops.client.retrying import Attempts, retry_after
from engine_ops.client.settings import BASE_URL, RECONNECT_SECONDS, SILENCE_SECONDS, Settings, Token, Verify
from engine_ops.client.sse import EventParser
from engine_ops.engine.request import OptimizationRequest, OptimizationResult
from engine_ops.ml.data_point import WorkloadDataPoint

T = TypeVar("T")


class AsyncEngineOpsClient:
    """A client of the REST API for asyncio, with the methods of `engine_ops.EngineOpsClient`.

    One event loop uses it; make it there. Proxies of the environment are not used.

    Parameters
    ----------
    base_url, timeout, token, verify, namespace
        See `engine_ops.EngineOpsClient`.

    Attributes
    ----------
    base_url : str
        Without a slash at its end.

    Raises
    ------
    ValueError
        If ``base_url`` or ``timeout`` is wrong.

    Examples
    --------
    >>> import asyncio
    >>> from engine_ops import AsyncEngineOpsClient
    >>> async def main():
    ...     async with AsyncEngineOpsClient(timeout=10) as client:
    ...         return client.base_url
    >>> asyncio.run(main())
    'http://localhost:3000'
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        timeout: float = 30,
        token: Token | None = None,
        verify: Verify | None = None,
        *,
        namespace: str | None = None,
    ) -> None:
        self._settings = Settings.of(base_url, timeout, token, verify)
        self._namespace = namespace
        self._session: aiohttp.ClientSession | None = None
        self.base_url = self._settings.base_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The client can be used on, and opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """For calls of your own: it carries the token and the certificates, to `base_url` only."""
        if self._session is None:
            self._session = new_session(self._settings)
        return self._session

    async def optimize(
        self, request: OptimizationRequest | Mapping[str, Any], *, namespace: str | None = None
    ) -> OptimizationResult:
        """Ask, and wait for the answer. See `engine_ops.EngineOpsClient.optimize`."""
        return await self._do(calls.optimize(request, namespace or self._namespace))

    async def submit(
        self, request: OptimizationRequest | Mapping[str, Any], *, namespace: str | None = None
    ) -> OptimizationState:
        """Ask, and do not wait. `events` tells how it goes, `state` what became of it.

        Raises
        ------
        ConflictError
            If a request of this id is being answered.
        """
        return await self._do(calls.submit(request, namespace or self._namespace))

    async def state(self, request_id: str) -> OptimizationState:
        """Return how a submitted request stands, with its answer when there is one."""
        return await self._do(calls.state(request_id))

    async def cancel(self, request_id: str) -> OptimizationState:
        """End a submitted request: the best answer so far is its ``response``. One that has ended stays as it is."""
        return await self._do(calls.cancel(request_id))

    async def events(self, request_id: str) -> AsyncIterator[Improvement | OptimizationResult]:
        """Follow a submitted request: each improvement, and last the answer. A broken connection is taken up again.

        Raises
        ------
        EngineOpsError
            If the API refuses, or cannot be reached any more.
        """
        last_id = ""
        attempts = Attempts(self._settings.timeout_seconds)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._settings.timeout_seconds, sock_read=SILENCE_SECONDS
        )
        while True:
            parser = EventParser(last_id)
            call = calls.events(request_id, last_id)
            broken: Exception | None = None
            try:
                async with self._request(call, timeout) as answer:
                    if answer.status != 200:
                        await _wait_or_raise(answer, await answer.read(), attempts)
                        continue
                    async for chunk in answer.content.iter_any():
                        for event in parser.feed(chunk):
                            last_id = event.id
                            told = calls.event_of(event)
                            if told is not None:
                                yield told
                            if isinstance(told, OptimizationResult):
                                return
                        attempts = Attempts(self._settings.timeout_seconds)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                broken = self._unreachable(error)
            wait = attempts.wait_seconds(503, RECONNECT_SECONDS)
            if wait is None:
                raise UnreachableError(f"the events end before the answer: {broken or self.base_url}") from broken
            await asyncio.sleep(wait)

    async def health(self) -> dict[str, Any]:
        """Return ``status`` (ok or degraded), ``version`` and what else the API says of itself."""
        return await self._do(calls.look("/api/v1/health"))

    async def metrics(self) -> dict[str, Any]:
        """Return requests by outcome, durations, what is in flight, and numbers of cache and plugins."""
        return await self._do(calls.look("/api/v1/metrics"))

    async def cache_stats(self) -> dict[str, Any]:
        """Return ``hits``, ``misses`` and the size of the result cache."""
        return await self._do(calls.look("/api/v1/cache/stats"))

    async def plugins(self) -> list[dict[str, Any]]:
        """Return all plugins: name, version, description, supportedTypes, config {enabled, priority}."""
        return await self._do(calls.plugins())

    async def plugin(self, name: str) -> dict[str, Any]:
        """Return one plugin, with its settings and its status."""
        return await self._do(calls.plugin(name))

    async def enable(self, name: str, *, force: bool = False) -> dict[str, Any]:
        """Enable a plugin, and return it.

        Parameters
        ----------
        name
            Of the plugin.
        force
            Also where another manager, such as a GitOps controller, owns the setting and may change it back.

        Raises
        ------
        ConflictError
            If another manager owns the setting.
        """
        return await self._do(calls.switch(name, on=True, force=force))

    async def disable(self, name: str, *, force: bool = False) -> dict[str, Any]:
        """Disable a plugin, and return it. See `enable`."""
        return await self._do(calls.switch(name, on=False, force=force))

    async def configure(
        self,
        name: str,
        *,
        enabled: bool | None = None,
        priority: int | None = None,
        config: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Change a plugin's settings, and return it. None for what stays; ``config`` replaces the whole."""
        return await self._do(calls.configure(name, enabled=enabled, priority=priority, config=config, force=force))

    async def workload_stats(self, *, namespace: str | None = None) -> dict[str, Any]:
        """Return statistics of the history that the caller may read."""
        call = calls.workload_data("stats", type_=None, from_=None, to=None, namespace=namespace)
        return calls.decode_object(await self._do(call))

    async def export(
        self,
        *,
        type: str | None = None,  # noqa: A002 - as the API has it
        from_: Moment | None = None,
        to: Moment | None = None,
        limit: int | None = None,
        namespace: str | None = None,
    ) -> list[WorkloadDataPoint]:
        """Return data points of the history that the caller may read, oldest first.

        Parameters
        ----------
        type
            Of the requests; None for all.
        from_, to
            An aware datetime, milliseconds since the epoch, or RFC 3339; both ends included.
        limit
            The newest so many.
        namespace
            None for all that the caller may read.
        """
        call = calls.workload_data("export", type_=type, from_=from_, to=to, namespace=namespace, limit=limit)
        return calls.data_points(await self._do(call))

    async def export_file(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["json", "jsonl", "parquet"],  # noqa: A002 - as the API has it
        type: str | None = None,  # noqa: A002 - as above
        from_: Moment | None = None,
        to: Moment | None = None,
        limit: int | None = None,
        namespace: str | None = None,
    ) -> None:
        """Write data points to a file, in one of the formats that ``engine-ops history import`` reads. See `export`."""
        call = calls.workload_data(
            "export", type_=type, from_=from_, to=to, namespace=namespace, limit=limit, format=format
        )
        body = await self._do(call)
        await asyncio.to_thread(pathlib.Path(path).write_bytes, body)

    async def training_format(
        self,
        *,
        type: str | None = None,  # noqa: A002 - as the API has it
        from_: Moment | None = None,
        to: Moment | None = None,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Return features and labels of the history, as models are trained on them. See `export`."""
        call = calls.workload_data("training-format", type_=type, from_=from_, to=to, namespace=namespace)
        return calls.decode_object(await self._do(call))

    async def _do(self, call: Call[T]) -> T:
        attempts = Attempts(self._settings.timeout_seconds)
        while True:
            timeout = aiohttp.ClientTimeout(total=attempts.seconds_left)
            try:
                async with self._request(call, timeout) as answer:
                    body = await answer.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._unreachable(error) from error
            if 200 <= answer.status < 300:
                return call.read(body)
            await _wait_or_raise(answer, body, attempts)

    def _request(
        self, call: Call[T], timeout: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.session.request(
            call.method,
            self.base_url + call.path,
            params=call.params,
            data=call.body,
            headers=call.headers,
            timeout=timeout,
            # A redirect would make a GET of a POST, and there are none in the API.
            allow_redirects=False,
        )

    def _unreachable(self, error: Exception) -> UnreachableError:
        timed_out = isinstance(error, TimeoutError)
        why = why_unreachable(error, timed_out=timed_out, timeout_seconds=self._settings.timeout_seconds)
        return UnreachableError(f"{self.base_url}: {why}")


async def _wait_or_raise(answer: aiohttp.ClientResponse, body: bytes, attempts: Attempts) -> None:
    """Wait until the next attempt.

    Raises
    ------
    EngineOpsError
        If there is to be none.
    """
    again = retry_after(answer.headers)
    wait = attempts.wait_seconds(answer.status, again)
    if wait is None:
        raise error_of(answer.status, body, answer.headers, again)
    await asyncio.sleep(wait)
