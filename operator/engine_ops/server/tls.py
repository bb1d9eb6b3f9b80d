"""TLS of the operator's own ports, with certificates that turn while it runs."""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path

logger = logging.getLogger(__name__)


class TlsError(Exception):
    """A certificate or its key cannot be used. The message names the options."""


class ReloadedCertificate:
    """A certificate and its key in files, read again when their content is another.

    A mounted Secret turns by a symbolic link, so neither path nor modification time say much: the content is compared.
    New connections get the new certificate through the callback for the server's name, which OpenSSL calls whether or
    not the client sends one: a whole new context takes over, or the old one stays as it was.

    Parameters
    ----------
    certificate
        PEM: the certificate, then those that it is signed with.
    key
        PEM, without a passphrase.
    options
        How the two are said on the command line, for messages.

    Raises
    ------
    TlsError
        If they cannot be used.
    """

    def __init__(
        self, certificate: Path, key: Path, *, options: tuple[str, str] = ("--api-tls-cert", "--api-tls-key")
    ) -> None:
        self._certificate = certificate
        self._key = key
        self._options = options
        try:
            self._tried = self._digest()
            self._current = self._load()
        except (OSError, ValueError) as error:
            raise TlsError(self._why(error)) from error
        self.context = self._load()
        """For the listener. Connections get what is current."""
        self.context.sni_callback = self._choose

    def check(self) -> bool:
        """Read the files again if they have changed.

        Returns
        -------
        bool
            Whether there is a new certificate. Where the new one cannot be used the old one stays and the log says so,
            once for each content.
        """
        try:
            digest = self._digest()
        except OSError as error:
            digest = str(error).encode()
            if digest != self._tried:
                logger.warning("%s; the certificate from before stays in use", self._why(error))
            self._tried = digest
            return False
        if digest == self._tried:
            return False
        try:
            context = self._load()
            if self._digest() != digest:
                return False  # They turned in between: the next check reads both anew.
        except (OSError, ValueError) as error:
            logger.warning("%s; the certificate from before stays in use", self._why(error))
            self._tried = digest
            return False
        self._current = context
        self._tried = digest
        logger.info("%s is a new certificate; it is in use from now on", self._certificate)
        return True

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _digest(self) -> bytes:
        pieces = [hashlib.sha256(path.read_bytes()).digest() for path in (self._certificate, self._key)]
        return b"".join(pieces)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # A client of TLS 1.2 could have the server do the costly part of a handshake again and again.
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        return context

    def _why(self, error: Exception) -> str:
        said = error.reason.replace("_", " ").lower() if isinstance(error, ssl.SSLError) and error.reason else error
        return f"{self._options[0]} {self._certificate} with {self._options[1]} {self._key} cannot be used: {said}"


def _no_passphrase() -> str:
    # Without this OpenSSL asks on the terminal.
    raise ValueError("the key has a passphrase")
