"""Where the operator answers HTTP."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
from typing import Final

_ADDRESS: Final = re.compile(
    r"(?P<scheme>https?)://(?:\[(?P<v6>[^\[\]/]*)\]|(?P<name>[^\[\]/:@?#\s]*)):(?P<port>[0-9]{1,5})(?P<path>/[^?#\s]*)?"
)
_BACKLOG: Final = 1024


class AddressError(ValueError):
    """An address cannot be read, or cannot be listened on. The message names the option."""


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Parameters
    ----------
    option
        Where it was said, such as ``--api``, for messages.
    scheme
        ``http`` or ``https``.
    host
        An address or a name, IPv6 without brackets.
    port
        0 for any that is free.
    """

    option: str
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine (of this Pod) reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def listen(self) -> socket.socket:
        """Bind a socket and listen on it; what connects is kept by the kernel until somebody accepts it.

        Returns
        -------
        socket.socket
            Not blocking.

        Raises
        ------
        AddressError
            If that cannot be done.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            # A name with both kinds of address: clients that try IPv6 first come to IPv4 next, most the other way not.
            family, kind, protocol, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
            listening = socket.socket(family, kind, protocol)
        except (OSError, UnicodeError) as error:
            raise AddressError(f"{self.option} {self}: {error}") from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits both: answers leave at once, and a peer that vanished is noticed.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(place)
            listening.listen(_BACKLOG)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise AddressError(f"{self.option} {self}: {error.strerror or error}") from error
        return listening


def parse_address(text: str, option: str, *, paths: tuple[str, ...] = ("", "/")) -> Address:
    """Read an address.

    Parameters
    ----------
    text
        ``http://HOST:PORT`` or ``https://HOST:PORT``; IPv6 in brackets, port 0 for any that is free.
    option
        Where it was said, such as ``--api``.
    paths
        What may follow; it is not kept.

    Raises
    ------
    AddressError
        If it is no address.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None:
        raise AddressError(
            f"{option} must be http://HOST:PORT or https://HOST:PORT, an IPv6 address in brackets, not {text!r}"
        )
    port = int(found["port"])
    if port > 65535:
        raise AddressError(f"{option} {text!r}: there is no port {port}")
    if (found["path"] or "") not in paths:
        raise AddressError(f"{option} {text!r}: it ends with the port, without {found['path']}")
    if found["v6"] is not None:
        try:
            host = str(ipaddress.IPv6Address(found["v6"]))
        except ValueError as error:
            raise AddressError(f"{option} {text!r}: {error}") from error
    else:
        host = found["name"].lower()
        if not host:
            raise AddressError(f"{option} {text!r} has no host: write 127.0.0.1 for this machine, 0.0.0.0 for all")
    return Address(option, found["scheme"], host, port)
