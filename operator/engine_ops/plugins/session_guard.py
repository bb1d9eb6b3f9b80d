"""Calling a plugin's code: whatever it raises becomes one kind of error, and whatever it says fits a message."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, TypeVar

from engine_ops.plugins.base import PluginError, describe_failure
from engine_ops.plugins.messages import MAX_LINE

logger = logging.getLogger(__name__)

MAX_TRACEBACKS: Final = 20
"""Failures of a process that are logged with where they came from; a plugin that always fails would fill the disk."""

_R = TypeVar("_R")
_logged: set[str] = set()


def guarded(what: str, function: Callable[[], _R], *, passing: tuple[type[BaseException], ...] = ()) -> _R:
    """Call a plugin's code.

    Parameters
    ----------
    what
        The name of what is called, for the message.
    function
        The call.
    passing
        Errors to let through as they are.

    Raises
    ------
    PluginError
        Instead of anything else that is raised: also of SystemExit, KeyboardInterrupt and GeneratorExit, which a plugin
        may raise as it likes, for the process is there for it alone.
    """
    try:
        return function()
    except passing:
        raise
    except BaseException as error:
        described = describe(error)
        _log(what, described, error)
        raise PluginError(line(f"{what} failed: {described}")) from error


def describe(error: BaseException) -> str:
    """Return type and text of an error in one line, even where the error does not let itself be described."""
    try:
        return line(describe_failure(error))
    except BaseException:  # noqa: BLE001 - its class, and how it is written, are the plugin's own
        return "an error that cannot be described"


def message_of(error: PluginError) -> str:
    """Return the text of an error in one line; a plugin may raise one of its own kind, whose text cannot be had."""
    try:
        return line(str(error))
    except BaseException:  # noqa: BLE001 - foreign code
        return "an error that cannot be described"


def line(text: str, limit: int = MAX_LINE) -> str:
    """Return a text as one line of valid Unicode, cut where it is long."""
    # Cut first: the rest need not be looked at. A lone surrogate cannot be written to a message.
    short = text[: limit + 1].encode("utf-8", "replace").decode()
    joined = " ".join(short.split())
    return joined if len(joined) <= limit else f"{joined[: limit - 1]}…"


def text_of(value: object, limit: int) -> str:
    """Return what a plugin gives as a text; empty where it is none."""
    return line(str.__str__(value), limit) if issubclass(type(value), str) else ""


def _log(what: str, described: str, error: BaseException) -> None:
    key = f"{what} {described}"
    if key in _logged or len(_logged) >= MAX_TRACEBACKS:
        return
    _logged.add(key)
    try:
        logger.warning("%s failed: %s", what, described, exc_info=error)
    except BaseException:  # noqa: BLE001 - the traceback is written with the plugin's own code
        logger.warning("%s failed: %s", what, described)
