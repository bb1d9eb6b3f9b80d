"""What a point may hold: everything longer is cut or left out, and counted; what is no JSON value is refused."""

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from engine_ops.ml.data_point import WorkloadDataPoint

MAX_STRING: Final = 256
"""Characters of a string; the rest is cut."""
MAX_KEY: Final = 256
"""Characters of a key; the entry of a longer one is left out, since two of them could become one."""
MAX_DEPTH: Final = 8
"""Objects and lists inside each other, metadata itself being the first; what is deeper is left out."""
MAX_LEAVES: Final = 2048
"""Values in resource usage and metadata together, objects and lists counted too; further ones are left out."""
MAX_POINT_BYTES: Final = 16 * 1024
"""Bytes of a point's values as MessagePack; what goes beyond is left out."""

# What is worth most is kept when a point is too large: who it was, then what became of it.
_FIRST = ("uid", "generation", "run", "namespace", "name", "requestId", "workload", "outcome", "requested", "solve")
_INT64 = 2**63
_ENCODE = msgspec.msgpack.Encoder().encode


class InvalidPointError(ValueError):
    """A point holds a value that no JSON document can hold; the message names the field."""


@dataclasses.dataclass(slots=True)
class CutCounts:
    """How much did not fit.

    Parameters
    ----------
    points
        That lost something.
    strings
        That were cut at `MAX_STRING`.
    left_out
        Entries and list items that were left out for their key, their depth, their number or the point's size.
    """

    points: int = 0
    strings: int = 0
    left_out: int = 0


def _value_type(depth: int) -> Any:
    leaf = (
        None
        | bool
        | Annotated[int, msgspec.Meta(ge=-_INT64, le=_INT64 - 1)]
        | float
        | Annotated[str, msgspec.Meta(max_length=MAX_STRING)]
    )
    value: Any = leaf
    for _ in range(depth - 1):
        value = leaf | list[value] | dict[_Key, value]
    return dict[_Key, value]


_Key = Annotated[str, msgspec.Meta(max_length=MAX_KEY)]


class _Content(msgspec.Struct, array_like=True):
    # A struct, since msgspec prepares a plain type anew (9 ms) at each call of convert.
    usage: dict[_Key, float]
    metadata: _value_type(MAX_DEPTH)  # type: ignore[valid-type]
    further: _value_type(MAX_DEPTH)  # type: ignore[valid-type]


def pack(point: WorkloadDataPoint, counts: CutCounts) -> tuple[str, bytes]:
    """Return a point's request type, and everything of variable size as one MessagePack array, within the limits.

    The array holds resource usage, metadata, and the keys that the point's JSON had beside the known ones.
    Tuples and sets become lists, decimals and numpy's scalars plain numbers.

    Raises
    ------
    InvalidPointError
        If something is no JSON value, an integer does not fit 64 bits or a string is not Unicode (a lone surrogate).
    """
    kind, usage, metadata = point.request_type, point.resource_usage, point.metadata
    further = point.further
    try:
        # One pass in C says that nothing has to be cut, which is so for nearly every point.
        packed = _ENCODE(msgspec.convert((usage, metadata, further), _Content))
        # A leaf takes a byte at least: a short point cannot have too many.
        few = len(packed) <= MAX_LEAVES or (
            len(packed) <= MAX_POINT_BYTES and _leaves(metadata, usage, further) <= MAX_LEAVES
        )
        if few and len(kind) <= MAX_STRING and kind.isascii():
            return kind, packed
    except (msgspec.ValidationError, TypeError, ValueError, AttributeError, RecursionError):
        pass  # the slow way says what is wrong, or cuts it
    trimmer = _Trimmer(counts)
    kind = trimmer.text("request_type", kind)
    packed = trimmer.pack(usage, metadata, further)
    counts.points += trimmer.lost
    return kind, packed


def _leaves(*values: Any) -> int:
    count = 0
    pending = list(values)
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            pending.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            pending.extend(value)
        count += 1
    return count


class _Trimmer:
    def __init__(self, counts: CutCounts) -> None:
        self.counts = counts
        self.lost = False
        self._leaves = 0
        self._bytes = 10  # around the objects

    def pack(self, usage: Mapping[str, float], metadata: Mapping[str, Any], further: Mapping[str, Any]) -> bytes:
        first = {name: metadata[name] for name in _FIRST if name in metadata}
        rest = {name: value for name, value in metadata.items() if name not in first}
        kept = self._object("metadata", first, 1)
        used = self._object("resource_usage", usage, 1)
        kept |= self._object("metadata", rest, 1)
        return _ENCODE((used, kept, self._object("the point", further, 1)))

    def text(self, path: str, value: str) -> str:
        value = str(value)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidPointError(f"{path} is not Unicode text: it holds a lone surrogate") from None
        if len(value) <= MAX_STRING:
            return value
        self.counts.strings += 1
        self.lost = True
        return value[:MAX_STRING]

    def _object(self, path: str, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidPointError(f"{path} has the key {key!r}: keys must be strings")
            place = f"{path}.{key[:MAX_KEY]}"
            if len(key) > MAX_KEY:
                self._leave_out()
                continue
            plain = self.text(f"the key {place}", key)
            cleaned = self._value(place, item, depth, len(_ENCODE(plain)))
            if cleaned is not _LEFT_OUT:
                kept[plain] = cleaned
        return kept

    def _value(self, path: str, value: Any, depth: int, overhead: int) -> Any:
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:  # numpy may not be loaded here
            value = value.item()
        if isinstance(value, Decimal):
            value = float(value)
        nested = isinstance(value, Mapping | list | tuple | set | frozenset)
        cleaned = value if nested else self._scalar(path, value)
        # A container of fewer than 65,536 entries begins with three bytes at most.
        size = overhead + (3 if nested else len(_ENCODE(cleaned)))
        if (nested and depth >= MAX_DEPTH) or self._leaves >= MAX_LEAVES or self._bytes + size > MAX_POINT_BYTES:
            return self._leave_out()
        self._bytes += size
        self._leaves += 1
        if isinstance(value, Mapping):
            return self._object(path, value, depth + 1)
        if nested:
            items = (self._value(f"{path}[{index}]", item, depth + 1, 0) for index, item in enumerate(value))
            return [item for item in items if item is not _LEFT_OUT]
        return cleaned

    def _scalar(self, path: str, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(path, value)
        if isinstance(value, int):
            if not -_INT64 <= value < _INT64:
                raise InvalidPointError(f"{path} is an integer beyond 64 bits")
            return int(value)
        if isinstance(value, float):
            return float(value)
        raise InvalidPointError(f"{path} is no JSON value but of type {type(value).__name__}")

    def _leave_out(self) -> Any:
        self.counts.left_out += 1
        self.lost = True
        return _LEFT_OUT


_LEFT_OUT: Final = object()
