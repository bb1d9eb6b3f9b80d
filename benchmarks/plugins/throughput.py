"""What plugins cost a running operator: answered requests a second, CPU and delays, with a plugin and without.

python benchmarks/plugins/throughput.py [--quick] [--only answers,hangs] [--rounds 3] [--burst 1000]
                                         [--paced-seconds 10] [--profile FILE] [--json FILE]

One operator on one local control plane. For each round and each row of `VARIANTS` a plugin is enabled by a patch, the
load is run in a namespace of its own, and the plugin is disabled again; each round in the opposite order of the one
before. A history is kept, and what is new of it goes to the plugin before each question. Who answered is read from
`status.solvedBy` of every request. What counts are the ratios within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.devcluster import DevCluster, DevClusterError
from lib import load_phases
from lib.load_client import LoadClient, LoadError
from lib.load_phases import Encode, Figures, Sizes
from lib.plugin_operator import control_plane, operator
from lib.plugin_resources import PluginResources, plugin
from lib.processes import RunningSystem, SystemUnderTestError, all_cpu_seconds, child_running
from lib.questions import predicted, small
from lib.summary import Target, comparison_table, target_table

AT_LEAST = 0.8
SIZES = Sizes(paced_seconds=10, burst=1000, rounds=3)
HOST = "engine_ops.plugins.host"
ROWS = (
    ("burst_answered_per_s", "answered, all at once", "1/s"),
    ("burst_cpu_ms", "main-process CPU a request, all at once", "ms"),
    ("burst_solvers_cpu_ms", "the solvers' CPU a request", "ms"),
    ("burst_plugins_cpu_ms", "the plugins' CPU a request", "ms"),
    ("burst_by_plugin", "of the plugin, all at once", "%"),
    ("paced_p50_ms", "apply to Ready at 20/s, p50", "ms"),
    ("paced_p95_ms", "apply to Ready at 20/s, p95", "ms"),
    ("paced_cpu_ms", "main-process CPU a request at 20/s", "ms"),
    ("paced_by_plugin", "of the plugin, at 20/s", "%"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """What answers, or tries to.

    Parameters
    ----------
    name
        For tables.
    plugin
        Which is enabled meanwhile; empty for none.
    encode
        Makes the requests.
    faulty
        Whether it never answers: it is then started afresh before each phase, or all would be over with the first.
    """

    name: str
    plugin: str = ""
    encode: Encode = small
    faulty: bool = False


BUILT_IN, HISTORY = "built-in", "history"
VARIANTS = (
    Variant(BUILT_IN),
    Variant("answers", "packs"),
    Variant("advises", "advises"),
    Variant("hangs", "hangs", faulty=True),
    Variant("crashes", "crashes", faulty=True),
    Variant(HISTORY, encode=predicted),
    Variant("predicts", "predicts", predicted),
)
PLUGINS = (
    plugin("packs", "load_plugins:Packs", ["resource"]),
    plugin("advises", "load_plugins:Advises", ["resource"]),
    plugin("predicts", "load_plugins:Predicts", ["ml-driven"]),
    plugin("hangs", "load_plugins:Hangs", ["resource"], limits={"timeoutSeconds": 1}),
    plugin("crashes", "load_plugins:Crashes", ["resource"]),
)
TARGETS = (("answers", BUILT_IN), ("advises", BUILT_IN), ("predicts", BUILT_IN), ("predicts", HISTORY))


class Bench:
    """One run on one cluster.

    Parameters
    ----------
    cluster
        With the plugins in it, disabled.
    running
        The operator.
    sizes
        Of the load.
    """

    def __init__(self, cluster: DevCluster, running: RunningSystem, sizes: Sizes) -> None:
        self._cluster = cluster
        self._running = running
        self._sizes = sizes
        self._numbers = itertools.count()

    async def round(self, variant: Variant) -> Figures:
        """Measure once, and remove what it left."""
        async with LoadClient.open(self._cluster, f"load-{next(self._numbers)}") as client:
            try:
                figures = await self._measure(client, variant)
            except LoadError as error:
                raise SystemUnderTestError(f"{variant.name}: {error}\n{self._running.said}") from error
            await client.delete_all()
        return figures

    async def _measure(self, client: LoadClient, variant: Variant) -> Figures:
        resources = PluginResources(client)
        figures: Figures = {}
        if variant.plugin and not variant.faulty:
            await self._enable(resources, variant)
        await load_phases.warm_up(client, variant.encode)
        for phase, prefix in ((load_phases.paced, "paced"), (load_phases.burst, "burst")):
            if variant.faulty:
                await self._enable(resources, variant)
            plugins_before = self._plugins_cpu_seconds()
            figures |= await phase(client, self._running, self._sizes, variant.encode)
            names = [name for name in client.solved_by if name.startswith(prefix)]
            if prefix == "burst":
                plugins_ms = (self._plugins_cpu_seconds() - plugins_before) * 1000 / len(names)
                figures["burst_plugins_cpu_ms"] = plugins_ms
                figures["burst_solvers_cpu_ms"] = figures["burst_others_cpu_ms"] - plugins_ms
            if variant.plugin:
                served = sum(client.solved_by[name].plugin == variant.plugin for name in names)
                figures[f"{prefix}_by_plugin"] = 100 * served / len(names)
        if variant.plugin:
            await resources.patch(variant.plugin, {"enabled": False})
            await resources.until(variant.plugin, "Disabled")
        return figures

    async def _enable(self, resources: PluginResources, variant: Variant) -> None:
        spec: dict[str, Any] = {"enabled": True}
        if variant.faulty:
            spec["config"] = {
                "start": next(self._numbers)
            }  # other settings: a new process, and nothing held against it
        await resources.patch(variant.plugin, spec)
        await resources.until(variant.plugin, "Running")

    def _plugins_cpu_seconds(self) -> float:
        host = child_running(self._running.pid, HOST)
        return 0.0 if host is None else all_cpu_seconds(host)


async def run(bench: Bench, sizes: Sizes, variants: list[Variant]) -> dict[str, Any]:
    measured: dict[str, list[Figures]] = {variant.name: [] for variant in variants}
    for number in range(sizes.rounds):
        # Forth and back: what drifts with time falls on all alike.
        for variant in variants if number % 2 == 0 else reversed(variants):
            figures = await bench.round(variant)
            measured[variant.name].append(figures)
            shown = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
            print(f"round {number + 1}, {variant.name}, load {os.getloadavg()[0]:.1f}: {shown}", flush=True)
    print("\n" + comparison_table(measured, ROWS, ours="", peers=()))
    targets = []
    for name, peer in TARGETS:
        if name not in measured or peer not in measured:
            continue
        key = "burst_answered_per_s"
        pairs = [one[key] / other[key] for one, other in zip(measured[name], measured[peer], strict=True)]
        print(f"\nanswered/s, {name} over {peer}, round by round: {', '.join(f'{pair:.2f}' for pair in pairs)}")
        # Of pairs that were measured one after the other: what else the machine does falls on both of a pair.
        targets.append(Target(f"answered/s, {name} / {peer}", statistics.median(pairs), AT_LEAST, at_most=False))
    if targets:
        print("\n" + target_table(targets))
    return {
        "sizes": dataclasses.asdict(sizes),
        "rounds": measured,
        "targets": [target.as_json() for target in targets],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it works, measures nothing")
    parser.add_argument("--rounds", type=int, help=f"how often each is measured ({SIZES.rounds})")
    parser.add_argument("--burst", type=int, help=f"requests at once ({SIZES.burst}); few for many rounds")
    parser.add_argument("--paced-seconds", type=int, help=f"at 20 requests a second ({SIZES.paced_seconds})")
    parser.add_argument("--workers", type=int, default=2, help="of engine-ops run (2)")
    parser.add_argument("--only", help="names of variants, with commas between them; all")
    parser.add_argument("--profile", help="a file for cProfile's figures of the operator's main process")
    parser.add_argument("--json", help="a file for everything that was measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    sizes = load_phases.QUICK if arguments.quick else SIZES
    given = {name: getattr(arguments, name) for name in ("rounds", "burst", "paced_seconds")}
    sizes = dataclasses.replace(sizes, **{name: value for name, value in given.items() if value})
    only = arguments.only.split(",") if arguments.only else [variant.name for variant in VARIANTS]
    variants = [variant for variant in VARIANTS if variant.name in only]
    try:
        with control_plane(PLUGINS) as cluster, operator(cluster, arguments.workers, arguments.profile) as running:
            document = asyncio.run(run(Bench(cluster, running, sizes), sizes, variants))
    except (DevClusterError, SystemUnderTestError, LoadError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
