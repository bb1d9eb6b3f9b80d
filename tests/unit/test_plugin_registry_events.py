"""Events of the registry, its listeners, and its use from many threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from plugin_stand_ins import Algorithm, Heard, ModelPlugin, names

from engine_ops import PluginConfig
from engine_ops.plugins import EventKind, PluginEvent, PluginRegistry
from engine_ops.plugins.events import MAX_WAITING

DEADLINE_SECONDS = 30.0
RAISED = {"priority": 5}


@pytest.fixture
def registry() -> PluginRegistry:
    return PluginRegistry()


@pytest.fixture
def restless() -> Iterator[None]:
    """Have the interpreter change threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def switch(registry: PluginRegistry, name: str = "a") -> None:
    """Cause registered, disabled, enabled, unregistered."""
    registry.register(ModelPlugin(name))
    registry.disable(name)
    registry.enable(name)
    registry.unregister(name)


def test_the_words_of_the_kinds() -> None:
    assert [str(kind) for kind in EventKind] == [
        "registered",
        "unregistered",
        "enabled",
        "disabled",
        "config-updated",
        "error",
    ]


def test_a_listener_of_some_kinds_and_its_end(registry: PluginRegistry) -> None:
    heard, every = Heard(), Heard()
    unsubscribe = registry.subscribe(heard, ["enabled", EventKind.UNREGISTERED])
    registry.subscribe(every)
    switch(registry)
    unsubscribe()
    unsubscribe()
    switch(registry)
    assert heard.words() == ["enabled a", "unregistered a"]
    assert len(every) == 8
    with pytest.raises(ValueError, match="'started' is not a valid EventKind"):
        registry.subscribe(heard, ["started"])


def fails(event: PluginEvent) -> None:
    raise RuntimeError(f"cannot listen to {event.kind}")


async def fails_later(event: PluginEvent) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(f"cannot listen to {event.kind}")


def makes_a_coroutine(event: PluginEvent) -> object:
    return fails_later(event)


async def cancels_itself(event: PluginEvent) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("bad", [fails, fails_later, cancels_itself, lambda: None, makes_a_coroutine])
def test_a_failing_listener_harms_nobody(
    registry: PluginRegistry, caplog: pytest.LogCaptureFixture, bad: Callable[..., object]
) -> None:
    before, after = Heard(), Heard()
    for listener in (before, bad, after):
        registry.subscribe(listener)
    switch(registry)
    assert before.words() == after.words() == ["registered a", "disabled a", "enabled a", "unregistered a"]
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 4
    assert "a listener failed at event registered of plugin a" in caplog.messages


def test_a_listener_may_use_the_registry(registry: PluginRegistry) -> None:
    heard = Heard()

    def replace(event: PluginEvent) -> None:
        if event.plugin == "a":
            registry.register(ModelPlugin("b"))

    registry.subscribe(replace, ["unregistered"])
    registry.subscribe(heard)
    registry.register(ModelPlugin("a"))
    registry.unregister("a")
    assert heard.words() == ["registered a", "unregistered a", "registered b"]


def test_an_async_listener_without_a_loop_has_heard_when_the_call_returns(registry: PluginRegistry) -> None:
    heard = Heard()

    async def listen(event: PluginEvent) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    registry.subscribe(listen)
    registry.register(ModelPlugin("a"))
    assert heard.words() == ["registered a"]


class AsyncHeard(Heard):
    """Takes its time over the first event, and counts how many it is at."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self.all_heard = asyncio.Event()
        self.first_began = asyncio.Event()
        self.first_may_end = asyncio.Event()
        self.wanted = wanted
        self.at_once = 0
        self.at_most_at_once = 0
        self.threads: set[int] = set()

    async def __call__(self, event: PluginEvent, /) -> None:  # type: ignore[override]
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.at_most_at_once = max(self.at_most_at_once, self.at_once)
        if not self:
            self.first_began.set()
            await self.first_may_end.wait()
        self.append(event)
        self.at_once -= 1
        if len(self) == self.wanted:
            self.all_heard.set()


def test_an_async_listener_hears_in_order_one_at_a_time_on_its_loop(registry: PluginRegistry) -> None:
    async def main() -> AsyncHeard:
        heard = AsyncHeard(wanted=8)
        registry.subscribe(heard)
        switch(registry)  # from the loop itself: nothing waits for the listener
        assert heard == []
        await asyncio.to_thread(switch, registry, "b")
        heard.first_may_end.set()
        await asyncio.wait_for(heard.all_heard.wait(), DEADLINE_SECONDS)
        return heard

    heard = asyncio.run(main())
    assert heard.words() == [
        f"{kind} {name}" for name in "ab" for kind in ("registered", "disabled", "enabled", "unregistered")
    ]
    assert heard.at_most_at_once == 1
    assert heard.threads == {threading.get_ident()}


def test_an_async_listener_that_subscribed_elsewhere_is_called_on_the_callers_loop(registry: PluginRegistry) -> None:
    heard = []

    async def listen(event: PluginEvent) -> None:
        heard.append((event.kind, asyncio.get_running_loop()))
        if len(heard) == 4:
            done.set()

    registry.subscribe(listen)

    async def main() -> asyncio.AbstractEventLoop:
        switch(registry)
        await asyncio.wait_for(done.wait(), DEADLINE_SECONDS)
        return asyncio.get_running_loop()

    done = asyncio.Event()
    loop = asyncio.run(main())
    assert heard == [(kind, loop) for kind in ("registered", "disabled", "enabled", "unregistered")]


def test_a_listener_whose_loop_is_over_is_passed_over(
    registry: PluginRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    async def main() -> None:
        registry.subscribe(AsyncHeard(wanted=1))

    asyncio.run(main())
    registry.subscribe(heard)
    switch(registry)
    assert len(heard) == 4
    assert caplog.records == []


def test_a_listener_that_never_comes_back_fills_no_memory(
    registry: PluginRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> AsyncHeard:
        heard = AsyncHeard(wanted=MAX_WAITING + 1)
        registry.subscribe(heard)
        registry.report_error("a", "first")
        await asyncio.wait_for(heard.first_began.wait(), DEADLINE_SECONDS)
        for number in range(MAX_WAITING + 100):
            registry.report_error("a", str(number))
        heard.first_may_end.set()
        await asyncio.wait_for(heard.all_heard.wait(), DEADLINE_SECONDS)
        return heard

    caplog.set_level("WARNING", "engine_ops.plugins.events")
    heard = asyncio.run(main())
    assert [event.message for event in heard] == ["first", *map(str, range(100, MAX_WAITING + 100))]
    dropped = [record for record in caplog.records if "oldest are dropped" in record.getMessage()]
    assert len(dropped) == 1


def test_a_slow_init_delays_no_other_plugin(registry: PluginRegistry) -> None:
    started, may_end = threading.Event(), threading.Event()

    class Slow(Algorithm):
        def init(self, config: object = None) -> None:
            started.set()
            assert may_end.wait(DEADLINE_SECONDS)
            super().init()

    registry.register(ModelPlugin("quick"))
    with ThreadPoolExecutor(1) as pool:
        registering = pool.submit(registry.register, Slow("slow"), PluginConfig(priority=1))
        try:
            assert started.wait(DEADLINE_SECONDS)
            assert names(registry) == ["quick"]
            assert registry.get("slow") is None
            registry.disable("quick")
            with pytest.raises(ValueError, match="registered already"):
                registry.register(ModelPlugin("slow"))
        finally:
            may_end.set()
        registering.result(DEADLINE_SECONDS)
    assert names(registry) == ["slow"]


def test_a_name_is_free_only_when_its_plugin_is_down(registry: PluginRegistry) -> None:
    started, may_end = threading.Event(), threading.Event()

    class Slow(Algorithm):
        def shutdown(self) -> None:
            started.set()
            assert may_end.wait(DEADLINE_SECONDS)
            super().shutdown()

    plugin = Slow("slow")
    registry.register(plugin)
    with ThreadPoolExecutor(1) as pool:
        leaving = pool.submit(registry.unregister, "slow")
        try:
            assert started.wait(DEADLINE_SECONDS)
            assert names(registry) == []
            with pytest.raises(ValueError, match="registered already"):
                registry.register(plugin)
        finally:
            may_end.set()
        leaving.result(DEADLINE_SECONDS)
    registry.register(plugin)
    assert plugin.is_initialized


def test_two_changes_of_one_plugin_at_once_lose_nothing(registry: PluginRegistry) -> None:
    started = threading.Event()
    other: list[Future[object]] = []

    class Slow(Algorithm):
        def init(self, config: Mapping[str, Any] | None = None) -> None:
            if config:
                started.set()
                # A change that does not wait for this one ends within it.
                wait(other, timeout=0.2)
            super().init(config)

    registry.register(Slow("slow"))
    with ThreadPoolExecutor(2) as pool:
        other.append(pool.submit(lambda: started.wait(DEADLINE_SECONDS) and registry.update_config("slow", RAISED)))
        first = pool.submit(registry.update_config, "slow", {"config": {"scale": 2.0}})
        wait([first, *other], timeout=DEADLINE_SECONDS)
    entry = registry.get("slow")
    assert entry is not None
    assert entry.config == PluginConfig(priority=5, config={"scale": 2.0})


@pytest.mark.usefixtures("restless")
def test_many_threads_agree(registry: PluginRegistry) -> None:
    """Threads that switch, change and select at once: the events add up, in order, to what the registry says."""
    heard = Heard()
    registry.subscribe(heard)
    registry.register(ModelPlugin("shared"))
    rounds, workers = 300, 6
    start = threading.Barrier(workers)

    def work(number: int) -> None:
        start.wait(DEADLINE_SECONDS)
        for turn in range(rounds):
            switch(registry, f"own-{number}")
            registry.update_config("shared", {"priority": turn * workers + number + 1})
            assert "shared" in names(registry)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work, number) for number in range(workers)]:
            future.result(DEADLINE_SECONDS)
    assert [entry.name for entry in registry.list()] == ["shared"]
    for number in range(workers):
        assert [event.kind for event in heard if event.plugin == f"own-{number}"] == [
            "registered",
            "disabled",
            "enabled",
            "unregistered",
        ] * rounds
    updates = [event.config.priority for event in heard if event.kind == "config-updated" and event.config]
    assert sorted(updates) == list(range(1, rounds * workers + 1))
    entry = registry.get("shared")
    assert entry is not None
    assert updates[-1] == entry.config.priority


@pytest.mark.usefixtures("restless")
def test_registering_one_name_from_many_threads_succeeds_once(registry: PluginRegistry) -> None:
    plugins = [Algorithm("one") for _ in range(8)]
    start = threading.Barrier(len(plugins))

    def register(plugin: Algorithm) -> bool:
        start.wait(DEADLINE_SECONDS)
        try:
            registry.register(plugin)
        except ValueError:
            return False
        return True

    with ThreadPoolExecutor(len(plugins)) as pool:
        won = list(pool.map(register, plugins))
    assert won.count(True) == 1
    assert [plugin.is_initialized for plugin in plugins] == won
