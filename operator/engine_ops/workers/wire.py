"""What a pool and its workers agree on: which function handles a task, and what is sent to and fro."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

TaskT = TypeVar("TaskT", bound=msgspec.Struct)
InterimT = TypeVar("InterimT", bound=msgspec.Struct)
FinalT = TypeVar("FinalT", bound=msgspec.Struct)

Emit = Callable[[msgspec.Struct], None]
"""Sends an interim reply from the worker; any thread may call it until the handler returns."""


@dataclasses.dataclass(frozen=True, slots=True)
class Handler(Generic[TaskT]):
    """The worker's half: what it takes, and what it does with it.

    Parameters
    ----------
    task
        The type of the messages taken.
    handle
        Called with each task; what it returns is the final reply. An exception that leaves it ends the worker.
    """

    task: type[TaskT]
    handle: Callable[[TaskT, Emit], msgspec.Struct]


@dataclasses.dataclass(frozen=True, slots=True)
class Wire(Generic[TaskT, InterimT, FinalT]):
    """The pool's half: it names the worker's half, and never imports it.

    Parameters
    ----------
    handler
        ``package.module:ATTRIBUTE`` of a `Handler`.
    replies
        Decodes a reply, interim or final.
    interim
        The type of the replies after which more will come.
    preload
        What the fork server loads before it forks, so that no worker has to: modules, or functions to call
        (``package.module:function``).
    """

    handler: str
    replies: msgspec.msgpack.Decoder[InterimT | FinalT]
    interim: type[InterimT]
    preload: tuple[str, ...] = ()


def resolve(entry: str) -> Any:
    """Return what ``package.module`` or ``package.module:attribute`` names.

    Raises
    ------
    ImportError, AttributeError
        If there is no such thing.
    """
    module_name, _, attribute = entry.partition(":")
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module
