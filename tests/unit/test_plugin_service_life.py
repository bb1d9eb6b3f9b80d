"""The life of an OptimizerPlugin whose source is a service: trained in place, asked, gone and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from plugin_services import ask, feed, history, point, run, serving, until
from test_plugin_service import MeanPlugin

from engine_ops.api.optimizerplugin import OptimizerPluginSpec, PluginService
from engine_ops.api.reasons import Reason
from engine_ops.history.collector import WorkloadCollector
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.plugins.said import Said
from engine_ops.plugins.service_instance import ServiceInstance
from reserved_port import reserved_port


class Points:
    def __init__(self, collector: WorkloadCollector) -> None:
        self._collector = collector

    def points(self) -> int:
        return len(self._collector)


class Operator:
    """What the operator has of a plugin's service."""

    def __init__(self, collector: WorkloadCollector) -> None:
        self.port = 0
        self.made = 0
        self._feed = feed(collector)
        self.manager = PluginManager(PluginRegistry(), make_instance=self._make, history=Points(collector))

    def _make(self, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None]) -> Instance:
        self.made += 1
        assert spec.source.service is not None
        return ServiceInstance(
            name,
            spec.source.service,
            limits=spec.limits,
            config=msgspec.json.encode(spec.config or {}),
            state=state,
            feed=self._feed,
            resolve=self._resolve,
            on_change=on_change,
            health_seconds=0.05,
        )

    def _resolve(self, _service: PluginService) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def apply(self, **fields: Any) -> None:
        source = {"service": {"name": "mean", "namespace": "shop", "port": 8080}}
        await self.manager.apply("mean", OptimizerPluginSpec.model_validate({"source": source, **fields}))

    async def until(self, state: Reason, trained: Reason | None = None) -> None:
        def is_so() -> bool:
            snapshot = self.manager.snapshot("mean")
            assert snapshot is not None
            told = None if snapshot.trained is None else snapshot.trained[0]
            return snapshot.state is state and (trained is None or told is trained)

        await until(is_so, f"it is {state} and {trained}")

    async def ask(self, **data: Any) -> Said:
        plugin = self.manager.get("mean")
        assert plugin is not None
        return await plugin.ask(ask(data or {"rows": 1}), point=None, workload=None, needs_prediction=True)

    async def until_it_says(self, text: bytes, **data: Any) -> bytes:
        async with asyncio.timeout(30):
            while True:
                envelope = (await self.ask(**data)).envelope or b""
                if text in envelope:
                    return envelope
                await asyncio.sleep(0.01)


@asynccontextmanager
async def operator(collector: WorkloadCollector) -> AsyncIterator[Operator]:
    made = Operator(collector)
    try:
        yield made
    finally:
        await made.manager.close()


def test_a_service_is_waited_for_trained_in_place_and_asked() -> None:
    async def main() -> None:
        collector = history(*range(12))
        async with operator(collector) as there:
            there.port = port = kept  # nothing is there yet
            await there.apply(config={"scale": 2})
            await there.until(Reason.PLUGIN_UNAVAILABLE)
            async with serving(MeanPlugin, port):
                await there.until(Reason.RUNNING, Reason.TRAINED)
                said = await there.ask()
                assert said.envelope is not None
                assert b'"expected_duration":55.0' in said.envelope
                assert said.model_id == "mean-model"
                snapshot = there.manager.snapshot("mean")
                assert snapshot is not None
                assert snapshot.version == "1.2.3"
                assert snapshot.model is not None
                assert snapshot.model.samples == 12
                made = there.made

                collector.record(point(100))
                assert b"100" in ((await there.ask(say="numbers")).envelope or b"")
                assert there.made == made, "one instance is enough, for training too"

    with reserved_port() as kept:
        run(main())


def test_settings_that_are_wrong_and_then_right() -> None:
    async def main() -> None:
        async with operator(history(*range(12))) as there, serving(MeanPlugin) as port:
            there.port = port
            await there.apply(config={"scale": 0})
            await there.until(Reason.INVALID_CONFIG)
            snapshot = there.manager.snapshot("mean")
            assert snapshot is not None
            assert [path for path, _ in snapshot.faults] == ["config.scale"]
            await there.apply(config={"scale": 3})
            await there.until(Reason.RUNNING, Reason.TRAINED)
            assert b'"scale":3' in ((await there.ask(say="numbers")).envelope or b"")

            await there.apply(config={"scale": 4})
            said = await there.until_it_says(b'"scale":4', say="numbers")
            assert b'"numbers":[0,1,2,3,4,5,6,7,8,9,10,11]' in said

            # And back before the others were taken over.
            await there.apply(config={"scale": 5})
            await there.apply(config={"scale": 4})
            await there.until_it_says(b'"scale":4', say="numbers")

    run(main())


def test_a_service_that_is_replaced_is_asked_again_with_its_model() -> None:
    async def main() -> None:
        async with operator(history(*range(12))) as there:
            async with serving(MeanPlugin, kept) as port:
                there.port = port
                await there.apply(config={"scale": 2})
                await there.until(Reason.RUNNING, Reason.TRAINED)
            await there.until(Reason.PLUGIN_UNAVAILABLE, Reason.TRAINED)
            version = there.manager.version
            said = await there.ask()
            assert said.envelope is None
            assert "cannot be reached" in (said.no or "")
            async with serving(MeanPlugin, port):
                async with asyncio.timeout(30):
                    await there.manager.wait_changed(version)  # as requests do that wait for it
                await there.until(Reason.RUNNING, Reason.TRAINED)
                assert b'"expected_duration":55.0' in ((await there.ask()).envelope or b"")

    with reserved_port() as kept:
        run(main())
