"""What goes to and from a worker that solves."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine_ops.workers.wire import Wire

DataFormat = Literal["json", "json-or-yaml"]

PluginRole = Literal["", "answer", "advice", "prediction"]
"""What of an answer is a plugin's; nothing if empty."""


class PluginReply(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a plugin said to the question. Read by handlers that know plugins; the others pay it no heed.

    Parameters
    ----------
    plugin, version
        The plugin's name and version.
    envelope
        JSON of what it returned.
    served
        Whether it may be served; a model in shadow may not.
    backtest
        JSON of what it returned for the older samples alone, type ``performance`` only; empty where it was not asked.
    """

    plugin: str
    version: str
    envelope: bytes
    served: bool = True
    backtest: bytes = b""


class SolveTask(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """One question.

    Parameters
    ----------
    task_id
        Of the caller's choice, for the log.
    type
        One of `engine_ops.engine.solvers.TYPES`.
    data
        The problem, encoded as ``data_format`` says.
    constraints
        JSON of an object; empty for none.
    search_seconds
        The budget for improving the first answer.
    seed, max_steps
        Of the search; see `engine_ops.engine.contract.Budget`.
    data_format
        ``json-or-yaml`` for text that a user wrote (a ConfigMap): JSON is tried first, then YAML.
    data_path, constraints_path
        How messages for users name the two.
    inline_limit_bytes
        A result whose JSON is longer comes compressed, with a summary in its place.
    stored_limit_bytes
        A result that is longer than this even when compressed is refused. A ConfigMap ends at 1 MiB.
    cluster
        msgpack of an `engine_ops.engine.cluster.records.ClusterSnapshot`, if the question is about a live cluster.
    selection
        JSON of an `engine_ops.engine.cluster.selection.ClusterSelection`; with ``cluster`` only.
    reply
        What a plugin said to the question, if one was asked.
    built_in
        The built-in's answer to it, if it is there already; it is not solved again then.
    describe
        Whether not an answer is asked for but the question, as plugins are to see it; with ``cluster`` only, and of
        handlers that know plugins.
    """

    task_id: str
    type: str
    data: bytes
    constraints: bytes = b""
    search_seconds: float = 0.0
    seed: int = 0
    max_steps: int | None = None
    data_format: DataFormat = "json"
    data_path: str = "spec.data"
    constraints_path: str = "spec.constraints"
    inline_limit_bytes: int = 32768
    stored_limit_bytes: int = 1_000_000
    cluster: bytes = b""
    selection: bytes = b""
    reply: PluginReply | None = None
    built_in: Solved | None = None
    describe: bool = False


class Solved(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """An answer.

    Parameters
    ----------
    result
        JSON: the whole result, or its summary where ``compressed`` holds the result.
    size_bytes
        Length of the whole result's JSON.
    duration_ms
        Wall-clock milliseconds from the start of the task to this answer, whole.
    reason, message, algorithm, score, objective, lower_bound, gap
        See `engine_ops.engine.contract.Answer`.
    version
        Of the algorithm.
    compressed
        gzip of the result's JSON, where that is longer than the task's ``inline_limit_bytes``.
    request_fields
        See `engine_ops.ml.request_fields.request_fields`.
    plugin_role
        What of it is the plugin's of ``SolveTask.reply``.
    plugin_no
        Why that plugin's reply is not what is served; empty where it is, or where there is none.
    plugin_unusable
        Whether the reply is at fault (infeasible, nonsense), rather than worse than the built-in's answer.
    model_id, claimed_confidence
        As the plugin's reply has them.
    """

    result: bytes
    size_bytes: int
    duration_ms: int
    reason: str
    message: str
    algorithm: str
    version: str
    compressed: bytes | None = None
    score: float | None = None
    objective: float | None = None
    lower_bound: float | None = None
    gap: float | None = None
    request_fields: dict[str, float | str | bool] = {}
    plugin_role: PluginRole = ""
    plugin_no: str = ""
    plugin_unusable: bool = False
    model_id: str | None = None
    claimed_confidence: float | None = None


class Incumbent(msgspec.Struct, tag_field="kind", tag=True, frozen=True):
    """The best answer so far; more will come."""

    best: Solved


class Failed(msgspec.Struct, tag_field="kind", tag=True, omit_defaults=True, frozen=True):
    """No answer, and why.

    Parameters
    ----------
    reason
        One of `engine_ops.api.reasons.Reason`.
    message
        One line for people, that names the first few faulty fields.
    waiting
        Whether it may be answered later without a change of the question.
    faults
        Path and message of each fault, where the question is wrong; the first `MAX_FAULTS` of them.
    duration_ms
        Wall-clock milliseconds spent, whole.
    request_fields
        As `Solved` has them, where the data could be read.
    """

    reason: str
    message: str
    waiting: bool = False
    faults: tuple[tuple[str, str], ...] = ()
    duration_ms: int = 0
    request_fields: dict[str, float | str | bool] = {}


MAX_FAULTS = 1000
"""`Failed` lists no more faults than this."""

Outcome = Solved | Failed
"""How a task ends."""

SOLVE: Wire[SolveTask, Incumbent, Outcome] = Wire(
    handler="engine_ops.workers.solve:HANDLER",
    replies=msgspec.msgpack.Decoder(Incumbent | Solved | Failed),
    interim=Incumbent,
    preload=("engine_ops.workers.solve:load_solvers",),
)
"""What a pool of solvers speaks."""
