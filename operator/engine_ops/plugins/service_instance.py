"""A plugin in Pods of its own, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.optimizerplugin import PluginService
from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.guarded_instance import CallFailedError, GuardedInstance
from engine_ops.plugins.instance import Limits, PluginBrokenError, PluginUnavailableError, Unanswered, closing
from engine_ops.plugins.messages import Ask, Opened, Replied, Trained
from engine_ops.plugins.process_instance import HistorySource
from engine_ops.plugins.service_client import THREAD_BYTES, ServiceClient, ServiceFaultError, ServiceProblemError
from engine_ops.plugins.service_history import HistorySender
from engine_ops.plugins.service_messages import MAX_BODY_BYTES, NOT_OFFERED, Health, PluginInfo, Reply
from engine_ops.plugins.service_settings import INFO_SECONDS, OPENING_SECONDS, ServiceSettings
from engine_ops.plugins.service_training import train_service
from engine_ops.plugins.service_translation import encoded_ask, opened_of, replied

logger = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 10.0
"""From one look at a service to the next."""

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0


def cluster_url(service: PluginService) -> str:
    """Return where a Service is reached from within the cluster."""
    return f"http://{service.name}.{service.namespace}.svc:{service.port}"


class ServiceInstance(GuardedInstance):
    """A plugin behind a Kubernetes Service. It is one plugin, however often it is asked: it has no fresh instances.

    Once it has started, it looks after itself: a service that is gone is left out, and gets its settings, the state of
    its model and the history when it is there again.

    Parameters
    ----------
    name
        The plugin's name for the one who asks.
    service
        Where it is.
    limits
        The time for one answer. The memory is the service's own to limit.
    config
        JSON of an object: the plugin's own settings.
    state
        A trained model's, as the service gave it; empty for none.
    feed
        What it sees of the history; None for none.
    resolve
        Gives the URL of a service.
    on_change, breaker_policy
        See `GuardedInstance`.
    health_seconds
        From one look at the service to the next.
    """

    def __init__(
        self,
        name: str,
        service: PluginService,
        *,
        limits: Limits,
        config: bytes = b"{}",
        state: bytes = b"",
        feed: HistorySource | None = None,
        resolve: Callable[[PluginService], str] = cluster_url,
        on_change: Callable[[], None] | None = None,
        breaker_policy: BreakerPolicy | None = None,
        health_seconds: float = HEALTH_SECONDS,
    ) -> None:
        super().__init__(name, limits.timeout_seconds, breaker_policy=breaker_policy, on_change=on_change)
        self._health_seconds = health_seconds
        self._client = ServiceClient(resolve(service))
        self._settings = ServiceSettings(name, self._client, config, state)
        self._sender = HistorySender(self._client, feed)
        self._instance = ""
        self._is_stale = True
        self._is_retired = False
        self._gone = ""
        self._look = asyncio.Event()
        self._opening = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._training: asyncio.Task[Trained] | None = None

    @property
    def unavailable(self) -> str | None:
        """See `Instance`. What it gives as the reason is how it could not be reached last."""
        return self._gone or None

    async def start(self) -> Opened:
        """See `Instance`.

        Raises
        ------
        PluginBrokenError
            If the service rejects the settings (stage ``config``).
        PluginUnavailableError
            If it does not answer, or not as it must; also where its plugin is broken, which the next image may mend.
        """
        if self._closing is not None:
            raise PluginUnavailableError(closing().reason)
        try:
            return await self._open()
        except BaseException:
            if self._opened is None:
                await self._client.close()
            raise

    async def train(self, timeout_seconds: float, replay: Ask | None = None) -> Trained:
        """See `Instance`. The model that is trained is the one that answers from then on.

        What the service does with requests meanwhile is its own affair. Cancelling the call closes the connection.
        """
        if self._closing is not None:
            raise PluginUnavailableError(closing().reason)
        self._training = asyncio.create_task(self._train(timeout_seconds, replay))
        try:
            trained = await self._training
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # it is who asked that goes away
            raise PluginUnavailableError(closing().reason) from None
        except PluginBrokenError as error:
            self._note_error(error.message)
            raise
        finally:
            self._training = None
        self._settings.state = trained.state
        self._learn(trained)
        return trained

    def set_state(self, state: bytes) -> None:
        """See `Instance`."""
        self._settings.state = state

    def retire(self) -> None:
        """See `Instance`. A service is one plugin: what this instance gave it again would undo the next one's work."""
        self._is_retired = True

    async def close(self) -> None:
        """See `Instance`. A training is not waited for."""
        if self._training is not None:
            self._training.cancel()
        await super().close()

    async def _be_ready(self, deadline: float) -> Unanswered | None:
        if self._gone:
            return Unanswered(self._gone, "unavailable")
        if self._training is not None and self._at_a_time == 1:
            return Unanswered("its model is being trained", "busy")
        return await self._up_to_date(deadline)

    async def _up_to_date(self, deadline: float) -> Unanswered | None:
        if not self._is_stale:
            return None
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._open_if_stale()
        except TimeoutError:
            return Unanswered("the service is not ready yet", "unavailable")
        except PluginBrokenError as error:
            return Unanswered(error.message, "broken")
        except PluginUnavailableError as error:
            self._go(error.message)
            return Unanswered(error.message, "unavailable")
        return None

    async def _send(self, ask: Ask, timeout_seconds: float) -> Replied:
        try:
            content = await self._content_of(ask)
            reply = await self._answered(content, timeout_seconds)
        except InvalidDataError as error:
            return Replied(no=error.summary())  # the request's fault
        except ServiceFaultError as fault:
            raise self._failed(fault, timeout_seconds) from fault
        except ServiceProblemError as error:
            return Replied(no=error.message, failed=True)
        except PluginBrokenError as error:
            raise CallFailedError(error.message, "broken") from error
        except PluginUnavailableError as error:
            raise CallFailedError(error.message, "unavailable") from error
        return await replied(reply)

    async def _shut(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._client.close()

    async def _answered(self, content: bytes, timeout_seconds: float) -> Reply:
        """Return the answer of a service that knows its settings and the history."""
        reply = await self._once(content, timeout_seconds)
        if reply.instance in {"", self._instance}:
            return reply
        # It has started anew since it was looked at, and answered without its settings. A request may come twice.
        self._is_stale = True
        await self._open_if_stale()
        reply = await self._once(content, timeout_seconds)
        if reply.instance in {"", self._instance}:
            return reply
        self._is_stale = True
        raise ServiceFaultError("unavailable", "the service starts anew again and again, or is more than one")

    async def _once(self, content: bytes, timeout_seconds: float) -> Reply:
        kept = await self._sender.send(timeout_seconds=timeout_seconds)
        if kept is not None and kept.instance not in {"", self._instance}:
            return Reply(success=False, instance=kept.instance)
        return await self._client.post("/optimize", content, Reply, timeout_seconds=timeout_seconds)

    async def _content_of(self, ask: Ask) -> bytes:
        if len(ask.data) > THREAD_BYTES or ask.data_format != "json":
            content = await asyncio.to_thread(encoded_ask, ask)
        else:
            content = encoded_ask(ask)
        if len(content) > MAX_BODY_BYTES:
            message = f"the request has {len(content)} bytes, and a service takes at most {MAX_BODY_BYTES}"
            raise CallFailedError(message, "unavailable", is_crash=False)
        return content

    def _failed(self, fault: ServiceFaultError, timeout_seconds: float) -> CallFailedError:
        if fault.kind == "unavailable":
            self._go(fault.message)
        message = fault.message
        if fault.kind == "timeout" and timeout_seconds == self._timeout_seconds:
            message += " (limits.timeoutSeconds)"
        return CallFailedError(message, fault.kind)

    def _go(self, reason: str) -> None:
        """Take note that the service is gone; the watch finds it again."""
        self._is_stale = True
        if self._watch is None:
            return  # it was never there
        if self._gone != reason:
            self._gone = reason
            self._note_error(reason)
        self._look.set()

    async def _open_if_stale(self) -> Opened:
        async with self._opening:
            if not self._is_stale and self._opened is not None:
                return self._opened
            return await self._open_it()

    async def _open(self) -> Opened:
        async with self._opening:
            return await self._open_it()

    async def _open_it(self) -> Opened:
        """Give the service everything that it needs."""
        if self._closing is not None or self._is_retired:
            # Its settings may be those of another instance by now, which takes over.
            raise PluginUnavailableError(closing().reason)
        try:
            info = await self._settings.give()
            self._sender.forget()
            kept = await self._sender.send(timeout_seconds=OPENING_SECONDS)
        except ServiceFaultError as fault:
            raise PluginUnavailableError(fault.message) from fault
        except ServiceProblemError as error:
            raise PluginUnavailableError(error.message) from error
        if kept is not None and info.instance and kept.instance not in {"", info.instance}:
            raise PluginUnavailableError("the service has started anew in the middle, or is more than one")
        self._take(info)
        opened = opened_of(info)
        self._is_stale, self._gone = False, ""
        if self._watch is None:
            self._watch = asyncio.create_task(self._keep_watch())
        self._note_opened(opened)
        return opened

    def _take(self, info: PluginInfo) -> None:
        if self._instance and info.instance != self._instance and info.is_trained is not True:
            self._counters.restarts += 1
        self._instance = info.instance
        if self._opened is None and not self._turns.locked():
            # Nobody has a turn yet, who would give it back to another semaphore.
            self._at_a_time = info.concurrency
            self._turns = asyncio.Semaphore(info.concurrency)

    async def _train(self, timeout_seconds: float, replay: Ask | None) -> Trained:
        if self._gone:
            raise PluginUnavailableError(self._gone)
        unready = await self._up_to_date(time.monotonic() + OPENING_SECONDS)
        if unready is not None and unready.kind == "unavailable":
            raise PluginUnavailableError(unready.reason)
        if unready is not None:
            raise PluginBrokenError("train", unready.reason)
        try:
            trained = await train_service(
                self._client, self._sender, self._name, timeout_seconds=timeout_seconds, replay=replay
            )
        except ServiceFaultError as fault:
            if fault.kind == "unavailable":
                self._go(fault.message)
            raise PluginUnavailableError(fault.message) from fault
        model_id = trained.model_id or (self._opened.model_id if self._opened is not None else "") or self._name
        return msgspec.structs.replace(trained, model_id=model_id)

    async def _keep_watch(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            if not self._gone:
                pause_seconds = FIRST_PAUSE_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._health_seconds):
                        await self._look.wait()
            self._look.clear()
            if self._gone:
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            try:
                if not self._gone:
                    await self._check_health()
                if self._is_stale:
                    await self._open_if_stale()
            except (PluginBrokenError, PluginUnavailableError) as error:
                if self._closing is not None:
                    return
                self._go(error.message)
            except Exception:
                logger.exception("plugin %s: looking at its service failed", self._name)
                self._go("looking at its service failed, see the operator's log")

    async def _check_health(self) -> None:
        try:
            health = await self._client.get("/healthz", Health, timeout_seconds=INFO_SECONDS)
        except ServiceProblemError as error:
            if error.status not in NOT_OFFERED:
                self._go(error.message)
        except ServiceFaultError as fault:
            self._go(fault.message)
        else:
            if health.instance not in {"", self._instance}:
                self._is_stale = True
