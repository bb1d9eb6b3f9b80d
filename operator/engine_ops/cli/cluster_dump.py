"""A cluster from a file: what ``kubectl get nodes,pods,namespaces -A -o json`` printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine_ops.api.cluster_source import WorkloadSource
from engine_ops.api.faults import Fault, InvalidDataError, WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.cli.stdin import STDIN
from engine_ops.engine.cluster.dump import read_dump
from engine_ops.engine.cluster.records import ClusterSnapshot

RESOURCES = {"Deployment": "deployments", "ReplicaSet": "replicasets", "StatefulSet": "statefulsets", "Job": "jobs"}
"""What kubectl calls the kinds of workloads."""


class DumpReader:
    """Reads a dump at once; see `engine_ops.cli.cluster_question.ClusterReader`.

    Parameters
    ----------
    name
        A file, or ``-`` for standard input.
    stdin
        What standard input said.

    Raises
    ------
    InvalidDataError
        If it cannot be read, or is no dump.
    """

    def __init__(self, name: str, stdin: bytes = b"") -> None:
        self._where = "stdin" if name == STDIN else name
        try:
            self._text = stdin if name == STDIN else Path(name).read_bytes()
        except OSError as error:
            raise InvalidDataError([Fault(name, (error.strerror or str(error)).lower())]) from error
        self._snapshot = read_dump(self._text, self._where)

    @property
    def moment(self) -> str:
        """Which moment's cluster it is."""
        return f"The cluster is as it was dumped into {self._where}."

    async def snapshot(self) -> ClusterSnapshot:
        """Return all nodes and pods."""
        return self._snapshot

    async def workload(self, namespace: str, source: WorkloadSource) -> Mapping[str, Any]:
        """Return a workload, if the dump has it."""
        for item in _objects(self._text.decode(errors="replace")):
            metadata = item.get("metadata")
            if item.get("kind") == source.kind and isinstance(metadata, dict):
                found = (item.get("apiVersion"), metadata.get("namespace"), metadata.get("name"))
                if found == (source.api_version, namespace, source.name):
                    return item
        kinds = f"nodes,pods,namespaces,{RESOURCES[source.kind]}"
        raise WaitingError(
            Reason.DATA_NOT_FOUND,
            f"{source.kind} {namespace}/{source.name} is not in {self._where}; make the dump with: kubectl get {kinds} "
            "-A -o json",
        )


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of all lists in a text of one or more JSON documents, which has been read once already."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        document, end = decoder.raw_decode(text, at)
        yield from (item for item in document.get("items") or [document] if isinstance(item, dict))
        at = text.find("{", end)
