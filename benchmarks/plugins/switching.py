"""How soon a patch of ``enabled`` is felt: from the patch to the next request that the other one answers.

python benchmarks/plugins/switching.py [--patches 20] [--per-second 20] [--json FILE]

One operator on one local control plane, with requests created at fixed moments all the while. A plugin that packs as
well as the built-in does is enabled and disabled by patches, so many times each; between two of them a random while
passes. The clock starts with the patch's own request to the API server and stops when the load's watch shows the first
answer by the other (`status.solvedBy`), to a request that was created after the patch: the wait for that, and its own
way, are in it. The first enabling of all, which starts the plugin host and the plugin's process, is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.devcluster import DevCluster, DevClusterError
from lib import load_phases
from lib.load_client import LoadClient, LoadError
from lib.plugin_operator import control_plane, operator
from lib.plugin_resources import PluginResources, plugin
from lib.processes import SystemUnderTestError
from lib.questions import small
from lib.summary import Target, percentile, target_table

PLUGIN = "packs"
BELOW_MS = 1000.0
PATIENCE_SECONDS = 60.0
PAUSES_SECONDS = (0.3, 1.0)
SEED = 6


class Switch:
    """Patches a plugin, and sees who answers.

    Parameters
    ----------
    client
        By which requests are created meanwhile.
    """

    def __init__(self, client: LoadClient) -> None:
        self._client = client
        self._resources = PluginResources(client)
        self._wanted = ""
        self._since = 0.0
        self._seen: asyncio.Future[float] | None = None
        client.on_ready = self._ready

    async def turn(self, *, on: bool) -> float:
        """Patch, and return after how many milliseconds the other has answered."""
        self._wanted = PLUGIN if on else ""
        self._seen = asyncio.get_running_loop().create_future()
        self._since = time.perf_counter()
        await self._resources.patch(PLUGIN, {"enabled": on})
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await self._seen - self._since) * 1000

    def _ready(self, name: str) -> None:
        client, seen = self._client, self._seen
        if seen is None or seen.done() or client.created[name] < self._since:
            return
        if client.solved_by[name].plugin == self._wanted:
            seen.set_result(client.ready[name])


@contextlib.asynccontextmanager
async def requests(client: LoadClient, prefix: str, per_second: float) -> AsyncIterator[None]:
    """Create requests for as long as the body lasts, and wait until all are answered."""

    async def create() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await asyncio.sleep(began + number / per_second - loop.time())
                name = f"{prefix}-{number}"
                group.create_task(client.create(name, small(name)))

    creating = asyncio.create_task(create())
    try:
        yield
    finally:
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await creating
    await client.all_ready(deadline_seconds=PATIENCE_SECONDS)


async def run(cluster: DevCluster, patches: int, per_second: float) -> dict[str, Any]:
    pauses = random.Random(SEED)
    measured: dict[str, list[float]] = {"on": [], "off": []}
    async with LoadClient.open(cluster, "switching") as client:
        await load_phases.warm_up(client)
        switch = Switch(client)
        async with requests(client, "first", per_second):
            first_ms = await switch.turn(on=True)
        async with requests(client, "load", per_second):
            for number in range(2 * patches):
                await asyncio.sleep(pauses.uniform(*PAUSES_SECONDS))
                on = number % 2 == 1
                measured["on" if on else "off"].append(await switch.turn(on=on))
        print(f"{len(client.ready)} requests, all answered; load of the machine {os.getloadavg()[0]:.1f}")
        delays_ms = [(ready - client.created[name]) * 1000 for name, ready in client.ready.items() if "load" in name]
        print(f"the first enabling of all: {first_ms:.0f} ms")
        print(f"apply to Ready meanwhile, p50 / worst: {percentile(delays_ms, 50):.0f} / {max(delays_ms):.0f} ms")
    targets = [
        Target(f"{what}, {title}", percentile(measured[key], percent), BELOW_MS, unit="ms")
        for key, what in (("on", "enabled to the plugin's first answer"), ("off", "disabled to the built-in's first"))
        for percent, title in ((50, "p50"), (100, "worst"))
    ]
    print("\n" + target_table(targets))
    return {"first_ms": first_ms, "measured": measured, "targets": [target.as_json() for target in targets]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=20, help="in each direction (20)")
    parser.add_argument("--per-second", type=float, default=20.0, help="requests created meanwhile (20)")
    parser.add_argument("--json", help="a file for everything that was measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    plugins = [plugin(PLUGIN, "load_plugins:Packs", ["resource"])]
    try:
        with control_plane(plugins) as cluster, operator(cluster, workers=2) as running:
            try:
                document = asyncio.run(run(cluster, arguments.patches, arguments.per_second))
            except (LoadError, TimeoutError) as error:
                raise SystemUnderTestError(f"{error!r}\n{running.said}") from error
    except (DevClusterError, SystemUnderTestError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
