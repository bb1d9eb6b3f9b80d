"""The main job on real input: run times of recorded jobs, learned and predicted by a plugin in a cluster.

    python benchmarks/plugins/atlas.py --data ../shared/data

The LLNL Atlas log (Parallel Workloads Archive): of its jobs with a requested time, the first 80 % by submit time are
learned, the rest is predicted. All of it goes the way that a user's jobs go: a local control plane, `engine-ops history
import`, `engine-ops run`, an OptimizerPlugin of the quantile boosting model, `kubectl wait --for=condition=Trained`,
and an OptimizationRequest for each job. Learned is what had ended at the cut. Then the operator is stopped, the other
outcomes are imported, and it is started again with the model that it kept: lags need the outcomes of jobs after the
cut, and count only what was known when each request's own job was submitted.

Beside the plugin's errors stand those of the same model in this process, on the vectors that training makes of the same
points: the digest of the model and each prediction must be equal. Exits with 1 where they are not, or where anything
but the plugin answered. Skips where there is no log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import threadpoolctl
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.devcluster import DevCluster, DevClusterError
from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.ml.keys import known_at
from engine_ops.ml.lags import Lags
from engine_ops.ml.models import QuantileBoostingModel
from engine_ops.ml.scoring import DURATION
from engine_ops.plugins.messages import Ask
from engine_ops.plugins.model_state import digest_of, encode_state
from engine_ops.plugins.session_request import request_data_of
from history.predict import LOGS, TRAINED_SHARE
from lib.bulk import Bulk
from lib.load_client import API, LoadClient, LoadError
from lib.load_phases import PATIENCE_PER_REQUEST_SECONDS, PATIENCE_SECONDS
from lib.processes import RunningSystem, System, SystemUnderTestError
from lib.summary import percentile
from plugins import atlas_jobs
from plugins.atlas_jobs import REQUEST_TYPE, Jobs, Naive

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "run-times"
NAMESPACE = "atlas"
HISTORY_POINTS = 50_000
TARGETS = (DURATION.removeprefix("expected_"),)
ENGINE_OPS = Path(sysconfig.get_path("scripts")) / "engine-ops"
PACED_PER_SECOND = 20.0
PACED_JOBS = 300
WARM_UP_JOBS = 40
CHECKED_VECTORS = 100
OF_KNOWN_ALONE_EVERY = 5
TRAINED_SECONDS = 300
SEED = 6
QUICK_POINTS, QUICK_JOBS = 3000, 60
PAGE = 500

MANIFEST = {
    "apiVersion": "engineops.dev/v1alpha1",
    "kind": "OptimizerPlugin",
    "metadata": {"name": PLUGIN},
    "spec": {
        "supportedTypes": [REQUEST_TYPE],
        "source": {"entryPoint": "engine_ops.ml.models.quantile_boosting:QuantileBoostingPlugin"},
        "config": {"targets": list(TARGETS)},
    },
}


class InProcess(NamedTuple):
    """What the same model says in a process of its own, of the jobs that are asked for."""

    digest: str
    state_bytes: int
    training_seconds: float
    predictions: list[float]
    vectors_checked: int


@dataclasses.dataclass
class Served:
    """What came of the way through the cluster."""

    trained_seconds: float = 0.0
    import_seconds: float = 0.0
    digest: str = ""
    digest_after: str = ""
    predictions: list[float] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)
    answers_per_s: float | None = None
    paced_p50_ms: float = 0.0
    paced_p99_ms: float = 0.0
    status: dict[str, Any] = dataclasses.field(default_factory=dict)


def in_process(jobs: Jobs, asked: Sequence[WorkloadDataPoint]) -> InProcess:
    """Train and predict with the vectors of `WorkloadDataset.to_numpy`: those that a model is trained on.

    On the way it is checked, of some jobs, that the vector of their request is the same: made of everything in the
    history, and made of nothing but what was known when it was submitted.
    """
    with threadpoolctl.threadpool_limits(1):
        began = time.perf_counter()
        model = QuantileBoostingModel(targets=TARGETS)
        model.train(jobs.learned)
        spent = time.perf_counter() - began
        vectors, _ = WorkloadDataset(jobs.points).to_numpy(TARGETS[0], model.feature_schema)
        if len(vectors) != len(jobs.points):
            raise ValueError(f"{len(jobs.points) - len(vectors)} jobs have no run time")
        row_of = {id(point): row for row, point in enumerate(jobs.points)}
        rows = [vectors[row_of[id(point)]] for point in asked]
        lags = Lags(jobs.points)
        checked = atlas_jobs.sample(asked, CHECKED_VECTORS, SEED)
        for number, point in enumerate(checked):
            own = vectors[row_of[id(point)]]
            check_equal(point, own, model.feature_vector(seen(point), lags))
            if number % OF_KNOWN_ALONE_EVERY == 0:  # that takes a second each
                known = [other for other in jobs.points if known_at(other) < point.timestamp]
                check_equal(point, own, model.feature_vector(seen(point), known))
        predictions = [each[DURATION][0.5] for each in model.predict_quantiles(rows)]
        state = encode_state(model.save() or {})
    return InProcess(digest_of(state), len(state), spent, predictions, len(checked))


def check_equal(point: WorkloadDataPoint, of_training: Sequence[float], of_request: Sequence[float]) -> None:
    """Hold the vector of a request against that of its point.

    Raises
    ------
    AssertionError
        If they differ; a missing value is equal to a missing one.
    """
    assert list(map(float.hex, of_request)) == list(map(float.hex, of_training)), (
        f"job {point.metadata['job']}: {of_request} is served, and {of_training} was trained on"
    )


def seen(point: WorkloadDataPoint) -> dict[str, Any]:
    """Return what a plugin is given for the job's request, by the operator's own code."""
    body = json.loads(atlas_jobs.encoded_request("any", point))
    extra = json.dumps({"timestamp": 0, "namespace": NAMESPACE}).encode()
    return request_data_of(
        Ask(request_id="any", type=REQUEST_TYPE, data=json.dumps(body["spec"]["data"]).encode(), extra=extra)
    )


class Way:
    """The way through a cluster.

    Parameters
    ----------
    cluster
        With the manifests in it.
    directory
        For files.
    """

    def __init__(self, cluster: DevCluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
        environment = {key: value for key, value in os.environ.items() if key not in outside}
        self._environment = cluster.environment(environment)
        rights = cluster.service_account_kubeconfig("engine-ops-system", "engine-ops", duration_seconds=4 * 3600)
        command = [ENGINE_OPS, "run", "--kubeconfig", rights, "--probes", "none", "--history-points", HISTORY_POINTS]
        self._operator = System("engine-ops", list(map(str, command)), "watching optimizationrequests")

    def bring_in(self, log: Path, points: Sequence[WorkloadDataPoint], name: str) -> float:
        """Import points of a log as a user does; return the seconds it took."""
        part = self._directory / name
        atlas_jobs.write_log(part, log, points)
        command = ["history", "import", part, "--as-type", REQUEST_TYPE, "--max-points", HISTORY_POINTS]
        began = time.perf_counter()
        subprocess.run([ENGINE_OPS, *map(str, command)], env=self._environment, check=True)
        return time.perf_counter() - began

    @contextlib.contextmanager
    def operator(self) -> Iterator[RunningSystem]:
        """Run the operator; show what it said last where something fails."""
        with RunningSystem(self._operator, self._environment) as running:
            try:
                yield running
            except BaseException:
                print(running.said, file=sys.stderr)
                raise

    def apply(self) -> None:
        """Apply the plugin."""
        self._cluster.kubectl("apply", "-f", "-", stdin=json.dumps(MANIFEST))

    def plugin(self, *, timeout_seconds: int) -> dict[str, Any]:
        """Return the plugin's status once it is trained and can be asked."""
        for condition in ("Trained", "Ready"):
            arguments = (f"--for=condition={condition}", f"--timeout={timeout_seconds}s")
            self._cluster.kubectl("wait", "optplug", PLUGIN, *arguments, timeout_seconds=timeout_seconds + 10)
        found = json.loads(self._cluster.kubectl("get", "optplug", PLUGIN, "-o", "json").stdout)
        status: dict[str, Any] = found["status"]
        return status

    @staticmethod
    def wait_served(running: RunningSystem) -> None:
        """Wait until an operator that was started again has its model: the status says so from before.

        Requests would be answered without that, but by averages of the history in the first seconds.
        """
        deadline = time.monotonic() + TRAINED_SECONDS
        while f"plugin {PLUGIN}: model sha256:" not in running.said:
            if time.monotonic() > deadline:
                raise SystemUnderTestError(f"{PLUGIN} is not served after the restart:\n{running.said}")
            time.sleep(0.1)


async def ask_all(
    cluster: DevCluster, asked: Sequence[WorkloadDataPoint], served: Served
) -> Mapping[str, Mapping[str, Any]]:
    """Send a request for each job, some at a fixed rate and the rest at once; return the objects with their answers."""
    point_of = {f"job-{point.metadata['job']}": point for point in asked}
    names = list(point_of)
    first, rest = names[:WARM_UP_JOBS], names[WARM_UP_JOBS:]
    paced, burst = rest[:PACED_JOBS], rest[PACED_JOBS:]

    def encode(name: str) -> bytes:
        return atlas_jobs.encoded_request(name, point_of[name])

    patience = PATIENCE_SECONDS + PATIENCE_PER_REQUEST_SECONDS * len(names)
    async with LoadClient.open(cluster, NAMESPACE) as client:
        await client.create_at_once(first, encode)  # not measured: every process does this for the first time
        await client.all_ready(deadline_seconds=patience)
        await client.create_at_rate(paced, encode, PACED_PER_SECOND)
        await client.all_ready(deadline_seconds=patience)
        await client.create_at_once(burst, encode)
        await client.all_ready(deadline_seconds=patience)
        delays_ms = [(client.ready[name] - client.created[name]) * 1000 for name in paced]
        if paced:
            served.paced_p50_ms, served.paced_p99_ms = percentile(delays_ms, 50), percentile(delays_ms, 99)
        if burst:
            began = min(client.created[name] for name in burst)
            served.answers_per_s = len(burst) / (max(client.ready[name] for name in burst) - began)
    async with Bulk.open(cluster) as bulk:
        return await listed(bulk)


async def listed(bulk: Bulk) -> dict[str, dict[str, Any]]:
    found, token = {}, ""
    while True:
        parameters = {"limit": str(PAGE), **({"continue": token} if token else {})}
        page = await bulk.read(f"{API}/namespaces/{NAMESPACE}/optimizationrequests", parameters)
        found |= {item["metadata"]["name"]: item for item in page["items"]}
        token = page["metadata"].get("continue", "")
        if not token:
            return found


def in_cluster(log: Path, jobs: Jobs, asked: Sequence[WorkloadDataPoint], directory: Path) -> Served:
    """Go the way of a user's jobs."""
    served = Served()
    with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
        cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/base"))
        way = Way(cluster, directory)
        served.import_seconds = way.bring_in(log, jobs.learned, "learned.swf.gz")
        with way.operator():
            began = time.perf_counter()
            way.apply()
            status = way.plugin(timeout_seconds=TRAINED_SECONDS)
            served.trained_seconds = time.perf_counter() - began
            served.digest = status["model"]["digest"]
            print(f"trained on {status['model']['samples']:,} points in {served.trained_seconds:.1f} s", flush=True)
        way.bring_in(log, jobs.later, "later.swf.gz")
        with way.operator() as again:
            way.wait_served(again)
            requests = asyncio.run(ask_all(cluster, asked, served))
            served.status = way.plugin(timeout_seconds=30)
            served.digest_after = served.status["model"]["digest"]
    served.faults = atlas_jobs.faults_of(requests, PLUGIN)
    if not served.faults:
        results = [requests[f"job-{point.metadata['job']}"]["status"]["result"] for point in asked]
        served.predictions = [result[DURATION] for result in results]
    return served


def report(jobs: Jobs, asked: Sequence[WorkloadDataPoint], served: Served, same: InProcess) -> bool:
    """Print the errors and the figures; return whether the two ways agree."""
    chosen = {id(point) for point in asked}
    others: list[Naive] = [
        each for each, point in zip(atlas_jobs.naive(jobs), jobs.predicted, strict=True) if id(point) in chosen
    ]
    rows: list[tuple[str, Sequence[float | None]]] = [
        ("the plugin, through the cluster", served.predictions),
        ("the same model in this process", same.predictions),
        ("the user's request", [atlas_jobs.requested_ms(point) for point in asked]),
        ("the mean of the user's last two", [each.last_two for each in others]),
        ("the median of the last five (RecentOutcomes)", [each.baseline for each in others]),
        ("naive: SeasonalNaiveModel, by the day", [each.seasonal for each in others]),
        ("without a plugin: SimplePredictorModel", [each.averages for each in others]),
    ]
    print(f"\n{len(jobs.learned):,} jobs learned, {len(asked):,} of the next {len(jobs.predicted):,} predicted")
    errors = [[name, atlas_jobs.error(predicted, asked)] for name, predicted in rows]
    print(tabulate(errors, headers=["mean absolute difference of ln(1 + s)", "error"], floatfmt=".4f"))
    differences = [abs(one - other) for one, other in zip(served.predictions, same.predictions, strict=True)]
    figures = [
        ["from apply to Trained, s", served.trained_seconds],
        ["training in this process, s", same.training_seconds],
        ["import of what is learned, s", served.import_seconds],
        ["the model's state, KiB", same.state_bytes / 1024],
        ["answers a second, all at once", served.answers_per_s],
        [f"apply to Ready at {PACED_PER_SECOND:.0f}/s, p50 ms", served.paced_p50_ms],
        [f"apply to Ready at {PACED_PER_SECOND:.0f}/s, p99 ms", served.paced_p99_ms],
        ["vectors held against those of training", same.vectors_checked],
        ["predictions that differ from this process's", sum(difference > 0 for difference in differences)],
        ["the largest difference, ms", max(differences)],
    ]
    print("\n" + tabulate(figures, floatfmt=",.1f", missingval="not measured"))
    digests = {"trained": served.digest, "after the restart": served.digest_after, "in this process": same.digest}
    print("\n" + tabulate(digests.items(), headers=["model", "digest"]))
    print(
        f"latency of the plugin, by its status: {served.status.get('latency')}, counts: {served.status.get('counts')}"
    )
    same_model = all(atlas_jobs.is_digest_of(shown, same.digest) for shown in digests.values())
    return same_model and not any(differences)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where swf/ is")
    parser.add_argument("--jobs", type=int, help="ask for so many of the jobs, drawn with a fixed seed; all unless set")
    parser.add_argument("--quick", action="store_true", help="a short log and few jobs: shows that it works")
    arguments = parser.parse_args()
    chosen = LOGS[0]
    log = arguments.data / "swf" / chosen.file
    if not log.exists():
        print(f"Skipped: there is no {log} (--data).")
        return 0
    points = atlas_jobs.read_log(log, chosen.jobs)
    jobs = atlas_jobs.jobs_of(points[:QUICK_POINTS] if arguments.quick else points, TRAINED_SHARE)
    asked = atlas_jobs.sample(jobs.predicted, QUICK_JOBS if arguments.quick else arguments.jobs, SEED)
    try:
        with ProcessPoolExecutor(1) as pool, tempfile.TemporaryDirectory() as directory:
            served = in_cluster(log, jobs, asked, Path(directory))
            # Afterwards, so that neither slows the other; in another process, for the memory.
            same = pool.submit(in_process, jobs, asked).result()
    except (DevClusterError, SystemUnderTestError, LoadError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if served.faults:
        print(
            f"{len(served.faults)} of {len(asked)} requests were not answered by the plugin:",
            *served.faults[:5],
            sep="\n",
        )
        return 1
    agrees = report(jobs, asked, served, same)
    print("both ways agree" if agrees else "the two ways DIFFER")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
