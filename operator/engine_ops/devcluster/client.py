"""The few requests that the control plane makes to itself, over one kept connection.

The Kubernetes client library stays out on purpose: a plugin author who wants a cluster to test against need not
install it.
"""

from __future__ import annotations

import http.client
import json
import select
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from engine_ops.devcluster.certificates import KeyPair
from engine_ops.devcluster.errors import DevClusterError


class ApiError(DevClusterError):
    """The API server answered with an error.

    Parameters
    ----------
    status : int
        The HTTP status.
    message : str
        What the server said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ApiClient:
    """A client of one API server, authenticated with a certificate. Not for use by several threads at once.

    Parameters
    ----------
    server : str
        The API server's address, such as ``https://127.0.0.1:34567``.
    ca_file : Path
        The authority that the server's certificate is checked against.
    key_pair : KeyPair
        The client certificate.
    timeout_seconds : float
        How long the server may be silent over a request. Generous: it shares the machine with whoever asks it.
    """

    def __init__(self, *, server: str, ca_file: Path, key_pair: KeyPair, timeout_seconds: float = 60.0) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        context.load_cert_chain(key_pair.certificate, key_pair.key)
        address = urlsplit(server)
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=timeout_seconds, context=context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request.

        Parameters
        ----------
        method : str
            The HTTP method.
        path : str
            Path and query, such as ``/api/v1/nodes``.
        body : object, optional
            What is sent as JSON.

        Returns
        -------
        object
            The decoded JSON, or the text where the answer is not JSON.

        Raises
        ------
        ApiError
            If the server answers with a status of 400 or above.
        OSError
            If the server cannot be reached.
        """
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        self._leave_closed()
        try:
            self._connection.request(method, path, payload, headers)
            response = self._connection.getresponse()
            content = response.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        except OSError:
            # The next request opens a new connection.
            self._connection.close()
            raise
        text = content.decode("utf-8", "replace")
        is_json = "json" in (response.getheader("Content-Type") or "")
        if response.status >= http.client.BAD_REQUEST:
            message = json.loads(text).get("message", text) if is_json else text
            raise ApiError(response.status, f"{method} {path}: {response.status} {message}")
        return json.loads(text) if is_json else text

    def _leave_closed(self) -> None:
        """Leave a connection that the server has closed: it does so after 90 s in which nothing was asked.

        Nobody has asked anything, so what there is to be read is the end, or a farewell before it.
        """
        kept = self._connection.sock
        if kept is None:
            return
        poll = select.poll()
        poll.register(kept, select.POLLIN)
        if poll.poll(0):
            self._connection.close()
