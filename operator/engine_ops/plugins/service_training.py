"""A training by a plugin's service: the history goes there, and the state of a model comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from engine_ops.api.faults import InvalidDataError
from engine_ops.plugins.instance import PluginBrokenError
from engine_ops.plugins.messages import Ask, Trained
from engine_ops.plugins.service_client import ServiceClient, ServiceFaultError, ServiceProblemError
from engine_ops.plugins.service_history import HistorySender
from engine_ops.plugins.service_messages import TrainingDone
from engine_ops.plugins.service_settings import OPENING_SECONDS
from engine_ops.plugins.service_translation import optimize_of, trained_of


async def train_service(
    client: ServiceClient, sender: HistorySender, name: str, *, timeout_seconds: float, replay: Ask | None
) -> Trained:
    """Have a service train its model.

    Parameters
    ----------
    client, sender
        To the service. One that keeps no history gets the points with the request.
    name
        The plugin's.
    timeout_seconds
        For the training alone.
    replay
        See `engine_ops.plugins.messages.Train`.

    Returns
    -------
    Trained
        The model; its samples are the points that the service has, where it does not say.

    Raises
    ------
    PluginBrokenError
        If the training failed (stage ``train``), or was not done in time.
    ServiceFaultError
        If the service cannot be reached, or has too much to do.
    """
    try:
        kept = await sender.send(timeout_seconds=OPENING_SECONDS)
        body: dict[str, Any] = {}
        if not sender.is_wanted:
            body["points"] = await sender.all_points()
        if replay is not None:
            body["replay"] = optimize_of(replay)
        content = await asyncio.to_thread(msgspec.json.encode, body)
        done = await client.post("/train", content, TrainingDone, timeout_seconds=timeout_seconds)
    except InvalidDataError as error:
        raise PluginBrokenError("train", f"the request to be replayed: {error.summary()}") from error
    except ServiceProblemError as error:
        raise PluginBrokenError("train", error.message) from error
    except ServiceFaultError as fault:
        if fault.kind == "timeout":
            message = f"no model within {timeout_seconds:g} s (training.timeoutSeconds)"
            raise PluginBrokenError("train", message) from fault
        if fault.kind == "crashed":
            raise PluginBrokenError("train", fault.message) from fault
        raise
    try:
        trained = trained_of(done, name)
    except ValueError as error:
        raise PluginBrokenError("train", f"the state of its model is no base64: {error}") from error
    return msgspec.structs.replace(trained, samples=trained.samples or (0 if kept is None else kept.points))
