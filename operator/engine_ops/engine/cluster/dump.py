"""A cluster from what kubectl printed: ``kubectl get nodes,pods,namespaces -A -o json``."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.decode import RecordDecoder, UndecodableObjectError
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodRecord, snapshot_of

HOW: Final = "make one with: kubectl get nodes,pods,namespaces -A -o json"

_KINDS: Final = ("Node", "Pod", "Namespace")
_LISTS: Final = {f"{kind}List": kind for kind in _KINDS}
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
        reader.document(document, raw, f"document {number + 1}: " if len(documents) > 1 else "")
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
            raise InvalidDataError([_fault(f"{where}: ", str(error))]) from error
    documents = []
    for number, part in enumerate(parts):
        try:
            documents.append((_DOCUMENT.decode(part), part))
        except _UNREADABLE as error:
            raise InvalidDataError([_fault(f"{where}: document {number + 1}: ", str(error))]) from error
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
        """Read one JSON document."""
        prefix = f"{self._where}: {prefix}"
        if document.items is None:
            if document.kind is None:
                self._faults.append(Fault(f"{prefix}kind", f"required, but absent; {HOW}"))
            else:
                self._object(document.kind, raw, prefix)
            return
        of_list = _LISTS.get(document.kind or "")
        for number, item in enumerate(document.items):
            path = f"{prefix}items[{number}]"
            kind = of_list
            if kind is None:
                try:
                    kind = _ITEM.decode(item).kind
                except _UNREADABLE as error:
                    self._faults.append(_fault(path, str(error)))
                    continue
            if kind is None:
                self._faults.append(Fault(f"{path}.kind", "required, but absent"))
            else:
                self._object(kind, item, path)

    def _object(self, kind: str, raw: Any, path: str) -> None:
        keep: dict[str, Callable[[Any, str], None]] = {
            "Node": self._node,
            "Pod": self._pod,
            "Namespace": self._namespace,
        }
        if kind not in keep:
            return
        try:
            keep[kind](raw, path)
        except UndecodableObjectError as error:
            fault = _fault(path, error.fault)
            known = f" ({kind} {error.name})" if error.name else ""
            self._faults.append(Fault(fault.path, f"{fault.message}{known}"))

    def _node(self, raw: Any, path: str) -> None:
        node = self._decoder.node(raw)
        if self._named(node.name, path, "name"):
            self._nodes[node.name] = node

    def _pod(self, raw: Any, path: str) -> None:
        pod = self._decoder.pod(raw)
        if pod is None:
            return
        namespace = pod.kind.namespace
        if self._named(pod.name, path, "name") and self._named(namespace, path, "namespace"):
            self._pods[namespace, pod.name] = pod

    def _namespace(self, raw: Any, path: str) -> None:
        name, labels = self._decoder.namespace(raw)
        if self._named(name, path, "name"):
            self._namespaces[name] = labels

    def _named(self, value: str, path: str, field: str) -> bool:
        if not value:
            separator = "" if path.endswith(" ") else "."
            self._faults.append(Fault(f"{path}{separator}metadata.{field}", "required, but absent"))
        return bool(value)

    def snapshot(self) -> ClusterSnapshot:
        """Return what was read, or raise what was wrong."""
        if not self._nodes and not self._faults:
            self._faults.append(Fault(self._where, f"has no Node; {HOW}"))
        if self._faults:
            raise InvalidDataError(self._faults)
        for namespace, _ in self._pods:
            self._namespaces.setdefault(namespace, {"kubernetes.io/metadata.name": namespace})
        return snapshot_of(list(self._nodes.values()), list(self._pods.values()), self._namespaces)


def _fault(path: str, message: str) -> Fault:
    """Return a fault at the place that msgspec names at the end of its message."""
    said, _, at = message.rpartition(" - at `$")
    if not said:
        said, at = message, ""
    at = at.rstrip("`")
    if missing := _MISSING.fullmatch(said):
        at, said = f"{at}.{missing.group(1)}", "required, but absent"
    return Fault(path + at.lstrip("." if path.endswith(" ") else ""), said)
