"""The control plane's client of itself."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from pathlib import Path

from engine_ops.devcluster.certificates import CertificateAuthority
from engine_ops.devcluster.client import ApiClient
from engine_ops.devcluster.ports import LOOPBACK

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    """As an API server does after a while in which nothing was asked."""
    authority = CertificateAuthority(tmp_path, "ca")
    served, shown = authority.server("server", [LOOPBACK]), authority.client("client", "someone")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate, served.key)
    listener = socket.create_server((LOOPBACK, 0))
    methods: list[bytes] = []

    def serve() -> None:
        for _ in range(2):
            connection, _address = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secured:
                asked = b""
                while not asked.endswith(b"\r\n\r\n"):
                    asked += secured.recv(4096)
                methods.append(asked.partition(b" ")[0])
                secured.sendall(_ANSWER)

    thread = threading.Thread(target=serve)
    thread.start()
    server = f"https://{LOOPBACK}:{listener.getsockname()[1]}"
    with (
        listener,
        ApiClient(server=server, ca_file=authority.key_pair.certificate, key_pair=shown, timeout_seconds=60) as client,
    ):
        assert client.request("GET", "/") == {}
        assert select.select([client._connection.sock], [], [], 60)[0], "the end of the connection has come"
        assert client.request("POST", "/") == {}
        thread.join()
    assert methods == [b"GET", b"POST"]
