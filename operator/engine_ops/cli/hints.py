"""What to do about a reason, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine_ops.api.reasons import Reason

REQUEST_HINTS: Final[Mapping[str, str]] = {
    Reason.INVALID_SPEC: "correct the field that the message names; nothing is tried until spec changes",
    Reason.INVALID_DATA: "correct the data at the path that the message names; nothing is tried until spec changes",
    Reason.UNPLACEABLE: "the partial result names what fits nowhere: give it a larger node, or leave it out",
    Reason.TIMED_OUT: "give it more time (spec.timeoutSeconds), or ask a smaller question",
    Reason.SOLVER_CRASHED: "give the workers more memory (--worker-memory of the operator), or ask a smaller question",
    Reason.RESULT_TOO_LARGE: "ask a smaller question: the result fits no ConfigMap",
    Reason.DATA_NOT_FOUND: "it waits for what spec.dataFrom names: create it in the request's namespace",
    Reason.NO_PLUGIN: "it waits for a plugin: enable one that handles the type, leave spec.plugin out, or correct the "
    "field that the message names",
    Reason.NOT_ENOUGH_DATA: "it waits for history: it is answered once enough outcomes are known, or bring in the past "
    "with engine-ops history import",
    Reason.SOURCE_UNAVAILABLE: "it waits for the source of its data, which did not answer",
    Reason.FORBIDDEN: "it waits for a right: for dataFrom.cluster the administrator lists its namespace "
    "(--cluster-data-namespaces), else the operator's Role lacks one",
    Reason.HISTORY_UNAVAILABLE: "it waits for the history to be written; engine-ops doctor says what keeps it",
    Reason.WORKER_DIED: "another worker tries; if it goes on, give the workers more memory (--worker-memory)",
    Reason.SOLVING: "a worker is at it, for spec.searchSeconds at most",
    Reason.SUSPENDED: "set spec.suspend to false to have it answered",
}

PLUGIN_HINTS: Final[Mapping[str, str]] = {
    Reason.INVALID_SPEC: "correct the field that the message names: kubectl edit optplug {name}",
    Reason.INVALID_CONFIG: "correct spec.config: kubectl edit optplug {name}",
    Reason.LOAD_FAILED: "put the class of spec.source.entryPoint into the operator's image; what the plugin printed: "
    "kubectl logs -n {namespace} deployment/engine-ops -c plugin-host",
    Reason.PLUGIN_UNAVAILABLE: "see that its Service answers and a NetworkPolicy lets the operator out to it, or "
    "that the plugin host runs: kubectl logs -n {namespace} deployment/engine-ops -c plugin-host",
    Reason.CRASH_LOOPING: "it is left out for a while, and others answer; what it printed: "
    "kubectl logs -n {namespace} deployment/engine-ops -c plugin-host",
    Reason.STARTING: "wait a moment; if it stays so: kubectl logs -n {namespace} deployment/engine-ops -c plugin-host",
    Reason.UPDATING: "wait a moment: it answers as before until what spec has now is ready; if it stays so: "
    "kubectl logs -n {namespace} deployment/engine-ops -c plugin-host",
}
