"""Between the messages of `engine_ops.plugins.messages` and those that go over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from typing import Any, Final

import msgspec

from engine_ops.plugins.messages import Ask, Opened, Replied, Trained
from engine_ops.plugins.service_messages import (
    MAX_STATE_BYTES,
    Optimize,
    PluginInfo,
    Reply,
    TrainingDone,
    Workload,
)
from engine_ops.plugins.session_envelope import replied_of
from engine_ops.workers.documents import read_json, read_json_or_yaml

MAX_SCHEMA_BYTES: Final = 32 * 1024
"""Of the JSON schema of the settings; a longer one is not shown."""

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{12,64}")


def ask_of(asked: Optimize) -> Ask:
    """Return a request that came over HTTP as a plugin's session takes it."""
    extra: dict[str, Any] = {}
    if asked.timestamp is not None:
        extra["timestamp"] = asked.timestamp
    if asked.namespace is not None:
        extra["namespace"] = asked.namespace
    if asked.workload is not None:
        extra["workload"] = asked.workload
    return Ask(
        request_id=asked.id,
        type=asked.type,
        data=msgspec.json.encode(asked.data),
        constraints=msgspec.json.encode(asked.constraints) if asked.constraints else b"",
        extra=msgspec.json.encode(extra) if extra else b"",
    )


def reply_of(replied: Replied, instance: str) -> Reply:
    """Return an answer of a plugin's session as it goes over HTTP."""
    envelope = msgspec.json.decode(replied.envelope) if replied.envelope else {}
    # As in `engine_ops.plugins.answers`: without `result`, everything beside the envelope's own names is the result.
    own = {"success", "error", "confidence", "model_id", "metadata"}
    bare = {name: value for name, value in envelope.items() if name not in own}
    return Reply(
        success=replied.no is None,
        result=None if replied.no is not None else envelope.get("result", bare),
        error=replied.no,
        failed=replied.failed,
        confidence=replied.claimed_confidence,
        model_id=replied.model_id,
        is_trained=replied.is_trained,
        duration_us=replied.duration_us,
        instance=instance,
    )


def info_of(opened: Opened, instance: str) -> PluginInfo:
    """Return what a plugin says of itself as it goes over HTTP."""
    fields = {
        "name": opened.name,
        "version": opened.version,
        "description": opened.description,
        "author": opened.author,
        "types": opened.types,
        "configSchema": msgspec.json.decode(opened.config_schema) if opened.config_schema else None,
        "hasModel": opened.has_model,
        "isTrained": opened.is_trained,
        "modelId": opened.model_id,
        "instance": instance,
    }
    return msgspec.convert(fields, PluginInfo)


def done_of(trained: Trained) -> TrainingDone:
    """Return the end of a training as it goes over HTTP; a state that is too large for it stays behind."""
    return TrainingDone(
        model_id=trained.model_id,
        samples=trained.samples,
        digest=trained.digest,
        state=base64.b64encode(trained.state).decode() if len(trained.state) <= MAX_STATE_BYTES else "",
        training_metadata=msgspec.json.decode(trained.training_metadata or b"{}", type=dict[str, Any]),
        is_trained=trained.is_trained,
        duration_ms=trained.duration_ms,
    )


def encoded_ask(ask: Ask) -> bytes:
    """Return the body of ``POST /optimize``; see `optimize_of`."""
    return msgspec.json.encode(optimize_of(ask))


class _Extra(msgspec.Struct):
    timestamp: int | None = None
    namespace: str | None = None
    workload: dict[str, Any] | None = None


def optimize_of(ask: Ask) -> Optimize:
    """Return a request as it goes over HTTP.

    Raises
    ------
    InvalidDataError
        If its data, which its author wrote, are no object.
    """
    read = read_json if ask.data_format == "json" else read_json_or_yaml
    try:
        extra = msgspec.json.decode(ask.extra, type=_Extra) if ask.extra else _Extra()
        workload = None if extra.workload is None else msgspec.convert(extra.workload, Workload)
    except msgspec.DecodeError:
        # It is beside the request, and of use to models only.
        extra, workload = _Extra(), None
    return msgspec.convert(
        {
            "id": ask.request_id[-253:] or "request",
            "type": ask.type,
            "data": read(ask.data, "data"),
            "constraints": read_json(ask.constraints, "constraints") if ask.constraints else {},
            "timestamp": extra.timestamp,
            "namespace": extra.namespace,
            "workload": workload,
        },
        Optimize,
    )


async def replied(reply: Reply) -> Replied:
    """Return a reply as a plugin's process would have given it."""
    envelope: dict[str, Any] = {"success": reply.success}
    if reply.success:
        envelope["result"] = reply.result
    else:
        envelope["error"] = reply.error
    if reply.confidence is not None:
        envelope["confidence"] = reply.confidence
    if reply.model_id is not None:
        envelope["model_id"] = reply.model_id
    encoded = await asyncio.to_thread(_encode, envelope) if _is_large(reply.result) else _encode(envelope)
    answer = replied_of(envelope, encoded)
    return msgspec.structs.replace(
        answer,
        failed=answer.failed or (reply.failed and not reply.success),
        is_trained=reply.is_trained,
        duration_us=reply.duration_us,
    )


_encode = msgspec.json.encode


def _is_large(result: object) -> bool:
    """Whether writing a result could hold up the event loop: it has something long, at the top or one below."""
    if isinstance(result, dict):
        return len(result) > 1000 or any(
            isinstance(part, list | dict | str) and len(part) > 100 for part in result.values()
        )
    return isinstance(result, list | str)


def trained_of(done: TrainingDone, name: str) -> Trained:
    """Return the end of a service's training as a plugin's process would have told it.

    Parameters
    ----------
    done
        What the service says.
    name
        The plugin's.

    Raises
    ------
    ValueError
        If its state is no base64.
    """
    state = base64.b64decode(done.state, validate=True)
    digest = done.digest
    if not _DIGEST.fullmatch(digest):
        # Of the state; else of what the service calls it; else of the training, which is one of its kind.
        named = state or digest.encode() or f"{name} {time.time_ns()}".encode()
        digest = f"sha256:{hashlib.sha256(named).hexdigest()}"
    return Trained(
        model_id=done.model_id,
        samples=done.samples,
        digest=digest,
        state=state,
        training_metadata=msgspec.json.encode(done.training_metadata),
        is_trained=done.is_trained,
        duration_ms=done.duration_ms,
    )


def opened_of(info: PluginInfo) -> Opened:
    """Return what a service says of its plugin as a plugin's process would have said it."""
    return Opened(
        name=info.name,
        version=info.version[:64],
        description=info.description[:1024],
        types=tuple(info.types),
        author=None if info.author is None else info.author[:253],
        config_schema=_schema_of(info),
        has_model=info.has_model,
        is_trained=info.is_trained,
        model_id=info.model_id[:253],
    )


def _schema_of(info: PluginInfo) -> bytes:
    schema = b"" if info.config_schema is None else msgspec.json.encode(info.config_schema)
    return schema if len(schema) <= MAX_SCHEMA_BYTES else b""


def below_config(path: str) -> str:
    """Return the path of a setting with ``config`` as its first word, which not every service writes."""
    return path if path == "config" or path.startswith(("config.", "config[")) else f"config.{path}".rstrip(".")
