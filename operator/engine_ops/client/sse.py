"""Server-sent events, as the HTML standard has them (section 9.2.6), from bytes in any pieces."""

from __future__ import annotations

import codecs
import dataclasses
import re
from typing import Final

_LINE_END: Final = re.compile(r"\r\n|\r|\n")


@dataclasses.dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Parameters
    ----------
    name
        ``message`` where the server gave none.
    data
        Its lines, joined.
    id
        The last one that was given, in this event or before; empty for none.
    """

    name: str
    data: str
    id: str


class EventParser:
    """Makes events of the bytes of one answer.

    Parameters
    ----------
    last_id
        The id that goes for events until another is given.
    """

    def __init__(self, last_id: str = "") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = ""
        self._name = ""
        self._data: list[str] = []
        self._id = last_id

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Take what has come, and return the events that are complete now."""
        text = self._rest + self._decoder.decode(chunk)
        # A carriage return at the end may be half of a line's end.
        held = text.endswith("\r")
        lines = _LINE_END.split(text[:-1] if held else text)
        self._rest = lines.pop() + ("\r" if held else "")
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._end()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self._id = value
        return None  # comments keep the connection alive; other fields are not for us

    def _end(self) -> ServerEvent | None:
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return ServerEvent(name, "\n".join(data), self._id) if data else None
