"""The table of bad plugins, from the request to what its status says: another answers, and the reason is there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator

import pytest
from bad_plugins import CASES, Case, case
from real_plugin_host import DATA, Limits, RealHost, real_host
from test_asking import World, answered, by

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.controllers.asking import Asking
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.process_instance import ProcessInstance
from engine_ops.plugins.registry import PluginRegistry

SHORT_SECONDS = 0.3
DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def host() -> Iterator[RealHost]:
    with real_host() as started:
        yield started


def manager_of(host: RealHost) -> PluginManager:
    def make(name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None]) -> Instance:
        entry_point = spec.source.entry_point
        assert entry_point is not None
        waits = entry_point != "bad_plugins:Good" and case(entry_point.partition(":")[2]).how == "waits"
        limits = Limits(SHORT_SECONDS if waits else DEADLINE_SECONDS, 100 * 2**20)
        options = {"opening_seconds": SHORT_SECONDS} if waits and name == "importsforaminute" else {}
        return ProcessInstance(host.client, entry_point, name, b"{}", limits, None, state, on_change, **options)

    return PluginManager(PluginRegistry(), make_instance=make)


def spec_of(entry_point: str, priority: int) -> OptimizerPluginSpec:
    return OptimizerPluginSpec.model_validate(
        {"enabled": True, "priority": priority, "source": {"entryPoint": entry_point}}
    )


async def settled(manager: PluginManager, name: str) -> None:
    """Wait until a plugin can be asked, or has failed to be made."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        version = manager.version
        while not (shown := manager.snapshot(name)) or shown.state in ("Starting", "Disabled"):
            try:
                version = await asyncio.wait_for(manager.wait_changed(version), 0.1)
            except TimeoutError:
                continue


@pytest.mark.parametrize("bad", CASES, ids=lambda each: each.name)
def test_a_bad_plugin_costs_no_request_its_answer(host: RealHost, bad: Case) -> None:
    name = bad.name.lower()

    async def test() -> None:
        manager = manager_of(host)
        try:
            await manager.apply(name, spec_of(bad.entry_point, 10))
            await manager.apply("good", spec_of("bad_plugins:Good", 1))
            await settled(manager, name)
            await settled(manager, "good")
            world = World([])
            pool = world.pool
            world.asking = Asking(pool, manager, late=8)  # type: ignore[arg-type]
            outcome = answered(await world.ask(DATA[bad.request_type], type=bad.request_type))
            shown = manager.snapshot(name)
            assert shown is not None
            if bad.when == "opened":
                assert outcome.fallback_reason is None
                assert re.search(bad.reason, shown.message, re.IGNORECASE), shown.message
            else:
                reason = outcome.fallback_reason or ""
                assert reason.startswith(f"{name}: ")
                assert re.search(bad.reason, reason, re.IGNORECASE), reason
                counts = shown.counts
                assert (counts.requests, counts.fallbacks) == (1, 1)
                assert counts.failures + counts.declined == 1
            # Good packs, and does nothing else; where it has nothing to say the built-in answers.
            assert by(outcome).get("plugin") == ("good" if bad.request_type == "resource" else None)
        finally:
            await manager.close()

    host.run(test)
