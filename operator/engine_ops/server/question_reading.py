"""Reading a question: once, from the bytes that came, into what the engine and the result cache take."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import ValidationError

from engine_ops.api.faults import Fault, InvalidDataError, faults_of
from engine_ops.server.nesting import MAX_NESTING, is_too_deep
from engine_ops.server.optimize_models import (
    DEFAULT_SEARCH_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    MAX_ID_LENGTH,
    MAX_SECONDS,
    OLD_TYPES,
    OptimizeRequest,
)
from engine_ops.server.problem_handlers import MAX_ERRORS, MAX_PATH_LENGTH
from engine_ops.server.problems import ProblemError
from engine_ops.server.questions import Question

CANONICAL_BYTES: Final = 2**20
"""Longer data is compared as it is written: to bring 10 MiB into one form would hold up everybody for a third of a
second. Solvers check it as they do all data."""

LONG_BYTES: Final = 2**18
"""Of a longer body nothing is made Python objects that is not short itself: that takes seconds for 10 MiB of brackets,
in which no other thread of the process gets its turn."""

_SHORT_BYTES: Final = 4096

_Type = Literal["resource", "scheduling", "performance", "ml-driven", "genetic", "simulated-annealing"]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
_ID: Final = re.compile(r"[^\x00-\x1f\x7f]+")
_NOTHING: Final = msgspec.Raw(b"null")


class _Envelope(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True, gc=False):
    id: _Text
    type: _Type
    data: msgspec.Raw
    constraints: msgspec.Raw = _NOTHING
    plugin: _Text | None = None
    search_seconds: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)] | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(ge=1, le=MAX_SECONDS)] | None = None


class _Parts(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """The same with nothing looked at, and other members passed over."""

    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    constraints: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    plugin: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    search_seconds: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    timeout_seconds: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_PARTS: Final = msgspec.json.Decoder(_Parts)
_NAMES: Final = {field.name: field.encode_name for field in msgspec.structs.fields(_Envelope)}
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_ANYTHING: Final = msgspec.json.Decoder()
_CANONICAL: Final = msgspec.json.Encoder(order="deterministic")


@dataclasses.dataclass(frozen=True, slots=True)
class ReadQuestion:
    """A question as it was read.

    Parameters
    ----------
    question
        For the engine.
    content
        SHA-256 of data and constraints, the same however they were written, up to `CANONICAL_BYTES`.
    warnings
        What is done otherwise than asked.
    """

    question: Question
    content: bytes
    warnings: tuple[str, ...]


def read_question(body: bytes, *, namespace: str, username: str) -> ReadQuestion:
    """Read a question.

    Parameters
    ----------
    body
        JSON of an `OptimizeRequest`.
    namespace, username
        Where it counts, and whose it is.

    Raises
    ------
    ProblemError
        400 for what is no JSON, or nested too deep; 422 with each field at fault for what is no question.
    """
    if is_too_deep(body):
        raise ProblemError("malformed", f"The body is nested more than {MAX_NESTING} levels deep.")
    try:
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(_faults(body) or [_told(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    data, constraints = bytes(envelope.data), bytes(envelope.constraints)
    if constraints == b"null":
        constraints = b"{}"
    timeout_seconds = DEFAULT_TIMEOUT_SECONDS if envelope.timeout_seconds is None else envelope.timeout_seconds
    search_seconds = envelope.search_seconds
    if data[:1] != b"{" or constraints[:1] != b"{" or not _ID.fullmatch(envelope.id):
        raise _invalid(_faults(body))
    if search_seconds is None:
        search_seconds = min(DEFAULT_SEARCH_SECONDS, timeout_seconds)
    elif search_seconds > timeout_seconds:
        unless = " (30 unless given)" if envelope.timeout_seconds is None else ""
        sentence = f"must not be above timeoutSeconds, which is {timeout_seconds:g}{unless}"
        raise _invalid([Fault("searchSeconds", sentence)])
    treated_as = OLD_TYPES.get(envelope.type)
    question = Question(
        id=envelope.id,
        namespace=namespace,
        username=username,
        type=treated_as or envelope.type,
        data=data,
        constraints=constraints,
        plugin=envelope.plugin,
        search_seconds=search_seconds,
        timeout_seconds=timeout_seconds,
    )
    warnings = () if treated_as is None else (f"type {envelope.type} is treated as {treated_as}",)
    # No JSON has a zero byte in it: the two cannot run into each other.
    content = hashlib.sha256(b"\0".join((_canonical(constraints), _canonical(data)))).digest()
    return ReadQuestion(question, content, warnings)


def _canonical(text: bytes) -> bytes:
    """Return JSON in the one form that all ways to write it have in common; long JSON as it is.

    Raises
    ------
    ProblemError
        400 where it is none: what the envelope's decoder passed over it did not look at closely.
    """
    try:
        if len(text) > CANONICAL_BYTES:
            text.decode()
            return text
        return _CANONICAL.encode(_ANYTHING.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise _malformed(error) from None


def _faults(body: bytes) -> list[Fault]:
    """Return what is wrong with JSON that is no question; of a long one perhaps not that it has unknown fields.

    Raises
    ------
    ProblemError
        400 where it is no JSON either.
    """
    try:
        value: Any = _ANYTHING.decode(body) if len(body) <= LONG_BYTES else _short_of(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    if not isinstance(value, dict):
        return [Fault("", "must be an object with id, type and data")]
    # Of tens of thousands of unknown fields each would be a fault, and some are as good.
    names = [name for name in value if name in _NAMES.values()]
    names += [name for name in value if name not in _NAMES.values()][:MAX_ERRORS]
    try:
        OptimizeRequest.model_validate({name: value[name] for name in names}, by_alias=True, by_name=False)
    except ValidationError as error:
        return faults_of(error)
    return []


def _short_of(body: bytes) -> dict[str, Any] | None:
    """Return the known members of a long body, with something in place of what is long; None where it is no object.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError
        If it is no JSON.
    """
    try:
        parts = _PARTS.decode(body)
    except msgspec.ValidationError:
        return None
    given = {name: getattr(parts, field) for field, name in _NAMES.items()}
    return {name: _stand_in(bytes(raw)) for name, raw in given.items() if raw is not msgspec.UNSET}


def _stand_in(raw: bytes) -> Any:
    if len(raw) <= _SHORT_BYTES or raw[:1] not in b'{["':
        return _ANYTHING.decode(raw)
    # No text that is looked at may be as long.
    return {b"{": {}, b"[": [], b'"': "x" * _SHORT_BYTES}[raw[:1]]


def _told(error: msgspec.ValidationError) -> Fault:
    """Return what the decoder found first, in the words that the others have."""
    unknown = _UNKNOWN.match(str(error))
    return Fault(unknown[1], "unknown field") if unknown else Fault("body", str(error)[:MAX_PATH_LENGTH])


def _malformed(error: Exception) -> ProblemError:
    return ProblemError("malformed", f"The body is not JSON that can be read: {error}.")


def _invalid(faults: Sequence[Fault]) -> ProblemError:
    # A path has the caller's own keys in it, of any length.
    named = [Fault(fault.path[:MAX_PATH_LENGTH] or "body", fault.message) for fault in faults[:MAX_ERRORS]]
    if not named:
        named = [Fault("body", "is no question")]
    return ProblemError(
        "invalid", f"{InvalidDataError(named).summary()}.", errors=[(fault.path, fault.message) for fault in named]
    )
