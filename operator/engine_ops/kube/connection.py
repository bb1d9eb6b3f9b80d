"""Credentials, from a kubeconfig or from the Pod, and the one HTTP session that uses them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import aiohttp
import msgspec
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration

from engine_ops.kube.connection_end import EndingConnector
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
"""An Accept header that keeps the answer to a write small, however large the object is."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
"""The same for a list; a watch wants `METADATA_ONLY`."""

NAMESPACE_FILE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# The client's configuration loaders carry no type annotations.
_kube_config: Any = kubernetes_config

UNREADABLE = (
    kubernetes_config.ConfigException,
    OSError,
    yaml.YAMLError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What the client's loaders raise of a kubeconfig; the last four where it is empty, or has another shape."""

REQUEST_TIMEOUT_SECONDS = 30.0
MAX_CONNECTIONS = 16
"""At so many status writes at once the API server is the limit, not the round trip (measured, see DESIGN)."""


OnCall = Callable[[str, int | None, float], None]
"""Told of each call of the API server: the verb as in RBAC (``get`` stands for lists too), the status of the answer or
None where there was none, and the seconds until it was there (of a watch, until it began)."""

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def _count_nothing(verb: str, status: int | None, seconds: float) -> None:
    del verb, status, seconds


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """What another client in this process, such as kopf, needs to reach the same server as the same user."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str | None
    insecure: bool
    proxy_url: str | None


class Connection:
    """An authenticated HTTP session with the API server. Make one with `Connection.open`.

    Parameters
    ----------
    configuration
        Loaded credentials.
    kubeconfig
        Where they came from; None for those of the Pod.
    namespace
        The namespace that the credentials name, or ``default``.

    Attributes
    ----------
    on_call : OnCall
        Told of each call, on the loop that makes it; nobody by default. Connections made of this one tell the same.
    """

    def __init__(self, configuration: Configuration, kubeconfig: str | None, namespace: str) -> None:
        self._configuration = configuration
        self._kubeconfig = kubeconfig
        self._session: aiohttp.ClientSession | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._renewable = True
        self.namespace = namespace
        self.on_call: OnCall = _count_nothing

    @classmethod
    async def open(cls, kubeconfig: str | None = None) -> Self:
        """Load credentials and make a session. Nothing is asked of the server yet.

        Parameters
        ----------
        kubeconfig
            A file. None takes ``KUBECONFIG``, else the Pod's own ServiceAccount, else ``~/.kube/config``.

        Raises
        ------
        ConnectError
            If there are no credentials, or they cannot be read.
        """
        source = _choose_source(kubeconfig)
        self = cls(await _load(source), source, _namespace_of(source))
        self._begin(connections=MAX_CONNECTIONS)
        return self

    def apart(self) -> Self:
        """Return another one to the same server, as the same user: its requests never wait behind those of this one.

        The caller closes it.
        """
        other = type(self)(self._configuration, self._kubeconfig, self.namespace)
        other._renewable = self._renewable  # noqa: SLF001 - of its own class
        other.on_call = self.on_call
        other._begin(connections=1)  # noqa: SLF001
        return other

    def as_user(self, token: str) -> Self:
        """Return another one to the same server, as the user whose token this is and with nothing of our own.

        It trusts the same authority and takes the same proxy. It shows no client certificate (the API server would take
        that for the user before it looked at the token), and never reads our credentials: a token that is not accepted
        is an `ApiError` with status 401. The caller closes it.

        Parameters
        ----------
        token
            A bearer token.

        Raises
        ------
        ConnectError
            If the authority's certificate cannot be read.
        """
        own = self._configuration
        configuration = Configuration(
            host=self.server, ssl_ca_cert=own.ssl_ca_cert, verify_ssl=own.verify_ssl, proxy=own.proxy
        )
        configuration.api_key["BearerToken"] = f"Bearer {token}"
        other = type(self)(configuration, None, self.namespace)
        other._renewable = False  # noqa: SLF001 - of its own class
        other.on_call = self.on_call
        other._begin(connections=1)  # noqa: SLF001
        return other

    def new_session(
        self,
        *,
        connections: int,
        timeout: aiohttp.ClientTimeout,
        trace: aiohttp.TraceConfig | None = None,
    ) -> aiohttp.ClientSession:
        """Make a session of its own to the same server; the caller closes it. For `engine_ops.kube.channel`.

        Parameters
        ----------
        connections
            How many TCP connections it may have.
        timeout
            Of its requests.
        trace
            What is told of its connections.

        Raises
        ------
        ConnectError
            If the certificates cannot be read.
        """
        return aiohttp.ClientSession(
            connector=EndingConnector(limit=connections, ssl=self._ssl_context(), keepalive_timeout=60),
            timeout=timeout,
            skip_auto_headers=("User-Agent",),
            headers={"User-Agent": "engine-ops"},
            trace_configs=[] if trace is None else [trace],
        )

    async def close(self) -> None:
        """End the session."""
        if self._reloading is not None:
            self._reloading.cancel()
        if self._session is not None:
            await self._session.close()

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._configuration.host)

    @property
    def proxy_url(self) -> str | None:
        """The proxy on the way to it, if there is one."""
        proxy: str | None = self._configuration.proxy
        return proxy

    async def headers(self, accept: str = JSON) -> dict[str, str]:
        """Return the headers of a request: what is accepted, and the token as it is now."""
        headers = {"Accept": accept}
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        return headers

    async def credentials(self) -> Credentials:
        """Return the credentials as they are now; a token that has run out is read again."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return Credentials(
            server=self.server,
            ca_path=self._configuration.ssl_ca_cert,
            certificate_path=self._configuration.cert_file,
            private_key_path=self._configuration.key_file,
            token=token.partition(" ")[2] if token else None,
            insecure=not self._configuration.verify_ssl,
            proxy_url=self._configuration.proxy,
        )

    async def reload(self) -> None:
        """Read the credentials again, as an exec plugin or a rotated file may have changed them.

        Who comes while they are read waits for the same. It goes on when one of them gives up: a plugin may take
        longer than one attempt to renew the Lease may.

        Raises
        ------
        ConnectError
            If they cannot be read.
        """
        if not self._renewable:
            return
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._load_again(), name="read the credentials again")
            self._reloading.add_done_callback(self._reloaded)
        await asyncio.shield(self._reloading)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        params: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send one request and return the answer's body.

        Raises
        ------
        ApiError
            If the server refused.
        UnavailableError
            If it could not be reached, or took longer than 30 s.
        """
        status, answer = await self._send(method, path, body, content_type, accept, params)
        if status == 401 and self._renewable:
            try:
                await self.reload()
            except ConnectError as error:  # a file that is being replaced is back in a moment
                raise UnavailableError(str(error)) from error
            status, answer = await self._send(method, path, body, content_type, accept, params)
        if status >= 400:
            raise ApiError(status, decode_status(answer))
        return answer

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Read one object or list. Raises as `request` does."""
        answer: dict[str, Any] = msgspec.json.decode(await self.request("GET", path, params=params))
        return answer

    async def _load_again(self) -> None:
        self._configuration = await _load(self._kubeconfig)

    def _reloaded(self, task: asyncio.Task[None]) -> None:
        self._reloading = None
        if not task.cancelled():
            task.exception()  # has been looked at, also where nobody waits for it any more

    def _begin(self, *, connections: int) -> None:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        self._session = self.new_session(connections=connections, timeout=timeout)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        content_type: str,
        accept: str,
        params: Mapping[str, str] | None,
    ) -> tuple[int, bytes]:
        if self._session is None:
            raise ConnectError("the connection is not open")
        headers = {**await self.headers(accept), "Content-Type": content_type}
        status: int | None = None
        began = time.perf_counter()
        try:
            async with self._session.request(
                method, self.server + path, data=body, headers=headers, params=params, proxy=self.proxy_url
            ) as response:
                answer = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"{self.server}: {str(error) or type(error).__name__}") from error
        finally:
            self.on_call(_VERBS.get(method, "other"), status, time.perf_counter() - began)
        return response.status, answer

    def _ssl_context(self) -> ssl.SSLContext:
        configuration = self._configuration
        try:
            context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
            if configuration.cert_file:
                context.load_cert_chain(configuration.cert_file, configuration.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConnectError(f"the certificates cannot be read: {error}") from error
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _choose_source(kubeconfig: str | None) -> str | None:
    chosen = kubeconfig or os.environ.get("KUBECONFIG")
    if chosen:
        return chosen
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    return str(pathlib.Path("~/.kube/config").expanduser())


def is_there(source: str) -> bool:
    """Return whether any of the files of a kubeconfig, with ``:`` between, is there."""
    return any(pathlib.Path(path).expanduser().exists() for path in source.split(os.pathsep) if path)


def context_names(source: str) -> tuple[str, ...]:
    """Return the contexts of a kubeconfig, or of several with ``:`` between; empty where they cannot be read.

    Parameters
    ----------
    source
        The files.
    """
    try:
        contexts, _ = _kube_config.list_kube_config_contexts(source)
    except UNREADABLE:
        return ()
    return tuple(str(context["name"]) for context in contexts)


async def _load(source: str | None) -> Configuration:
    configuration = Configuration()
    if source is not None and not is_there(source):
        raise ConnectError(
            f"no credentials from {source}: there is no such file; KUBECONFIG or --kubeconfig names another"
        )
    try:
        if source is None:
            _kube_config.load_incluster_config(client_configuration=configuration)
        else:
            # The user's file is never written: a refreshed token stays in memory.
            await _kube_config.load_kube_config(source, client_configuration=configuration, persist_config=False)
    except UNREADABLE as error:
        where = "the Pod's ServiceAccount" if source is None else source
        raise ConnectError(f"no credentials from {where}: {error}") from error
    return configuration


def _namespace_of(source: str | None) -> str:
    if source is None:
        return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"
    try:
        contexts, active = _kube_config.list_kube_config_contexts(source)
    except UNREADABLE:
        return "default"
    del contexts
    namespace = (active.get("context") or {}).get("namespace")
    return str(namespace) if namespace else "default"


def decode_status(answer: bytes) -> dict[str, Any]:
    """Return the ``v1.Status`` that an answer is; where it is none, its first bytes are the message."""
    try:
        decoded = msgspec.json.decode(answer)
    except msgspec.DecodeError:
        return {"message": answer[:200].decode(errors="replace")}
    return decoded if isinstance(decoded, dict) else {}
