"""Manifests without an API server: which documents are requests, which are ConfigMaps, and what is wrong with them."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine_ops.api.base import API_VERSION, GROUP
from engine_ops.api.faults import Fault, WaitingError, faults_of
from engine_ops.api.fields import INTEGRAL, NamespaceName, ObjectName
from engine_ops.api.optimizationrequest import KIND, OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.cli.documents import Document, Unreadable, read_documents

DEFAULT_NAMESPACE: Final = "default"

_TOP_LEVEL: Final = frozenset({"apiVersion", "kind", "metadata", "spec", "status"})
_OTHER_KINDS: Final = frozenset({"OptimizerPlugin"})
"""Kinds of our own group that are no requests."""


class _ObjectMeta(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: ObjectName
    namespace: NamespaceName | None = None
    generation: Annotated[int, Field(strict=True, ge=0), INTEGRAL] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One OptimizationRequest as a user wrote it.

    Parameters
    ----------
    where
        The file, the document and the name, for messages.
    body
        The whole object.
    namespace, name
        Its names; the namespace is ``default`` where none is given.
    generation
        ``metadata.generation``, or 1 for an object that was never applied.
    spec
        The question, or None if ``faults`` has what is wrong with it.
    faults
        With paths that begin with ``spec``.
    """

    where: str
    body: Mapping[str, Any]
    namespace: str
    name: str
    generation: int
    spec: OptimizationRequestSpec | None
    faults: tuple[Fault, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Manifests:
    """Everything that was read.

    Parameters
    ----------
    requests
        In order.
    config_maps
        By namespace and name.
    faults
        One line for each thing that is wrong with what is not among ``requests``.
    notes
        One line for each object that is left out on purpose.
    """

    requests: list[Request] = dataclasses.field(default_factory=list)
    config_maps: dict[tuple[str, str], Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    faults: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def value(self, namespace: str, name: str, key: str) -> bytes:
        """Return the value of a key of a ConfigMap.

        Raises
        ------
        WaitingError
            With DataNotFound, if it is not among the documents.
        """
        config_map = self.config_maps.get((namespace, name))
        where = f"ConfigMap {namespace}/{name}"
        if config_map is None:
            raise WaitingError(Reason.DATA_NOT_FOUND, f"{where} is not among the documents")
        return value_of(config_map, key, where)


def read_manifests(names: Sequence[str], stdin: bytes = b"") -> Manifests:
    """Read files, directories and standard input; see `engine_ops.cli.documents.read_documents`."""
    found = Manifests()
    seen: dict[tuple[str, str, str], str] = {}
    documents = 0
    for document in read_documents(names, stdin):
        if isinstance(document, Unreadable):
            found.faults.append(_line(document.where, document.fault))
            continue
        for single in _expand(document):
            documents += 1
            found.faults.extend(_line(_named(single), fault) for fault in _take(single, found, seen))
    if documents and not found.requests and not found.faults:
        found.faults.append(f"there is no {KIND} among {documents} document{'s' if documents > 1 else ''}")
    return found


def value_of(config_map: Mapping[str, Any], key: str, where: str) -> bytes:
    """Return the value of a key in ``data`` or ``binaryData``.

    Raises
    ------
    WaitingError
        With DataNotFound, if there is no such key.
    """
    texts, binaries = config_map.get("data") or {}, config_map.get("binaryData") or {}
    if key in texts:
        return str(texts[key]).encode()
    if key in binaries:
        return base64.b64decode(binaries[key])
    listed = ", ".join(sorted({*texts, *binaries})[:10]) or "none"
    raise WaitingError(Reason.DATA_NOT_FOUND, f"{where} has no key {key!r}; it has: {listed}")


def _expand(document: Document) -> Iterator[Document]:
    """Yield the objects of a list, else the document itself."""
    items = document.body.get("items")
    if not str(document.body.get("kind", "")).endswith("List") or not isinstance(items, list):
        yield document
        return
    for number, item in enumerate(items, start=1):
        where = f"{document.where}, item {number}"
        yield from _expand(Document(where, item if isinstance(item, dict) else {}))


def _take(document: Document, found: Manifests, seen: dict[tuple[str, str, str], str]) -> Iterable[Fault]:
    """Put a document where it belongs, or return what is wrong with it."""
    kind, api_version = document.body.get("kind"), document.body.get("apiVersion")
    absent = [
        Fault(field, "required, but absent" if value is None else "must be a text that is not empty")
        for field, value in (("apiVersion", api_version), ("kind", kind))
        if not isinstance(value, str) or not value
    ]
    if absent:
        return absent
    if kind == KIND and api_version != API_VERSION:
        return [Fault("apiVersion", f"must be {API_VERSION} for kind {KIND}, is {api_version}")]
    if kind == KIND:
        return _take_request(document, found, seen)
    if (api_version, kind) == ("v1", "ConfigMap"):
        return _take_config_map(document, found, seen)
    if str(api_version).startswith(f"{GROUP}/") and kind not in _OTHER_KINDS:
        return [Fault("kind", f"{GROUP} has no kind {kind}; did you mean {KIND}?")]
    found.notes.append(f"{_named(document)}: kind {kind} is left out")
    return ()


def _take_request(document: Document, found: Manifests, seen: dict[tuple[str, str, str], str]) -> Iterable[Fault]:
    faults = [Fault(field, "unknown field") for field in document.body if field not in _TOP_LEVEL]
    metadata, more = _metadata(document, seen)
    if metadata is None or faults:
        return [*more, *faults]
    spec, spec_faults = _spec(document.body.get("spec"))
    found.requests.append(
        Request(
            where=f"{document.where} ({metadata.name})",
            body=document.body,
            namespace=metadata.namespace or DEFAULT_NAMESPACE,
            name=metadata.name,
            generation=1 if metadata.generation is None else metadata.generation,
            spec=spec,
            faults=tuple(spec_faults),
        )
    )
    return ()


def _take_config_map(document: Document, found: Manifests, seen: dict[tuple[str, str, str], str]) -> Iterable[Fault]:
    metadata, faults = _metadata(document, seen)
    for field in ("data", "binaryData"):
        values = document.body.get(field)
        if values is not None and not isinstance(values, dict):
            faults.append(Fault(field, "must be an object"))
            continue
        for key, value in (values or {}).items():
            path = f"{field}.{key}"
            if not isinstance(value, str):
                faults.append(Fault(path, "must be a text"))
            elif field == "binaryData" and not _is_base64(value):
                faults.append(Fault(path, "must be base64"))
    if metadata is not None and not faults:
        found.config_maps[metadata.namespace or DEFAULT_NAMESPACE, metadata.name] = document.body
    return faults


def _metadata(document: Document, seen: dict[tuple[str, str, str], str]) -> tuple[_ObjectMeta | None, list[Fault]]:
    """Check an object's names, and that no object before it has the same."""
    raw = document.body.get("metadata")
    if raw is None:
        return None, [Fault("metadata", "required, but absent")]
    try:
        metadata = _ObjectMeta.model_validate(raw)
    except ValidationError as error:
        return None, faults_of(error, root="metadata")
    namespace = metadata.namespace or DEFAULT_NAMESPACE
    key = (document.body["kind"], namespace, metadata.name)
    if key in seen:
        return None, [Fault("metadata.name", f"{namespace}/{metadata.name} is there already, in {seen[key]}")]
    seen[key] = document.where
    return metadata, []


def _spec(raw: object) -> tuple[OptimizationRequestSpec | None, list[Fault]]:
    if raw is None:
        return None, [Fault("spec", "required, but absent")]
    try:
        return OptimizationRequestSpec.model_validate(raw), []
    except ValidationError as error:
        return None, faults_of(error, root="spec")


def _named(document: Document) -> str:
    metadata = document.body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{document.where} ({name})" if isinstance(name, str) else document.where


def _line(where: str, fault: Fault) -> str:
    return f"{where}: {fault}"


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
