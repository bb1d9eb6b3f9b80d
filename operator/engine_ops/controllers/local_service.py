"""The REST API on one machine, without Kubernetes: history and settings in a directory, plugins of installed packages.

Nobody shows a token here: it is served on loopback only, to requests that call it by a name of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

from engine_ops import __version__
from engine_ops.controllers.direct import DirectRequests
from engine_ops.controllers.local_plugins import LocalPlugins, LocalSwitch
from engine_ops.history.file_store import FileStore
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.store import StoreError
from engine_ops.plugins.kept_settings import KeptSettings, SettingsError
from engine_ops.server.address import Address, AddressError
from engine_ops.server.api_listener import api_listener
from engine_ops.server.bridge import BridgedEngine
from engine_ops.server.local_access import LocalAccess
from engine_ops.server.services import ApiLimits, Services
from engine_ops.server.thread import ServerThread
from engine_ops.workers.early_pool import EarlyPool

logger = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
"""At the end requests under way have so long."""

LAST_RETRY_SECONDS: Final = 30.0


class LocalServiceError(Exception):
    """It cannot be served; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """How it is served.

    Parameters
    ----------
    address
        Where, on loopback.
    data_directory
        Of history, models and settings; None to keep nothing.
    points
        The newest so many data points are kept.
    flush_seconds
        The history is written at most so often.
    """

    address: Address
    data_directory: Path | None
    points: int = 10_000
    flush_seconds: float = 3.0


async def serve_locally(
    config: LocalConfig, early_pool: EarlyPool, stop: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Serve until told to stop.

    Parameters
    ----------
    config
        How.
    early_pool
        The solvers, whose handler knows plugins.
    stop
        Ends it.
    say
        Tells the user where it is served.

    Raises
    ------
    LocalServiceError
        If it cannot be served, or what answers HTTP ends by a defect.
    """
    loop = asyncio.get_running_loop()
    with _data_of(config.data_directory):
        settings = _settings_of(config.data_directory)
        async with (
            _history(config) as log,
            _plugins(log, settings, config.data_directory) as plugins,
        ):
            pool = await early_pool.ready()
            engine = DirectRequests(pool=pool, workers=early_pool.workers, manager=plugins.manager, log=log)
            async with engine, _served(config, engine, LocalSwitch(plugins, loop), stop) as address:
                say(f"REST API: {address}")
                await stop.wait()


@contextlib.contextmanager
def _data_of(directory: Path | None) -> Iterator[None]:
    """Have the data directory for one process alone."""
    if directory is None:
        yield
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LocalServiceError(f"{directory}: {error.strerror or error}; choose another --data-dir") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"{directory} is in use by another `engine-ops serve`: end that, or choose another --data-dir"
            raise LocalServiceError(message) from None
        yield
    finally:
        os.close(lock)


def _settings_of(directory: Path | None) -> KeptSettings:
    try:
        return KeptSettings(None if directory is None else directory / "plugins.json")
    except SettingsError as error:
        raise LocalServiceError(f"the settings of plugins cannot be read: {error}") from error


@contextlib.asynccontextmanager
async def _history(config: LocalConfig) -> AsyncIterator[HistoryLog]:
    directory = config.data_directory
    log = HistoryLog(MemoryStore() if directory is None else FileStore(directory / "history"), capacity=config.points)
    try:
        await log.load()
    except StoreError as error:
        raise LocalServiceError(f"the history cannot be read: {error}") from error
    flushing = asyncio.create_task(_flush_forever(log, config.flush_seconds), name="flush the history")
    try:
        yield log
    finally:
        flushing.cancel()
        await asyncio.wait({flushing})
        try:
            await log.flush()
        except StoreError as error:
            logger.error("the history's last points are lost: %s", error)


async def _flush_forever(log: HistoryLog, seconds: float) -> None:
    delay = seconds
    while True:
        await asyncio.sleep(delay)
        if log.dirty:
            try:
                await log.flush()
            except StoreError as error:
                delay = min(2 * delay, max(seconds, LAST_RETRY_SECONDS))
                logger.warning("the history is not written, trying again in %.0f s: %s", delay, error)
            else:
                delay = seconds


@contextlib.asynccontextmanager
async def _plugins(log: HistoryLog, settings: KeptSettings, directory: Path | None) -> AsyncIterator[LocalPlugins]:
    plugins = LocalPlugins(log, settings, None if directory is None else directory / "models")
    try:
        await plugins.begin()
        yield plugins
    finally:
        await plugins.close()


@contextlib.asynccontextmanager
async def _served(
    config: LocalConfig, engine: DirectRequests, switch: LocalSwitch, stop: asyncio.Event
) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    bridged = BridgedEngine(engine, loop)
    defects: list[BaseException] = []

    async def services(_: contextlib.AsyncExitStack) -> Services:
        # One user, who may ask as often as they like; the places in flight bound what is done at once.
        limits = ApiLimits(requests_per_second=0)
        return Services(engine=bridged, access=LocalAccess(), switch=switch, limits=limits)

    def failed(error: BaseException) -> None:
        defects.append(error)
        with contextlib.suppress(RuntimeError):  # this loop has ended too
            loop.call_soon_threadsafe(stop.set)

    listener = api_listener(config.address, services, version=__version__)
    thread = ServerThread({"api": listener}, on_defect=failed)
    try:
        await asyncio.to_thread(thread.start)
    except (AddressError, RuntimeError) as error:
        raise LocalServiceError(str(error)) from error
    try:
        yield thread.address("api")
    finally:
        await thread.aclose(DRAIN_SECONDS)
    if defects:
        raise LocalServiceError(f"what answers HTTP ended: {defects[0]}") from defects[0]
