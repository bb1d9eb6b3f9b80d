"""Why no answer came, in a sentence, whichever library was to bring it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator


def why_unreachable(error: BaseException, *, timed_out: bool, timeout_seconds: float) -> str:
    """Return what kept an answer from coming, and what to do where the client can say it.

    Parameters
    ----------
    error
        Of requests or of aiohttp: what they were told by the system is somewhere below it.
    timed_out
        Whether it says that the time is over.
    timeout_seconds
        Of the call, with all its attempts.
    """
    if timed_out:
        return f"no answer within {timeout_seconds:g} s (timeout=)"
    # The innermost first: aiohttp's own errors are of the same classes, and lack what these say.
    said = (_sentence(below) for below in reversed(list(_below(error))))
    return next((sentence for sentence in said if sentence), str(error) or type(error).__name__)


def _sentence(error: BaseException) -> str | None:
    """Return what one of the system's errors says; None where it says nothing."""
    said: str | None = None
    match error:
        case ssl.SSLCertVerificationError(verify_message=message):
            said = f"its certificate is not believed: {message}; name the CA of the API with verify="
        case ssl.SSLError(reason=str(reason)):
            said = f"there is no TLS with it ({reason}): is it https?"
        case socket.gaierror(strerror=str(message)):
            said = f"its name cannot be resolved: {message}"
        case ConnectionRefusedError():
            said = "the connection is refused: nothing listens there"
        case ConnectionResetError():
            said = "the connection was closed before an answer: is it http, or https?"
        case OSError(strerror=str(message)):
            said = message
    return said


def _below(error: BaseException) -> Iterator[BaseException]:
    """Go through an error and what it was made of, the outermost first.

    Not through ``__context__``: that may be an error of the caller's, who asks in an except block.
    """
    seen: set[int] = set()
    ahead: list[object] = [error]
    while ahead:
        each = ahead.pop(0)
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        ahead += [
            getattr(each, "os_error", None),  # aiohttp
            getattr(each, "certificate_error", None),
            getattr(each, "reason", None),  # urllib3
            each.__cause__,
            *each.args,
        ]
