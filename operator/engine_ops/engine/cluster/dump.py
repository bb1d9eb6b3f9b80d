"""A cluster from what kubectl printed: ``kubectl get nodes,pods,namespaces -A -o json``."""

from __future__ import annotations

import codecs
import re
from typing import Final

import msgspec

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.decode import Buffer, RecordDecoder, UndecodableObjectError
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodRecord, snapshot_of

HOW: Final = "make one with: kubectl get nodes,pods,namespaces -A -o json"

# JSON has no newline inside strings, so a brace on each side of one is the seam of two documents.
_SEAM: Final = re.compile(rb"(?<=\})[ \t\r]*\n\s*(?=\{)")
_MISSING: Final = re.compile(r"Object missing required field `(.+)`")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Document(msgspec.Struct, gc=False):
    kind: str | None = None
    items: list[msgspec.Raw] | None = None


class _Item(msgspec.Struct, gc=False):
    kind: str | None = None


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_ITEM: Final = msgspec.json.Decoder(_Item)


def read_dump(text: bytes, where: str) -> ClusterSnapshot:
    """Read a dump of a cluster.

    Parameters
    ----------
    text
        JSON: a ``v1.List`` of mixed items, a NodeList, PodList or NamespaceList, a single object, or several of these
        one after another. Other kinds of objects are passed over; of two with one name the later counts. A namespace
        that is not in it has only the label that the API server gives to all of them.
    where
        How a fault names it, such as the file's name.

    Raises
    ------
    InvalidDataError
        If it is not JSON (YAML is not read), if an object in it is none (``dump.json: items[3].metadata.name``), or if
        it has no node.
    """
    reader = _Reader(where)
    documents = _documents(text, where)
    for number, (document, raw) in enumerate(documents):
        reader.document(document, raw, f"{where}: document {number + 1}" if len(documents) > 1 else where)
    return reader.snapshot()


def _documents(text: bytes, where: str) -> list[tuple[_Document, bytes]]:
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell redirects
        text = text.decode("utf-16", "replace").encode()
    text = text.removeprefix(codecs.BOM_UTF8)
    if not text.lstrip().startswith(b"{"):
        raise InvalidDataError([Fault(where, f"is no JSON object, and YAML is not read as a dump; {HOW}")])
    try:
        return [(_DOCUMENT.decode(text), text)]
    except _UNREADABLE as error:
        parts = _SEAM.split(text)
        if len(parts) == 1:
            raise InvalidDataError([_fault(where, "", str(error))]) from error
    documents = []
    for number, part in enumerate(parts):
        try:
            documents.append((_DOCUMENT.decode(part), part))
        except _UNREADABLE as error:
            raise InvalidDataError([_fault(f"{where}: document {number + 1}", "", str(error))]) from error
    return documents


class _Reader:
    """Collects the records of a dump, and what is wrong with it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._decoder = RecordDecoder()
        self._faults: list[Fault] = []
        self._nodes: dict[str, NodeRecord] = {}
        self._pods: dict[tuple[str, str], PodRecord] = {}
        self._namespaces: dict[str, dict[str, str]] = {}

    def document(self, document: _Document, raw: bytes, prefix: str) -> None:
        """Read one JSON document; ``prefix`` is what its faults begin with."""
        if document.items is None:
            self._object(document.kind, raw, prefix, "")
            return
        # The API server leaves the kind out of what a PodList has in it, though not out of a List's.
        of_list = (document.kind or "").removesuffix("List")
        for number, item in enumerate(document.items):
            path = f"items[{number}]"
            try:
                kind = of_list or _ITEM.decode(item).kind
            except _UNREADABLE as error:
                self._faults.append(_fault(prefix, path, str(error)))
                continue
            self._object(kind, item, prefix, path)

    def _object(self, kind: str | None, raw: Buffer, prefix: str, path: str) -> None:
        if not kind:
            self._faults.append(_fault(prefix, path, "Object missing required field `kind`"))
            return
        try:
            missing = self._keep(kind, raw)
        except UndecodableObjectError as error:
            fault = _fault(prefix, path, error.fault)
            known = f" ({kind} {error.name})" if error.name else ""
            self._faults.append(Fault(fault.path, f"{fault.message}{known}"))
            return
        if missing:
            self._faults.append(_fault(prefix, path, f"Object missing required field `{missing}` - at `$.metadata`"))

    def _keep(self, kind: str, raw: Buffer) -> str | None:
        """Keep the record of an object; return what is missing of its name."""
        if kind == "Node":
            node = self._decoder.node(raw)
            self._nodes[node.name] = node
            return None if node.name else "name"
        if kind == "Namespace":
            name, labels = self._decoder.namespace(raw)
            self._namespaces[name] = labels
            return None if name else "name"
        if kind == "Pod" and (pod := self._decoder.pod(raw)) is not None:
            self._pods[pod.kind.namespace, pod.name] = pod
            if not pod.name:
                return "name"
            return None if pod.kind.namespace else "namespace"
        return None

    def snapshot(self) -> ClusterSnapshot:
        """Return what was read, or raise what was wrong."""
        if not self._nodes and not self._faults:
            self._faults.append(Fault(self._where, f"has no Node; {HOW}"))
        if self._faults:
            raise InvalidDataError(self._faults)
        for namespace, _ in self._pods:
            self._namespaces.setdefault(namespace, {"kubernetes.io/metadata.name": namespace})
        return snapshot_of(list(self._nodes.values()), list(self._pods.values()), self._namespaces)


def _fault(prefix: str, path: str, message: str) -> Fault:
    """Return a fault at the place, below ``path``, that msgspec names at the end of its message."""
    said, _, at = message.rpartition(" - at `$")
    if not said:
        said, at = message, ""
    at = at.rstrip("`")
    if missing := _MISSING.fullmatch(said):
        at, said = f"{at}.{missing.group(1)}", "required, but absent"
    location = (path + at).removeprefix(".")
    return Fault(f"{prefix}: {location}" if location else prefix, said)
