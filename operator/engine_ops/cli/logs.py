"""Logging of the operator: one line an event, as text for people or as JSON for whoever collects it."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, TextIO

_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[31;1m",
}
_PLAIN: Final = "\x1b[0m"

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"} | {
    0x0A: "\\n",
    0x0D: "\\r",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
"""What would let a user's words forge lines, or move the cursor."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: timestamp, level, logger, message; the object it is about, and an exception, if any.

    The timestamp is RFC 3339, in UTC. The object is the first argument of the message that is one: a
    `engine_ops.kube.status_writer.Target`, or that of kopf's own loggers.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry: dict[str, Any] = {
            "timestamp": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_object_of(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        # Half a character pair, from a name that was no UTF-8, is no text: it is written as \udc80.
        return json.dumps(entry, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()


class TextFormatter(logging.Formatter):
    """One line an event, and a traceback below it.

    Parameters
    ----------
    colours
        Whether warnings and errors are to stand out.
    """

    def __init__(self, *, colours: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as the library has it
        """Return the line without the traceback; control characters in it are spelled out."""
        line = super().formatMessage(record).translate(_CONTROLS)
        colour = _COLOURS.get(record.levelno, "") if self._colours else ""
        return f"{colour}{line}{_PLAIN}" if colour else line


def configure_logging(log_format: str, level: int, stream: TextIO | None = None) -> None:
    """Send logs to standard error.

    Parameters
    ----------
    log_format
        ``text`` or ``json``.
    level
        Of our own loggers; kopf's are heard from warnings on, unless everything is.
    stream
        In place of standard error.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter(colours=_wants_colours(stream)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("engine_ops").setLevel(level)
    logging.getLogger("kopf").setLevel(logging.WARNING if level > logging.DEBUG else logging.DEBUG)


def _wants_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object_of(record: logging.LogRecord) -> dict[str, str]:
    """Return kind, namespace and name of the object that a record is about, as far as they are known."""
    reference = getattr(record, "k8s_ref", None)  # of kopf's loggers
    if isinstance(reference, Mapping):
        found = {field: reference.get(field) for field in ("kind", "namespace", "name")}
    else:
        arguments = record.args if isinstance(record.args, tuple) else ()
        about = next((each for each in arguments if hasattr(each, "namespace") and hasattr(each, "generation")), None)
        kind = getattr(getattr(about, "kind", None), "kind", None)
        found = {"kind": kind, "namespace": getattr(about, "namespace", None), "name": getattr(about, "name", None)}
    return {field: value for field, value in found.items() if isinstance(value, str) and value}
