from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.cluster.dump import read_dump
from engine_ops.engine.cluster.records import ClusterSnapshot

NODE = {"kind": "Node", "metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "4"}}}
POD = {"kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n1"}}
NAMESPACE = {"kind": "Namespace", "metadata": {"name": "ns", "labels": {"team": "a"}}}


def listed(*items: Any, kind: str = "List") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "items": list(items), "metadata": {"resourceVersion": ""}}


def bare(item: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """An item as the API server lists it: without its kind."""
    return {key: value for key, value in item.items() if key != "kind"} | {"metadata": item["metadata"] | metadata}


def read(*documents: Any, indent: int | None = None, separator: str = "\n") -> ClusterSnapshot:
    return read_dump(
        separator.join(json.dumps(document, indent=indent) for document in documents).encode(), "dump.json"
    )


def faults_of(text: bytes) -> list[str]:
    with pytest.raises(InvalidDataError) as caught:
        read_dump(text, "dump.json")
    return [str(fault) for fault in caught.value.faults]


EXPECTED = read(listed(NODE, POD, NAMESPACE))


def test_what_kubectl_prints() -> None:
    assert [node.name for node in EXPECTED.nodes] == ["n1"]
    assert [EXPECTED.pod_id(pod) for pod in EXPECTED.pods] == ["ns/p"]
    assert EXPECTED.pods[0].node == "n1"
    assert EXPECTED.namespaces == {"ns": {"team": "a"}}


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("separator", ["\n", "\r\n", "\n\n  \n"])
def test_lists_one_after_another(indent: int | None, separator: str) -> None:
    documents = (
        listed(bare(NODE), kind="NodeList"),
        listed(bare(POD), kind="PodList"),
        listed(bare(NAMESPACE), kind="NamespaceList"),
    )
    assert read(*documents, indent=indent, separator=separator) == EXPECTED


def test_objects_one_after_another() -> None:
    assert read(NODE, POD, NAMESPACE, indent=2) == EXPECTED


def test_text_as_powershell_writes_it() -> None:
    text = json.dumps(listed(NODE, POD, NAMESPACE))
    assert read_dump(text.encode("utf-16"), "dump.json") == EXPECTED
    assert read_dump(text.encode("utf-8-sig"), "dump.json") == EXPECTED


def test_braces_and_newlines_in_strings_are_no_seams() -> None:
    node = NODE | {"metadata": {"name": "n1", "labels": {"x": "}\n{"}}}
    assert read(listed(node), listed(POD)).nodes[0].labels == {"x": "}\n{"}


def test_other_kinds_are_passed_over() -> None:
    service = {"kind": "Service", "metadata": {}, "spec": 5}
    assert read(listed(service, NODE, POD, NAMESPACE), listed(bare(service), kind="ServiceList")) == EXPECTED


def test_finished_pods_are_left_out() -> None:
    done = POD | {"metadata": {"name": "done", "namespace": "ns"}, "status": {"phase": "Succeeded"}}
    assert read(listed(NODE, POD, NAMESPACE, done)) == EXPECTED


def test_a_namespace_that_is_absent_has_its_name_as_a_label() -> None:
    assert read(listed(NODE, POD)).namespaces == {"ns": {"kubernetes.io/metadata.name": "ns"}}


def test_the_later_of_two_counts() -> None:
    newer = NODE | {"status": {"allocatable": {"cpu": "9"}}}
    assert [node.allocatable for node in read(listed(NODE), listed(newer)).nodes] == [{"cpu": 9000}]


@given(st.permutations([NODE, NODE | {"metadata": {"name": "n0"}}, POD, NAMESPACE]))
def test_the_order_makes_no_difference(items: list[Any]) -> None:
    snapshot = read(listed(*items))
    assert [node.name for node in snapshot.nodes] == ["n0", "n1"]
    assert snapshot.pods == EXPECTED.pods


def test_no_items() -> None:
    (fault,) = faults_of(json.dumps(listed()).encode())
    assert fault.startswith("dump.json: has no Node; make one with: kubectl get nodes,pods,namespaces -A -o json")
    assert faults_of(b'{"kind": "List", "items": null}') == [fault]


@pytest.mark.parametrize(
    "text", [b"", b"  ", b"apiVersion: v1\nkind: List\n", b"[]", b"NAME STATUS", b"\xff\xfe", b'"x"']
)
def test_what_is_no_json_object(text: bytes) -> None:
    (fault,) = faults_of(text)
    assert fault.startswith("dump.json: is no JSON object, and YAML is not read as a dump; make one with: kubectl")


def test_json_that_is_cut_off() -> None:
    (fault,) = faults_of(json.dumps(listed(NODE, POD)).encode()[:-20])
    assert fault == "dump.json: Input data was truncated"


def test_a_second_document_that_is_cut_off() -> None:
    (fault,) = faults_of(json.dumps(listed(NODE)).encode() + b'\n{"kind": "Li')
    assert fault == "dump.json: document 2: Input data was truncated"


def test_every_fault_is_named_with_its_path() -> None:
    items = [
        NODE,
        {"metadata": {"name": "x"}},
        {"kind": "Node", "metadata": {"labels": {}}},
        {"kind": "Node"},
        {"kind": "Pod", "metadata": {"name": "p"}},
        {"kind": "Pod", "metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": 5}]}},
        {"kind": "Pod", "metadata": {"name": "", "namespace": "ns"}},
        {"kind": "Namespace", "metadata": {"name": "q", "labels": {"a": 1}}},
        5,
    ]
    assert faults_of(json.dumps(listed(*items)).encode()) == [
        "dump.json: items[1].kind: required, but absent",
        "dump.json: items[2].metadata.name: required, but absent",
        "dump.json: items[3].metadata: required, but absent",
        "dump.json: items[4].metadata.namespace: required, but absent",
        "dump.json: items[5].spec.containers[0].name: Expected `str`, got `int` (Pod ns/p)",
        "dump.json: items[6].metadata.name: required, but absent",
        "dump.json: items[7].metadata.labels[...]: Expected `str`, got `int` (Namespace q)",
        "dump.json: items[8]: Expected `object`, got `int`",
    ]


def test_faults_of_a_document_without_items() -> None:
    text = json.dumps(NODE).encode() + b'\n{"kind": "Pod", "metadata": {}}\n{"a": 1}'
    first, second = faults_of(text)
    assert first == "dump.json: document 2: metadata.name: required, but absent"
    assert second == "dump.json: document 3: kind: required, but absent"
