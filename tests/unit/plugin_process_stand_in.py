"""A plugin host and its processes whose every move a test decides."""

import asyncio
import dataclasses
import time
from collections.abc import Callable

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.host.client import HostUnavailableError
from engine_ops.plugins.messages import Answer, Ask, Message, Open, Opened, Replied
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError

OPENED = Opened("stand-in", "1.0", "", ("resource",))
ASK = Ask("r1", "resource", b"{}")
CRASH = "it was killed by SIGSEGV"
DEADLINE_SECONDS = 20.0


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0)


@dataclasses.dataclass
class Limits:
    timeout_seconds: float = 30.0
    memory_bytes: int = 2**29


class StandInProcess:
    """Answers `Open` as the host says; everything else when the test calls `answer` or `die`."""

    def __init__(self, on_open: Answer | Exception) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.said: list[Message] = []
        self.closed_within: float | None = None
        self.killed = False
        self._on_open = on_open
        self._awaited: asyncio.Future[Answer] | None = None

    @property
    def asked(self) -> list[str]:
        return [message.request_id for message in self.said if isinstance(message, Ask)]

    @property
    def busy(self) -> bool:
        return self._awaited is not None

    async def call(self, message: Message, *, timeout_seconds: float, limit_bytes: int = 0) -> Answer:
        assert self._awaited is None, "two messages at a time"
        self.said.append(message)
        if self.ended.done():
            raise WorkerDiedError(self.ended.result())
        if isinstance(message, Open):
            if isinstance(self._on_open, Exception):
                self.kill()
                raise self._on_open
            return self._on_open
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._awaited
        except TimeoutError:
            self.kill()
            raise WorkerTimeoutError(timeout_seconds) from None
        except asyncio.CancelledError:
            self.kill()
            raise
        finally:
            self._awaited = None

    def post(self, update: HistoryUpdate) -> None:
        self.said.append(update)

    def answer(self, answer: Answer | None = None) -> None:
        assert self._awaited is not None
        self._awaited.set_result(Replied(b"{}", duration_us=1500) if answer is None else answer)

    def die(self, cause: str = CRASH) -> None:
        if not self.ended.done():
            self.ended.set_result(cause)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_exception(WorkerDiedError(cause))

    def kill(self) -> None:
        self.killed = True
        self.die("it was killed")

    async def close(self, grace_seconds: float = 2.0) -> None:
        self.closed_within = grace_seconds
        self.die("it was closed")


class StandInHost:
    """Starts stand-ins; ``to_come`` says how the next ones open, `OPENED` being the rule."""

    def __init__(self) -> None:
        self.available = True
        self.processes: list[StandInProcess] = []
        self.to_come: list[Answer | Exception] = []
        self.spawns: list[tuple[str, int]] = []
        self.may_spawn = asyncio.Event()
        self.may_spawn.set()

    @property
    def last(self) -> StandInProcess:
        return self.processes[-1]

    async def spawn(self, label: str, *, memory_limit_bytes: int) -> StandInProcess:
        await self.may_spawn.wait()
        self.spawns.append((label, memory_limit_bytes))
        on_open = self.to_come.pop(0) if self.to_come else OPENED
        if isinstance(on_open, HostUnavailableError):
            raise on_open
        self.processes.append(StandInProcess(on_open))
        return self.last
