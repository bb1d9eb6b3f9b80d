"""The history for a plugin's process: what it costs to bring it there, and what a request pays for it.

    python benchmarks/plugins/history.py [--without-boosting]

Points are those of `history.typical` in the order in which their outcomes were known, which is the order of the
operator's log; 10,000 are there, 100 new ones come again and again, every 500 are sealed. An update is measured from
the collector to the view of the receiver: encoded, framed, decoded, applied, CPU time of both sides in one process.
JSON documents of the same points, made and read again, stand beside it. Then the same through a real process of a
plugin (`engine_ops.plugins.host`), by the clock, against a request without anything new.

What a request pays is the time of `use_history` (and of the feature vector) with the shipped models, beside the same
with a plain list, which is digested as a whole. Medians; exits with 1 beyond a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.history.feed import Cursor, HistoryFeed, HistoryUpdate
from engine_ops.history.ring import LogCollector
from engine_ops.history.view import HistoryView
from engine_ops.ml import BaseMLModel, WorkloadDataPoint
from engine_ops.ml.keys import known_at
from engine_ops.ml.models import QuantileBoostingModel, SeasonalNaiveModel
from engine_ops.plugins.host.client import HostClient
from engine_ops.plugins.host.process import PluginProcess
from engine_ops.plugins.messages import Ask, Open, Opened, Replied
from engine_ops.workers.frames import encode_frame
from history.typical import typical_points
from lib.summary import Target, percentile, target_table

HISTORY, NEW, SEALED = 10_000, 100, 500
ROUNDS = 40
TRAINED_ON = 1_500
REQUEST = {"type": "resource", "workload": {"namespace": "team-03", "kind": "Job", "name": "batch-report-003"}}
DECODER = msgspec.msgpack.Decoder(HistoryUpdate)


class Log:
    """A ring of 10,000 points, which grows as the operator's does."""

    def __init__(self, points: Sequence[WorkloadDataPoint], *, written: bool) -> None:
        self.collector = LogCollector(HISTORY, block_points=SEALED, auto_seal=False)
        self.feed = HistoryFeed(self.collector)
        self._points = iter(points)
        self._written = written
        self.grow(HISTORY)

    def grow(self, count: int = NEW) -> None:
        """Record points."""
        for _ in range(count):
            self.collector.record(next(self._points))
            if len(self.collector.head) >= SEALED:
                block = self.collector.seal()
                if self._written:
                    list(block.chunks())
                while self.collector.evictable():
                    self.collector.drop_oldest()


class Receiver:
    """A view, and how far it is."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.view = HistoryView()
        self.cursor = Cursor()
        self.frame_bytes = 0

    def update(self) -> None:
        """Bring what is new into the view."""
        for update in self.log.feed.updates_for(self.cursor):
            frame = encode_frame(update)
            self.frame_bytes += len(frame)
            with memoryview(frame)[4:] as payload:
                self.view.apply(DECODER.decode(payload))


class Spent(NamedTuple):
    """Milliseconds of a round."""

    cpu: float
    wall: float


def spent(work: Callable[[], Any]) -> Spent:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Spent((time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3)


def median(rounds: Sequence[Spent]) -> Spent:
    return Spent(statistics.median(each.cpu for each in rounds), statistics.median(each.wall for each in rounds))


def as_json(points: Sequence[WorkloadDataPoint]) -> None:
    text = json.dumps([point.to_dict() for point in points]).encode()
    assert len([WorkloadDataPoint.from_dict(each) for each in json.loads(text)]) == len(points)


def moving(points: Sequence[WorkloadDataPoint]) -> list[Target]:
    rows: list[tuple[str, Any, Any, Any]] = []
    targets = []
    for written, name in ((False, "sealed, not yet written"), (True, "as in the store")):
        log = Log(points, written=written)
        receiver = Receiver(log)
        first = median([spent(Receiver(log).update) for _ in range(ROUNDS)])
        receiver.update()
        assert len(receiver.view) == HISTORY
        size = receiver.frame_bytes
        rounds = []
        for _ in range(ROUNDS):
            log.grow()
            rounds.append(spent(receiver.update))
        assert list(receiver.view) == list(log.collector.select().points())
        rows.append((f"10,000 points, {name}", first.cpu, first.wall, size / 1e3))
        rows.append((f"100 new points, {name}", *median(rounds), (receiver.frame_bytes - size) / ROUNDS / 1e3))
        rows.append(("... the slowest of them", max(r.cpu for r in rounds), max(r.wall for r in rounds), None))
        targets.append(Target(f"10,000 points, {name}, CPU", first.cpu, 5, unit="ms"))
        targets.append(Target(f"100 new points, {name}, CPU", median(rounds).cpu, 0.5, unit="ms"))
    documents = median([spent(lambda: as_json(points[:HISTORY])) for _ in range(3)])
    few = median([spent(lambda: as_json(points[:NEW])) for _ in range(ROUNDS)])
    size = len(json.dumps([point.to_dict() for point in points[:HISTORY]])) / 1e3
    rows.append(("10,000 points as JSON", *documents, size))
    rows.append(("100 new points as JSON", *few, size * NEW / HISTORY))
    print(tabulate(rows, ("ENCODE, FRAME, DECODE, APPLY", "CPU ms", "wall ms", "kB"), floatfmt=",.3f"), end="\n\n")
    return targets


async def through_a_process(points: Sequence[WorkloadDataPoint]) -> None:
    log = Log(points, written=True)
    client = HostClient.subprocess()
    await client.start()
    try:
        first = []
        for _ in range(10):
            process, cursor = await opened(client), Cursor()
            await asked(process, 0)
            first.append(await told_and_asked(process, log, cursor))
            await process.close()
        process, cursor = await opened(client), Cursor()
        await told_and_asked(process, log, cursor)
        plain = [await told_and_asked(process, log, cursor) for _ in range(10 * ROUNDS)]
        new = []
        for _ in range(ROUNDS):
            log.grow()
            new.append(await told_and_asked(process, log, cursor))
        await process.close()
    finally:
        await client.close()
    rows = [(name, percentile(each, 50), percentile(each, 99)) for name, each in
            (("nothing new", plain), ("100 new points", new), ("10,000 points", first))]  # fmt: skip
    print(tabulate(rows, ("TELL A PROCESS AND ASK IT, BY THE CLOCK", "p50 ms", "p99 ms"), floatfmt=",.3f"), end="\n\n")


async def opened(client: HostClient) -> PluginProcess:
    process = await client.spawn("counting", memory_limit_bytes=0)
    answer = await process.call(Open("plugins.counting:CountingPlugin", "counting"), timeout_seconds=30)
    assert isinstance(answer, Opened), answer
    return process


async def asked(process: PluginProcess, expected: int) -> None:
    answer = await process.call(Ask("1", "ml-driven", b"{}"), timeout_seconds=30)
    assert isinstance(answer, Replied)
    assert json.loads(answer.envelope)["result"] == {"points": expected}, answer


async def told_and_asked(process: PluginProcess, log: Log, cursor: Cursor) -> float:
    started = time.perf_counter()
    for update in log.feed.updates_for(cursor):
        process.post(update)
    await asked(process, HISTORY)
    return (time.perf_counter() - started) * 1e3


def requests(points: Sequence[WorkloadDataPoint], models: Iterator[BaseMLModel]) -> list[Target]:
    rows: list[tuple[str, Any, Any, Any, Any]] = []
    targets = []
    for model in models:
        log = Log(points, written=True)
        receiver = Receiver(log)
        receiver.update()
        request = {**REQUEST, "timestamp": points[-1].timestamp}

        def pay(model: BaseMLModel = model, receiver: Receiver = receiver, request: Any = request) -> None:
            model.use_history(receiver.view)
            model.predict(request)

        first = spent(pay)
        unchanged = median([spent(lambda m=model, r=receiver: m.use_history(r.view)) for _ in range(10 * ROUNDS)])
        predict = median([spent(lambda m=model, q=request: m.predict(q)) for _ in range(10 * ROUNDS)])
        rounds = []
        for _ in range(ROUNDS):
            log.grow()
            receiver.update()
            rounds.append(spent(pay))
        history = list(receiver.view)
        lists = median([spent(lambda m=model, h=history[n:]: m.use_history(h)) for n in range(1, 4)])
        name = type(model).__name__
        new = median(rounds)
        rows.append((name, first.cpu, new.cpu, max(r.cpu for r in rounds), predict.cpu))
        rows.append(("... a list, as a whole", lists.cpu, lists.cpu, None, None))
        targets.append(Target(f"{name}: request after 100 new points, CPU", new.cpu, 5, unit="ms"))
        targets.append(Target(f"{name}: nothing new, CPU", unchanged.cpu * 1e3, 50, unit="us"))
    headers = ("WHAT A REQUEST PAYS, CPU ms", "10,000 points", "100 new", "... the most", "prediction alone")
    print(tabulate(rows, headers, floatfmt=",.3f"), end="\n\n")
    return targets


class LinearModel(BaseMLModel):
    """A model as the guide has them: features from `preprocess_data` and `feature_vector`, nothing of its own."""

    def train(self, data: Sequence[WorkloadDataPoint]) -> None:
        """Fix the columns."""
        features, labels = self.preprocess_data(data, "duration")
        self._mean = statistics.fmean(labels)
        self.is_trained = bool(features)

    def predict(self, input_data: Any) -> Any:
        """Make the vector."""
        return self._mean + sum(self.feature_vector(input_data))


def trained(points: Sequence[WorkloadDataPoint], *, boosting: bool) -> Iterator[BaseMLModel]:
    models: list[BaseMLModel] = [SeasonalNaiveModel(), LinearModel("linear")]
    if boosting:
        models.append(QuantileBoostingModel(targets=["duration"]))
    for model in models:
        model.train(list(points[:TRAINED_ON]))
        yield model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-boosting", action="store_true", help="scikit-learn is not needed then")
    arguments = parser.parse_args()
    points = sorted(typical_points(HISTORY + (ROUNDS + 5) * NEW), key=known_at)
    # What the benchmark itself keeps should not be looked through by Python's collector of garbage again and again.
    gc.collect()
    gc.freeze()
    targets = moving(points)
    asyncio.run(through_a_process(points))
    targets += requests(points, trained(points, boosting=not arguments.without_boosting))
    print(target_table(targets))
    return int(any(target.verdict != "ok" for target in targets))


if __name__ == "__main__":
    sys.exit(main())
