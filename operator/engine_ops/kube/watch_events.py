"""From the lines of a watch to events; what is no event is told apart."""

from __future__ import annotations

from typing import Final

import msgspec

from engine_ops.kube.errors import ApiError

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"

_END_OF_LIST: Final = "k8s.io/initial-events-end"
_SHOWN_BYTES: Final = 120
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


class GarbageError(ValueError):
    """A line, or an object, that is not what was asked for: what has come since cannot be relied on."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a watch.

    Parameters
    ----------
    type
        One of `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`.
    version
        The resourceVersion that the resource is at with this event.
    key
        See `key_of`; empty for a bookmark.
    raw
        The object's JSON.
    end_of_list
        A bookmark that says that all initial events have come.
    """

    type: str
    version: int
    key: str
    raw: msgspec.Raw
    end_of_list: bool = False


class ListPage(msgspec.Struct):
    """One page of a list."""

    class Metadata(msgspec.Struct):
        """Its metadata."""

        resource_version: str = msgspec.field(default="", name="resourceVersion")
        continue_token: str = msgspec.field(default="", name="continue")

    metadata: Metadata
    items: list[msgspec.Raw] | None = None

    @property
    def version(self) -> int:
        """The resourceVersion of the list."""
        return _version(self.metadata.resource_version)


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    version: str = msgspec.field(default="", name="resourceVersion")


class _Object(msgspec.Struct, gc=False):
    metadata: _Metadata
    kind: str = ""


class _BookmarkMetadata(msgspec.Struct):
    annotations: dict[str, str] | None = None


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMetadata


class _Status(msgspec.Struct):
    code: int = 0
    reason: str = ""
    message: str = ""


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LINE: Final = msgspec.json.Decoder(_Line)
_OBJECT: Final = msgspec.json.Decoder(_Object)
_BOOKMARK: Final = msgspec.json.Decoder(_Bookmark)
_STATUS: Final = msgspec.json.Decoder(_Status)
_PAGE: Final = msgspec.json.Decoder(ListPage)


def key_of(namespace: str, name: str) -> str:
    """Return one text for both; keys sort as the pairs do."""
    return f"{namespace}\0{name}"


def parse_line(line: bytes, kinds: frozenset[str]) -> Event:
    """Return the event of one line.

    Parameters
    ----------
    line
        Without its end.
    kinds
        What kind the objects may be of.

    Raises
    ------
    ApiError
        If it is an error that the server tells of, such as 410.
    GarbageError
        If it is nothing known.
    """
    try:
        decoded = _LINE.decode(line)
        if decoded.type == "ERROR":
            status = _STATUS.decode(decoded.object)
            raise ApiError(status.code or 500, {"reason": status.reason, "message": status.message})
        found = _OBJECT.decode(decoded.object)
        version = _version(found.metadata.version)
        end = decoded.type == BOOKMARK and _ends_list(decoded.object)
    except _UNREADABLE as error:
        raise GarbageError(f"{error}: {_shown(line)}") from error
    if found.kind not in kinds:
        raise GarbageError(f"a {found.kind or 'nothing'} where a {' or '.join(sorted(kinds))} should be")
    if decoded.type == BOOKMARK:
        return Event(BOOKMARK, version, "", decoded.object, end)
    if decoded.type not in {ADDED, MODIFIED, DELETED}:
        raise GarbageError(f"an event of the type {decoded.type[:40]!r}")
    return Event(decoded.type, version, _key(found.metadata), decoded.object)


def parse_page(body: bytes) -> tuple[ListPage, list[tuple[str, msgspec.Raw]]]:
    """Return a page of a list, and its objects by key.

    Raises
    ------
    GarbageError
        If it is none.
    """
    try:
        page = _PAGE.decode(body)
        _version(page.metadata.resource_version)
        return page, [(_key(_OBJECT.decode(item).metadata), item) for item in page.items or ()]
    except _UNREADABLE as error:
        raise GarbageError(f"{error}: {_shown(body)}") from error


def _version(text: str) -> int:
    version = int(text)
    if version <= 0:
        raise ValueError(f"the resourceVersion {text}")
    return version


def _key(metadata: _Metadata) -> str:
    if not metadata.name:
        raise GarbageError("an object without a name")
    return key_of(metadata.namespace, metadata.name)


def _ends_list(raw: msgspec.Raw) -> bool:
    return (_BOOKMARK.decode(raw).metadata.annotations or {}).get(_END_OF_LIST) == "true"


def _shown(line: bytes) -> str:
    return repr(line[:_SHOWN_BYTES].decode(errors="replace"))
