"""`EngineOpsClient`: the REST API from Python."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self, TypeVar

import requests

from engine_ops.client import calls
from engine_ops.client.calls import Call, Moment
from engine_ops.client.causes import why_unreachable
from engine_ops.client.errors import UnreachableError, error_of
from engine_ops.client.messages import Improvement, OptimizationState
from engine_ops.client.retrying import Attempts, retry_after
from engine_ops.client.session import new_session
from engine_ops.client.settings import BASE_URL, RECONNECT_SECONDS, SILENCE_SECONDS, Settings, Token, Verify
from engine_ops.client.sse import EventParser
from engine_ops.engine.request import OptimizationRequest, OptimizationResult
from engine_ops.ml.data_point import WorkloadDataPoint

T = TypeVar("T")


class EngineOpsClient:
    """A client of the REST API: that of an operator in a cluster, or of ``engine-ops serve`` on this machine.

    Several threads may use one client; only what is changed on `session` is to be changed before they begin.

    Parameters
    ----------
    base_url
        Where the API is. A path is kept: it may be behind a proxy.
    timeout
        Seconds, of a call with all its attempts; a single silence of the server may be as long.
    token
        A bearer token, or a function that returns it as it is now: it is always sent. Empty for none. None looks for
        one, for https only: that of the Pod's ServiceAccount, else that of the kubeconfig's current context.
    verify
        Whether to check the server's certificate, or a file of CAs. None believes the system's CAs and, where the token
        was found, the CA that was found beside it.
    namespace
        Where requests count; None for the ServiceAccount's own.

    Attributes
    ----------
    base_url : str
        Without a slash at its end.
    session : requests.Session
        For calls of your own: it carries the token and the certificates, to `base_url` only.

    Raises
    ------
    ValueError
        If ``base_url`` or ``timeout`` is wrong.

    Notes
    -----
    Answers 429 and 503 say that nothing was begun: the call is made again, after what Retry-After says and a random
    while, for as long as ``timeout`` allows. All that the API refuses is raised as an
    `engine_ops.client.EngineOpsError`; that a question has no answer is none: see `OptimizationResult.success`.

    Examples
    --------
    >>> from engine_ops import EngineOpsClient, OptimizationRequest
    >>> client = EngineOpsClient("http://localhost:3000", timeout=10)
    >>> client.base_url
    'http://localhost:3000'
    >>> client.close()
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
        self.base_url = self._settings.base_url
        self.session = new_session(self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client can be used on, and opens new ones."""
        self.session.close()

    def optimize(
        self, request: OptimizationRequest | Mapping[str, Any], *, namespace: str | None = None
    ) -> OptimizationResult:
        """Ask, and wait for the answer.

        Parameters
        ----------
        request
            The question; a mapping is sent as it is, with the names of the API.
        namespace
            Where it counts; None for that of the client.

        Returns
        -------
        OptimizationResult
            ``success`` is false, with a reason, where not all that was asked for is possible, or not yet.

        Raises
        ------
        EngineOpsError
            If the API refuses; a `BadRequestError` names each field at fault.
        """
        return self._do(calls.optimize(request, namespace or self._namespace))

    def submit(
        self, request: OptimizationRequest | Mapping[str, Any], *, namespace: str | None = None
    ) -> OptimizationState:
        """Ask, and do not wait. `events` tells how it goes, `state` what became of it.

        Raises
        ------
        ConflictError
            If a request of this id is being answered.
        """
        return self._do(calls.submit(request, namespace or self._namespace))

    def state(self, request_id: str) -> OptimizationState:
        """Return how a submitted request stands, with its answer when there is one."""
        return self._do(calls.state(request_id))

    def cancel(self, request_id: str) -> OptimizationState:
        """End a submitted request: the best answer so far is its ``response``. One that has ended stays as it is."""
        return self._do(calls.cancel(request_id))

    def events(self, request_id: str) -> Iterator[Improvement | OptimizationResult]:
        """Follow a submitted request: each improvement, and last the answer. A broken connection is taken up again.

        Raises
        ------
        EngineOpsError
            If the API refuses, or cannot be reached any more.
        """
        last_id = ""
        attempts = Attempts(self._settings.timeout_seconds)
        while True:
            parser = EventParser(last_id)
            call = calls.events(request_id, last_id)
            broken: Exception | None = None
            try:
                with self._send(call, timeout=(self._settings.timeout_seconds, SILENCE_SECONDS), stream=True) as answer:
                    if answer.status_code != 200:
                        self._wait_or_raise(answer, attempts)
                        continue
                    for chunk in answer.iter_content(None):
                        for event in parser.feed(chunk):
                            last_id = event.id
                            told = calls.event_of(event)
                            if told is not None:
                                yield told
                            if isinstance(told, OptimizationResult):
                                return
                        attempts = Attempts(self._settings.timeout_seconds)
            except UnreachableError as error:
                broken = error
            except requests.RequestException as error:
                broken = UnreachableError(f"{self.base_url}: {self._why(error)}")
            wait = attempts.wait_seconds(503, RECONNECT_SECONDS)
            if wait is None:
                raise UnreachableError(f"the events end before the answer: {broken or self.base_url}") from broken
            time.sleep(wait)

    def health(self) -> dict[str, Any]:
        """Return ``status`` (ok or degraded), ``version`` and what else the API says of itself."""
        return self._do(calls.look("/api/v1/health"))

    def metrics(self) -> dict[str, Any]:
        """Return requests by outcome, durations, what is in flight, and numbers of cache and plugins."""
        return self._do(calls.look("/api/v1/metrics"))

    def cache_stats(self) -> dict[str, Any]:
        """Return ``hits``, ``misses`` and the size of the result cache."""
        return self._do(calls.look("/api/v1/cache/stats"))

    def plugins(self) -> list[dict[str, Any]]:
        """Return all plugins: name, version, description, supportedTypes, config {enabled, priority}."""
        return self._do(calls.plugins())

    def plugin(self, name: str) -> dict[str, Any]:
        """Return one plugin, with its settings and its status."""
        return self._do(calls.plugin(name))

    def enable(self, name: str, *, force: bool = False) -> dict[str, Any]:
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
        return self._do(calls.switch(name, on=True, force=force))

    def disable(self, name: str, *, force: bool = False) -> dict[str, Any]:
        """Disable a plugin, and return it. See `enable`."""
        return self._do(calls.switch(name, on=False, force=force))

    def configure(
        self,
        name: str,
        *,
        enabled: bool | None = None,
        priority: int | None = None,
        config: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> dict[str, Any]:
        """Change a plugin's settings, and return it. None for what stays; ``config`` replaces the whole."""
        return self._do(calls.configure(name, enabled=enabled, priority=priority, config=config, force=force))

    def workload_stats(self, *, namespace: str | None = None) -> dict[str, Any]:
        """Return statistics of the history that the caller may read."""
        call = calls.workload_data("stats", type_=None, from_=None, to=None, namespace=namespace)
        return calls.decode_object(self._do(call))

    def export(
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
        return calls.data_points(self._do(call))

    def export_file(
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
        pathlib.Path(path).write_bytes(self._do(call))

    def training_format(
        self,
        *,
        type: str | None = None,  # noqa: A002 - as the API has it
        from_: Moment | None = None,
        to: Moment | None = None,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Return features and labels of the history, as models are trained on them. See `export`."""
        call = calls.workload_data("training-format", type_=type, from_=from_, to=to, namespace=namespace)
        return calls.decode_object(self._do(call))

    def _do(self, call: Call[T]) -> T:
        attempts = Attempts(self._settings.timeout_seconds)
        while True:
            with self._send(call, timeout=attempts.seconds_left) as answer:
                if 200 <= answer.status_code < 300:
                    return call.read(answer.content)
                self._wait_or_raise(answer, attempts)

    def _send(self, call: Call[T], *, timeout: float | tuple[float, float], stream: bool = False) -> requests.Response:
        try:
            return self.session.request(
                call.method,
                self.base_url + call.path,
                params=dict(call.params),
                data=call.body,
                headers=dict(call.headers),
                timeout=timeout,
                stream=stream,
                # A redirect would make a GET of a POST, and there are none in the API.
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise UnreachableError(f"{self.base_url}: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        timed_out = isinstance(error, requests.Timeout)
        return why_unreachable(error, timed_out=timed_out, timeout_seconds=self._settings.timeout_seconds)

    @staticmethod
    def _wait_or_raise(answer: requests.Response, attempts: Attempts) -> None:
        """Wait until the next attempt.

        Raises
        ------
        EngineOpsError
            If there is to be none.
        """
        again = retry_after(answer.headers)
        wait = attempts.wait_seconds(answer.status_code, again)
        if wait is None:
            raise error_of(answer.status_code, answer.content, answer.headers, again)
        answer.close()
        time.sleep(wait)
