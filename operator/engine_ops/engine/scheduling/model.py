"""The data and the constraints of type ``scheduling``, as users write them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.api.quantity import Amount
from engine_ops.engine.scheduling.rules import Affinity, Labels, NotEmpty, Taint, Toleration, TopologySpreadConstraint
from engine_ops.engine.units import capacity_units

MAX_TASKS = 100_000
MAX_NODES = 20_000
MAX_PERCENT = 1000.0
"""A load above 100 percent is an overcommitted node, which takes nothing; above this it was no percentage."""

Id = Annotated[str, Field(min_length=1, max_length=253)]
ResourceName = Annotated[str, Field(min_length=1, max_length=317)]
Amounts = dict[ResourceName, Amount]
Strategy = Literal["least-loaded", "most-packed", "balanced", "fragmentation-aware"]
FRAGMENTATION_AWARE: Strategy = "fragmentation-aware"
MAX_SHARED_DEVICES = 8
MAX_DEVICES_OF_NODE = 256
"""Of one resource."""
DeviceLoads = Annotated[tuple[Amount, ...], Field(max_length=MAX_DEVICES_OF_NODE)]


class Task(ApiModel):
    """Something to place."""

    id: Id
    """Chosen by the caller, unique."""
    cpu_required: Amount
    """In cores, or in percent of a node where nodes have no ``capacity``."""
    memory_required: Amount
    """In bytes, or in percent of a node where nodes have no ``capacity``."""
    resources_required: Amounts = Field(default_factory=dict)
    """Further resources by name; needs ``capacity``."""
    priority: Annotated[int, Field(ge=-(2**31), le=2**31 - 1)] = 0
    """Tasks of higher priority are placed first."""
    labels: Labels = Field(default_factory=dict)
    """What the selectors of affinity and spread see."""
    node_selector: Labels = Field(default_factory=dict)
    """Labels that the node must have."""
    affinity: Affinity | None = None
    """Needs and preferences for nodes and for the company of other tasks."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints that the task bears."""
    topology_spread_constraints: tuple[TopologySpreadConstraint, ...] = ()
    """How tasks are spread over domains."""


class Capacity(ApiModel):
    """What a node offers to tasks."""

    cpu: Amount
    """Cores."""
    memory: Amount
    """Bytes."""
    pods: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """How many tasks it can hold; absent means any number."""
    resources: Amounts = Field(default_factory=dict)
    """Further resources by name."""


class Node(ApiModel):
    """Where tasks may be placed."""

    id: Id
    """Chosen by the caller, unique."""
    cpu_load: Amount
    """What is taken: cores, or percent where nodes have no ``capacity``."""
    memory_load: Amount
    """What is taken: bytes, or percent where nodes have no ``capacity``."""
    capacity: Capacity | None = None
    """On all nodes or on none; without it everything is in percent of a node."""
    pod_count: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """How many tasks it holds already; counts against ``capacity.pods``."""
    resource_loads: Amounts = Field(default_factory=dict)
    """What is taken of further resources; needs ``capacity``."""
    device_loads: dict[ResourceName, DeviceLoads] = Field(default_factory=dict)
    """What is taken of each device, by resource: of those in ``constraints.sharedDevices``."""
    labels: Labels = Field(default_factory=dict)
    """For selectors, affinity and topologies."""
    taints: tuple[Taint, ...] = ()
    """What keeps tasks off it."""
    unschedulable: bool = False
    """Cordoned: takes only tasks that tolerate ``node.kubernetes.io/unschedulable``."""


class SchedulingData(ApiModel):
    """The problem: one task or many, and the nodes."""

    task: Task | None = None
    """One task; not with ``tasks``."""
    tasks: Annotated[tuple[Task, ...], Field(max_length=MAX_TASKS), NotEmpty] | None = None
    """Many tasks; not with ``task``."""
    nodes: Annotated[tuple[Node, ...], Field(max_length=MAX_NODES), NotEmpty]
    """The nodes."""


class SharedDevice(ApiModel):
    """A further resource that comes in devices, such as thousandths of GPUs."""

    resource: ResourceName
    """Its name."""
    units_per_device: Amount
    """What one device has, in the resource's own amounts; at least 1."""

    def units(self) -> int:
        """Return what one device has, in engine units."""
        return capacity_units(self.resource, self.units_per_device)


class SchedulingConstraints(ApiModel):
    """How to choose among the nodes that can hold a task."""

    strategy: Strategy = "least-loaded"
    """least-loaded spreads the load, most-packed fills nodes up, balanced keeps cpu and memory in step.
    fragmentation-aware keeps shared devices usable for the tasks of the request; needs one of ``sharedDevices``."""
    shared_devices: Annotated[tuple[SharedDevice, ...], Field(max_length=MAX_SHARED_DEVICES)] = ()
    """Resources that come in devices: at most one device's worth must fit a single device, more must be whole ones."""
