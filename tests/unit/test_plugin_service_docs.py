"""The page on plugin services: its example, without the SDK, does what the operator wants of it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from plugin_services import ask, feed, history, point, run, started

from engine_ops.history.collector import WorkloadCollector
from engine_ops.plugins.instance import Unanswered
from engine_ops.plugins.openapi import document
from engine_ops.plugins.service_client import CONNECT_SECONDS, GET_TRIES
from engine_ops.plugins.service_instance import HEALTH_SECONDS, LONGEST_PAUSE_SECONDS
from engine_ops.plugins.service_messages import MAX_BODY_BYTES, MAX_STATE_BYTES, MAX_TRAIN_BODY_BYTES
from engine_ops.plugins.service_settings import INFO_SECONDS, OPENING_SECONDS
from engine_ops.plugins.service_worker import MAX_WAITING
from engine_ops.plugins.serving import STUCK_AFTER_SECONDS
from reserved_port import reserved_port

PAGE = (Path(__file__).parents[2] / "docs" / "plugin-services.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SERVED, EXAMPLE = BLOCKS


@asynccontextmanager
async def program(text: str, port: int, **options: Any) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a program until it answers; end it with SIGTERM."""
    process = subprocess.Popen([sys.executable, *options.pop("flags", ()), "-c", text], **options)  # noqa: ASYNC220
    try:
        async with asyncio.timeout(50), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as health:
                        assert (await health.json())["ok"] is True
                        break
                except aiohttp.ClientConnectionError:
                    assert process.poll() is None, "the program has ended"
                    await asyncio.sleep(0.02)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def test_the_example_of_the_page_is_a_plugin() -> None:
    async def main() -> None:
        environment = {"PORT": str(port), "PATH": os.environ["PATH"]}
        collector: WorkloadCollector = history()
        collector.record_many(point(number, workload={"name": "import"}) for number in (1, 2, 9))
        collector.record(point(5))
        # -I -S: nothing but the standard library can be imported.
        async with (
            program(EXAMPLE, port, env=environment, flags=("-I", "-S"), stderr=subprocess.DEVNULL),
            started(port, feed=feed(collector)) as instance,
        ):
            assert instance.opened.is_trained is False
            about = b'{"workload":{"namespace":"shop","kind":"Job","name":"import"}}'
            assert (await instance.ask(ask(extra=about))).no == "nothing is known of import"
            trained = await instance.train(10)
            assert (trained.model_id, trained.samples, trained.is_trained) == ("median", 4, True)
            reply = await instance.ask(ask(extra=about))
            assert reply.scored == {"expected_duration": 20.0}
            assert (await instance.ask(ask())).no == "nothing is known of None"
            assert instance.counters.failures == instance.counters.crashes == 0

    with reserved_port() as port:
        run(main())


def test_serve_answers_until_it_is_told_to_end() -> None:
    async def main() -> None:
        text = SERVED.replace("port=8080", f'port={port}, host="127.0.0.1"')
        assert text != SERVED
        async with program(text, port) as process, started(port, feed=feed(history(*range(12)))) as instance:
            assert instance.opened.name == "simple-predictor"
            assert (await instance.train(20)).samples == 12
            reply = await instance.ask(ask())
            assert not isinstance(reply, Unanswered)
            assert reply.no is None
        assert process.returncode == 0

    with reserved_port() as port:
        run(main())


def test_the_page_names_every_path_and_limit() -> None:
    for path, methods in document()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path}`" in PAGE
    for said in (
        f"at most {MAX_BODY_BYTES // 2**20} MiB, with `/train` at most {MAX_TRAIN_BODY_BYTES // 2**20} MiB",
        f"at most {MAX_STATE_BYTES // 2**20} MiB before\nthat",
        f"no connection within {CONNECT_SECONDS:g} s",
        f"tried {GET_TRIES} times",
        f"every {HEALTH_SECONDS:g} s",
        f"`/info` and `/healthz` have {INFO_SECONDS:g} s",
        f"`/validate` and the first `/history` {OPENING_SECONDS:g} s",
        f"... {LONGEST_PAUSE_SECONDS:g} s for ever",
        f"up to {MAX_WAITING} requests wait",
        f"`stuck_after_seconds` ({STUCK_AFTER_SECONDS:g})",
    ):
        assert said in PAGE, said
