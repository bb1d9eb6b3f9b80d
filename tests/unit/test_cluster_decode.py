from __future__ import annotations

import contextlib
import gc
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.engine.cluster.decode import RecordDecoder, UndecodableObjectError
from engine_ops.engine.cluster.records import HostPort, PodKind, PodRecord, TaintRecord

ANY = "0.0.0.0"  # noqa: S104 - that is what it means


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def pod_json(spec: Any = None, *, name: str = "p", status: Any = None, **metadata: Any) -> bytes:
    spec = {"containers": [{"name": "c"}]} if spec is None else spec
    return raw({"metadata": {"name": name, "namespace": "ns", **metadata}, "spec": spec, "status": status})


def pod_of(spec: Any = None, **more: Any) -> PodRecord:
    record = RecordDecoder().pod(pod_json(spec, **more))
    assert record is not None
    return record


def kind_of(spec: Any = None, **more: Any) -> PodKind:
    return pod_of(spec, **more).kind


def rules_of(spec: dict[str, Any], **more: Any) -> Any:
    rules = kind_of(spec, **more).rules
    return json.loads(rules) if rules else None


# Nodes


def test_node() -> None:
    node = RecordDecoder().node(
        raw(
            {
                "kind": "Node",
                "metadata": {"name": "n", "labels": {"zone": "a"}, "managedFields": [{"x": [1]}]},
                "spec": {
                    "unschedulable": True,
                    "taints": [
                        {"key": "k", "value": "v", "effect": "NoSchedule", "timeAdded": "2026-01-01T00:00:00Z"},
                        {"key": "j", "effect": "NoExecute"},
                    ],
                },
                "status": {"allocatable": {"cpu": "4", "memory": "1Gi", "pods": "110"}, "capacity": {"cpu": "9"}},
            }
        )
    )
    assert node.name == "n"
    assert node.labels == {"zone": "a"}
    assert node.allocatable == {"cpu": 4000, "memory": 2**30, "pods": 110}
    assert node.taints == (TaintRecord("k", "v", "NoSchedule"), TaintRecord("j", "", "NoExecute"))
    assert node.unschedulable
    assert node.clamped == ()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"spec": None, "status": None},
        {"spec": {}, "status": {}},
        {"spec": {"taints": None, "unschedulable": None}, "status": {"allocatable": None}},
        {"status": {"allocatable": {}}},
    ],
)
def test_a_node_of_which_nothing_is_known_offers_nothing(more: dict[str, Any]) -> None:
    node = RecordDecoder().node(raw({"metadata": {"name": "n", "labels": None}, **more}))
    assert (node.labels, node.allocatable, node.taints, node.unschedulable) == ({}, {}, (), False)


def test_a_node_with_thousands_of_labels() -> None:
    labels = {f"example.com/{i}": str(i) for i in range(5000)}
    assert RecordDecoder().node(raw({"metadata": {"name": "n", "labels": labels}})).labels == labels


# Pods


def test_pod() -> None:
    pod = pod_of(
        {"nodeName": "n", "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}], "priority": 7},
        uid="u",
        labels={"app": "a"},
        creationTimestamp="2026-01-01T00:00:00Z",
        ownerReferences=[{"kind": "X", "name": "x"}, {"kind": "ReplicaSet", "name": "a-1", "controller": True}],
    )
    assert (pod.name, pod.uid, pod.node, pod.created, pod.terminating) == ("p", "u", "n", "2026-01-01T00:00:00Z", False)
    assert pod.id == "ns/p"
    assert pod.kind == PodKind("ns", {"app": "a"}, {"cpu": 1000}, priority=7, owner_kind="ReplicaSet", owner_name="a-1")


@pytest.mark.parametrize("spec", [{}, {"containers": None}, {"containers": [], "volumes": None, "nodeName": None}])
def test_an_empty_pod(spec: dict[str, Any]) -> None:
    pod = pod_of(spec)
    assert (pod.node, pod.kind) == ("", PodKind("ns", {}, {}))


def test_a_pod_without_spec_or_labels() -> None:
    record = RecordDecoder().pod(raw({"metadata": {"name": "p", "namespace": "ns", "labels": None}, "spec": None}))
    assert record is not None
    assert record.kind == PodKind("ns", {}, {})


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_finished_pod_is_none(phase: str) -> None:
    assert RecordDecoder().pod(pod_json(status={"phase": phase})) is None


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown", "", None])
def test_any_other_pod_is_there(phase: str | None) -> None:
    assert RecordDecoder().pod(pod_json(status={"phase": phase})) is not None


def test_terminating() -> None:
    assert pod_of(deletionTimestamp="2026-01-01T00:00:00Z").terminating


def test_static() -> None:
    assert kind_of(annotations={"a": "b", "kubernetes.io/config.mirror": "hash"}).static
    assert not kind_of(annotations={"kubernetes.io/config.source": "api"}).static


def test_host_ports_are_those_of_what_goes_on_running() -> None:
    kind = kind_of(
        {
            "initContainers": [
                {"name": "i", "ports": [{"hostPort": 1, "containerPort": 1}]},
                {"name": "s", "restartPolicy": "Always", "ports": [{"hostPort": 2, "containerPort": 9}]},
            ],
            "containers": [
                {
                    "name": "c",
                    "ports": [
                        {"containerPort": 80},
                        {"containerPort": 81, "hostPort": 3, "protocol": "UDP", "hostIP": "10.0.0.1"},
                        {"containerPort": 82, "hostPort": 3, "protocol": "UDP", "hostIP": "10.0.0.1"},
                    ],
                },
                {"name": "d", "ports": None},
            ],
        }
    )
    assert kind.host_ports == (HostPort(ANY, "TCP", 2), HostPort("10.0.0.1", "UDP", 3))


def test_on_the_host_network_every_port_is_a_host_port() -> None:
    kind = kind_of({"hostNetwork": True, "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]})
    assert kind.host_ports == (HostPort(ANY, "TCP", 80),)


# Rules


def test_no_rules() -> None:
    spec = {"nodeSelector": {}, "affinity": {"podAffinity": {}, "nodeAffinity": None}, "tolerations": []}
    assert kind_of(spec).rules == ""


def test_rules_are_canonical() -> None:
    tolerations = [
        {"key": "b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
        {"operator": "Exists", "key": "a"},
    ]
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}]
    one = kind_of(
        {"nodeSelector": {"a": "1", "b": "2"}, "tolerations": tolerations, "topologySpreadConstraints": spread}
    )
    other = kind_of(
        {
            "topologySpreadConstraints": [{"minDomains": None, **dict(reversed(spread[0].items()))}],
            "tolerations": [tolerations[1], {**tolerations[0], "tolerationSeconds": 9}, tolerations[1]],
            "nodeSelector": {"b": "2", "a": "1"},
            "affinity": None,
        }
    )
    assert one.rules == other.rules
    assert json.loads(one.rules) == {
        "nodeSelector": {"a": "1", "b": "2"},
        "tolerations": [{"effect": "NoExecute", "key": "b", "operator": "Exists"}, {"key": "a", "operator": "Exists"}],
        "topologySpreadConstraints": spread,
    }


def test_an_empty_selector_is_not_an_absent_one() -> None:
    terms = [
        {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}},
        {"topologyKey": "zone", "labelSelector": None},
    ]
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    expected = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [terms[0], {"topologyKey": "zone"}]}}
    assert rules_of({"affinity": affinity}) == {"affinity": expected}


def test_pods_of_a_daemon_set_on_their_nodes_are_of_one_kind() -> None:
    decoder = RecordDecoder()

    def pod(node: str, *, bound: bool) -> PodKind:
        field = {"key": "metadata.name", "operator": "In", "values": [node]}
        affinity = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]}
            },
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]},
        }
        owner = {"kind": "DaemonSet", "name": "d", "controller": True}
        spec = {"affinity": affinity, "nodeName": node if bound else ""}
        record = decoder.pod(pod_json(spec, name=f"d-{node}", ownerReferences=[owner]))
        assert record is not None
        return record.kind

    assert pod("a", bound=True) is pod("b", bound=True)
    assert "podAntiAffinity" in pod("a", bound=True).rules
    assert pod("a", bound=False) is not pod("b", bound=False)
    assert "metadata.name" in pod("a", bound=False).rules


# What is not modelled


@pytest.mark.parametrize(
    "source",
    [
        {"persistentVolumeClaim": {"claimName": "x"}},
        {"ephemeral": {"volumeClaimTemplate": {}}},
        {"gcePersistentDisk": {"pdName": "x"}},
        {"awsElasticBlockStore": {"volumeID": "x"}},
        {"iscsi": {"iqn": "x"}},
        {"rbd": {"image": "x"}},
        {"azureDisk": {"diskName": "x"}},
        {"azureFile": {"shareName": "x"}},
        {"cinder": {"volumeID": "x"}},
        {"vsphereVolume": {"volumePath": "x"}},
        {"portworxVolume": {"volumeID": "x"}},
    ],
)
def test_volumes_that_the_scheduler_checks(source: dict[str, Any]) -> None:
    assert kind_of({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "v", **source}]}).not_modelled == ("volumes",)


def test_volumes_that_it_does_not() -> None:
    sources = ["configMap", "secret", "emptyDir", "downwardAPI", "projected", "hostPath", "image", "nfs", "csi", "fc"]
    assert kind_of({"volumes": [{"name": source, source: {}} for source in sources]}).not_modelled == ()


@pytest.mark.parametrize(
    ("spec", "feature"),
    [
        ({"resourceClaims": [{"name": "x"}]}, "resourceClaims"),
        (
            {"containers": [{"resources": {"requests": {"deviceclass.resource.kubernetes.io/gpu": "1"}}}]},
            "resourceClaims",
        ),
        ({"schedulingGates": [{"name": "x"}]}, "schedulingGates"),
        ({"schedulingGroup": {"podGroupName": "x"}}, "schedulingGroup"),
        ({"workloadRef": {"name": "x"}}, "schedulingGroup"),
        ({"hostNetwork": True, "hostUsers": False}, "nodeDeclaredFeatures"),
        ({"containers": [{"restartPolicyRules": [{"action": "RestartAllContainers"}]}]}, "nodeDeclaredFeatures"),
        ({"containers": [{"resources": {"requests": {"cpu": "-1"}}}]}, "resources"),
        ({"containers": [{"resources": {"requests": {"memory": "9Ei"}}}]}, "resources"),
    ],
)
def test_not_modelled(spec: dict[str, Any], feature: str) -> None:
    assert kind_of(spec).not_modelled == (feature,)


def test_an_extended_resource_from_a_device_class_is_a_claim() -> None:
    status = {"extendedResourceClaimStatus": {"resourceClaimName": "x"}}
    assert kind_of(status=status).not_modelled == ("resourceClaims",)


def test_what_is_not_modelled_is_sorted() -> None:
    spec = {
        "volumes": [{"persistentVolumeClaim": {}}],
        "schedulingGates": [{"name": "x"}],
        "resourceClaims": [{"name": "x"}],
        "containers": [{"resources": {"requests": {"cpu": "x"}}}],
    }
    assert kind_of(spec).not_modelled == ("resourceClaims", "resources", "schedulingGates", "volumes")


@pytest.mark.parametrize("empty", [None, []])
def test_empty_lists_are_nothing(empty: Any) -> None:
    spec = {"resourceClaims": empty, "schedulingGates": empty, "volumes": empty, "schedulingGroup": None}
    assert kind_of(spec).not_modelled == ()


# Interning


def test_equal_pods_share_their_kind_and_strings() -> None:
    decoder = RecordDecoder()
    spec = {"nodeName": "node-1", "containers": [{"resources": {"requests": {"cpu": "1"}}}]}
    one = decoder.pod(pod_json(spec, name="a", labels={"x": "1", "y": "2"}))
    two = decoder.pod(pod_json(spec, name="b", labels={"y": "2", "x": "1"}))
    node = decoder.node(raw({"metadata": {"name": "node-1"}}))
    assert one is not None
    assert two is not None
    assert one.kind is two.kind
    assert one.node is two.node is node.name


def test_kinds_go_with_their_last_pod() -> None:
    decoder = RecordDecoder()
    record = decoder.pod(pod_json())
    assert decoder.kind_count == 1
    del record
    gc.collect()
    assert decoder.kind_count == 0


@given(st.lists(st.fixed_dictionaries({"cpu": st.sampled_from("12"), "app": st.sampled_from("ab")}), max_size=8))
def test_kinds_are_one_object_exactly_when_they_are_equal(drawn: list[dict[str, str]]) -> None:
    decoder = RecordDecoder()
    kinds = []
    for one in drawn:
        spec = {"containers": [{"resources": {"requests": {"cpu": one["cpu"]}}}]}
        record = decoder.pod(pod_json(spec, labels={"app": one["app"]}))
        assert record is not None
        kinds.append(record.kind)
    for a in kinds:
        for b in kinds:
            assert (a is b) == (a == b)


# Anything else


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"", ""),
        (b"{", ""),
        (b"[]", ""),
        (b"null", ""),
        (b"{}", ""),
        (b'{"metadata":{}}', ""),
        (b'{"metadata":{"name":1}}', ""),
        (b'{"metadata":{"name":"x","namespace":"n"},"spec":{"containers":5}}', "n/x"),
        (b'{"metadata":{"name":"x"},"spec":{"containers":[{"resources":{"requests":5}}]}}', "x"),
        (b'{"metadata":{"name":"x"},"spec":{"affinity":5}}', "x"),
        (b'{"metadata":{"name":"x"},"spec":{"tolerations":[5]}}', "x"),
        (b'{"metadata":{"name":"x"},"spec":{"tolerations":{"a":5}}}', "x"),
        (b'{"metadata":{"name":"x"},"spec":{"nodeSelector":["a"]}}', "x"),
        (b'{"metadata":{"name":"\xff"}}', ""),
        (b'{"a":' + b"[" * 100_000, ""),
    ],
)
def test_what_is_no_pod(text: bytes, name: str) -> None:
    with pytest.raises(UndecodableObjectError) as caught:
        RecordDecoder().pod(text)
    assert (caught.value.kind, caught.value.name) == ("Pod", name)
    assert caught.value.fault in str(caught.value)


def test_what_is_no_node_or_namespace() -> None:
    with pytest.raises(UndecodableObjectError, match=r"Node n: Expected `array \| null`, got `str` - at `\$\.spec"):
        RecordDecoder().node(raw({"metadata": {"name": "n"}, "spec": {"taints": "x"}}))
    with pytest.raises(UndecodableObjectError, match=r"Node n: "):
        RecordDecoder().node(raw({"metadata": {"name": "n"}, "status": {"allocatable": ["x"]}}))
    with pytest.raises(UndecodableObjectError, match=r"Namespace \(unknown name\): "):
        RecordDecoder().namespace(b"?")


def test_namespace() -> None:
    assert RecordDecoder().namespace(raw({"metadata": {"name": "n", "labels": {"a": "b"}}})) == ("n", {"a": "b"})
    assert RecordDecoder().namespace(raw({"metadata": {"name": "n"}})) == ("n", {})


def test_a_part_of_a_larger_message_will_do() -> None:
    """As a watch line is read: the object stays undecoded until its type is known."""
    line = b'{"type":"ADDED","object":' + pod_json({"nodeName": "n"}) + b"}"
    event = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    record = RecordDecoder().pod(event["object"])
    assert record is not None
    assert record.node == "n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "1", "x", "-1", "1Gi"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("requests", "limits", "cpu", "memory", "containers", "initContainers", "resources", "ports"),
                    *("hostPort", "name", "key", "operator", "tolerations", "affinity", "nodeAffinity", "nodeSelector"),
                    *("conditions", "containerStatuses", "allocatedResources", "volumes", "taints", "allocatable"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values, json_values)
def test_garbage_never_raises_anything_else(spec: Any, status: Any) -> None:
    decoder = RecordDecoder()
    text = raw({"metadata": {"name": "x"}, "spec": spec, "status": status})
    for decode in (decoder.pod, decoder.node):
        with contextlib.suppress(UndecodableObjectError):
            decode(text)


def test_a_pod_whose_resize_can_never_be_granted_stays_on_its_node() -> None:
    condition = {"type": "PodResizePending", "status": "True", "reason": "Infeasible"}
    assert kind_of(status={"conditions": [condition]}).not_modelled == ("infeasibleResize",)
    assert kind_of(status={"conditions": [{**condition, "reason": "Deferred"}]}).not_modelled == ()
