"""Which nodes and pods of a snapshot a selection chooses."""

from __future__ import annotations

from collections.abc import Mapping

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodRow
from engine_ops.engine.cluster.selection import ClusterSelection, NodeSelection, PodSelection
from engine_ops.engine.scheduling.selectors import matches, normalise

_ROOT = "spec.dataFrom.cluster"
_NODE_FIELDS = ("metadata.name", "spec.unschedulable")
_POD_FIELDS = ("metadata.name", "metadata.namespace", "spec.nodeName")

FieldTerms = tuple[tuple[str, bool, str], ...]
"""Field, whether it must be equal, value; all must hold."""


def namespace_labels(snapshot: ClusterSnapshot) -> dict[str, Mapping[str, str]]:
    """Return the labels of every namespace that is known or has pods.

    One that the snapshot does not describe has the label that the API server gives to all of them.
    """
    known: dict[str, Mapping[str, str]] = dict(snapshot.namespaces)
    for kind in snapshot.kinds:
        if kind.namespace not in known:
            known[kind.namespace] = {"kubernetes.io/metadata.name": kind.namespace}
    return known


def check_selection(selection: ClusterSelection) -> None:
    """Check what a model of the selection cannot.

    Raises
    ------
    InvalidDataError
        If a field selector cannot be read; every bad one is named with its path.
    """
    faults: list[Fault] = []
    for text, name, fields in (
        (selection.nodes.field_selector, "nodes", _NODE_FIELDS),
        (selection.pods.field_selector, "pods", _POD_FIELDS),
    ):
        try:
            parse_field_selector(text, fields)
        except ValueError as error:
            faults.append(Fault(f"{_ROOT}.{name}.fieldSelector", str(error)))
    if faults:
        raise InvalidDataError(faults)


def parse_field_selector(text: str, fields: tuple[str, ...]) -> FieldTerms:
    r"""Read a field selector as ``ParseSelector`` of ``k8s.io/apimachinery/pkg/fields`` does.

    Parameters
    ----------
    text
        Terms with ``=``, ``==`` or ``!=``, comma-separated; ``\`` before a comma, ``=`` or ``\`` takes it literally.
    fields
        The names it may contain.

    Raises
    ------
    ValueError
        If it cannot be read.

    Examples
    --------
    >>> parse_field_selector("metadata.name!=a,spec.unschedulable=false", ("metadata.name", "spec.unschedulable"))
    (('metadata.name', False, 'a'), ('spec.unschedulable', True, 'false'))
    """
    terms = []
    for term in _split(text):
        if not term:
            continue
        at = next((i for i in range(len(term)) if term[i] == "=" or term.startswith("!=", i)), None)
        if at is None:
            raise ValueError(f"{term!r} is no term: it needs =, == or !=")
        operator = next(op for op in ("!=", "==", "=") if term.startswith(op, at))
        name, value = term[:at], _unescape(term[at + len(operator) :], term)
        if name not in fields:
            raise ValueError(f"{name!r} is not supported; the fields are {', '.join(fields)}")
        terms.append((name, operator != "!=", value))
    return tuple(terms)


def _split(text: str) -> list[str]:
    terms = [""]
    escaped = False
    for character in text:
        if character == "," and not escaped:
            terms.append("")
            continue
        terms[-1] += character
        escaped = character == "\\" and not escaped
    return terms


def _unescape(value: str, term: str) -> str:
    plain = ""
    characters = iter(value)
    for character in characters:
        if character == "\\":
            literal = next(characters, "")
            if literal not in {"\\", ",", "="}:
                raise ValueError(f"{term!r}: a backslash must stand before a comma, '=' or another backslash")
            plain += literal
        elif character in {",", "="}:
            raise ValueError(f"{term!r}: {character!r} in a value needs a backslash before it")
        else:
            plain += character
    return plain


def _holds(terms: FieldTerms, values: Mapping[str, str]) -> bool:
    return all((values[name] == value) == equal for name, equal, value in terms if name in values)


def selected_nodes(snapshot: ClusterSnapshot, selection: NodeSelection) -> list[bool]:
    """Return which nodes may be used, in the snapshot's order."""
    terms = parse_field_selector(selection.field_selector, _NODE_FIELDS)
    wanted = None if selection.label_selector is None else normalise(selection.label_selector)

    def chosen(node: NodeRecord) -> bool:
        fields = {"metadata.name": node.name, "spec.unschedulable": "true" if node.unschedulable else "false"}
        return (wanted is None or matches(wanted, node.labels)) and _holds(terms, fields)

    if wanted is None and not terms:
        return [True] * len(snapshot.nodes)
    return [chosen(node) for node in snapshot.nodes]


class PodFilter:
    """Tells which pods a selection chooses. Labels and namespaces are looked at once for each kind.

    Parameters
    ----------
    snapshot
        Where the pods are.
    selection
        Its field selector has been checked.
    """

    def __init__(self, snapshot: ClusterSnapshot, selection: PodSelection) -> None:
        terms = parse_field_selector(selection.field_selector, _POD_FIELDS)
        labels = None if selection.label_selector is None else normalise(selection.label_selector)
        spaces = None if selection.namespace_selector is None else normalise(selection.namespace_selector)
        of_namespace = namespace_labels(snapshot)
        names = frozenset(selection.namespaces)
        self.kinds = [
            (not names or kind.namespace in names)
            and (spaces is None or matches(spaces, of_namespace[kind.namespace]))
            and (labels is None or matches(labels, kind.labels))
            and _holds(terms, {"metadata.namespace": kind.namespace})
            for kind in snapshot.kinds
        ]
        """Whether pods of each kind can be chosen."""
        self._terms = tuple(term for term in terms if term[0] != "metadata.namespace")

    def chooses(self, row: PodRow) -> bool:
        """Whether a pod is chosen."""
        if not self.kinds[row.kind]:
            return False
        return not self._terms or _holds(self._terms, {"metadata.name": row.name, "spec.nodeName": row.node})
