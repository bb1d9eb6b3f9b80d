"""A real Prometheus scrapes the operator's port, and promtool judges the text, the rules and the alerts.

Needs ``prometheus`` and ``promtool`` (Debian's package ``prometheus`` has both), and no control plane.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import yaml

from engine_ops.api.reasons import Reason
from engine_ops.history.health import HistoryHealth
from engine_ops.plugins.snapshot import Counts, ModelInfo, PluginSnapshot, TrainingRuns
from engine_ops.server.address import parse_address
from engine_ops.server.listening import Listener
from engine_ops.server.metrics import CONTENT_TYPE, Metrics
from engine_ops.server.metrics_snapshot import ApiNumbers, MetricsSnapshot, WatchNumbers, WorkerNumbers
from engine_ops.server.probes import probe_app
from engine_ops.server.thread import ServerThread
from reserved_port import reserved_port

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
ALERTS_TEST = Path(__file__).parent / "alerts_test.yaml"
DEADLINE_SECONDS = 60.0
ODD_ROUTE = 'a"\\\n{b}'
EMPTY_WHEN_WELL = {"engine_ops_loop_responds == 0"}
_T = TypeVar("_T")


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: `apt-get install --no-install-recommends prometheus` brings it")
    return path


def rules_file(directory: Path) -> Path:
    """Write the groups of the PrometheusRule as Prometheus reads them."""
    resource = yaml.safe_load((MONITORING / "prometheus_rule.yaml").read_text(encoding="utf-8"))
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump(resource["spec"]), encoding="utf-8")
    return path


def alert_names() -> set[str]:
    resource = yaml.safe_load((MONITORING / "prometheus_rule.yaml").read_text(encoding="utf-8"))
    return {rule["alert"] for group in resource["spec"]["groups"] for rule in group["rules"]}


def dashboard_queries() -> list[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    found = {target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())}
    return sorted(query.replace("$__rate_interval", "1m") for query in found)


def a_full_snapshot() -> MetricsSnapshot:
    """Return one in which nothing is absent."""
    plugin = PluginSnapshot(
        name="p",
        enabled=True,
        state=Reason.RUNNING,
        message="",
        model=ModelInfo("m", "sha256:0", datetime.datetime.now(datetime.UTC), 100),
        skill=0.25,
        confidence=0.5,
        counts=Counts(4, 1, 1, 1, 1, 2),
        p50_ms=10.0,
        p99_ms=20.0,
        trainings=TrainingRuns(2, 1, 7.5),
    )
    history = HistoryHealth(
        loaded=True,
        points=10,
        open_points=1,
        unflushed=0,
        segments=1,
        stored_bytes=1000,
        damaged=(),
        missing=(),
        future="",
        refused="",
        flushed_at_ms=round(time.time() * 1000),
        conflicts=0,
        cut_strings=0,
        left_out=0,
        pushed_out=0,
        dropped_unflushed=0,
        watermark=0,
    )
    return MetricsSnapshot(
        lease_held=True,
        under_way=1,
        queued=0,
        workers=WorkerNumbers(size=2, busy=1, queued=0, started=3, ended={"timeout": 1, "memory": 0}),
        view_age_seconds=1.0,
        watches={"nodes": WatchNumbers(1, 5, 0)},
        history=history,
        plugins=(plugin,),
    )


def busy_metrics() -> Metrics:
    """Return metrics in which every series has a value."""
    metrics = Metrics()
    metrics.collect_from(a_full_snapshot)
    metrics.collect_api_from(lambda: ApiNumbers(solves_in_flight=1, cache_hits=2, cache_misses=3, cache_entries=1))
    metrics.request_ended("resource", "answered", "Solved", algorithm="best-fit", plugin=None, gap=0.02)
    metrics.request_ended("resource", "waiting", "NoPlugin", algorithm=None, plugin=None, gap=None)
    metrics.solved("resource", 0.1)
    metrics.reconciled(0.2, failed=False)
    metrics.kube_call("patch", 200, 0.01)
    metrics.http_requests.labels("GET", ODD_ROUTE, 200).inc()
    metrics.http_seconds.labels("GET", "/api/v1/plugins").observe(0.01)
    return metrics


@contextlib.contextmanager
def serving(metrics: Metrics) -> Iterator[str]:
    """Serve /metrics as the operator does; gives host and port."""

    async def health() -> dict[str, Any]:
        return {}

    defects: list[BaseException] = []
    app = probe_app(health, lambda: None, metrics.scrape, metrics_type=CONTENT_TYPE)
    thread = ServerThread(
        {"probes": Listener(address=parse_address("http://127.0.0.1:0", "--probes"), app=app)}, on_defect=defects.append
    )
    thread.start()
    try:
        yield thread.address("probes").removeprefix("http://")
    finally:
        thread.stop(1.0)
    assert defects == []


def until(look: Callable[[], _T], holds: Callable[[_T], object], sentence: str) -> _T:
    deadline, seen = time.monotonic() + DEADLINE_SECONDS, None
    while True:
        with contextlib.suppress(requests.RequestException):
            seen = look()
            if holds(seen):
                return seen
        assert time.monotonic() < deadline, f"waited in vain until {sentence}: {seen}"
        time.sleep(0.1)


@contextlib.contextmanager
def prometheus_of(target: str, directory: Path) -> Iterator[str]:
    """Run Prometheus with the rules, scraping once a second; gives its address."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules_file(directory))],
        "scrape_configs": [{"job_name": "engine-ops", "static_configs": [{"targets": [target]}]}],
    }
    (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with reserved_port() as port, (directory / "log").open("wb") as log:
        address = f"127.0.0.1:{port}"
        process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={directory / 'prometheus.yaml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            until(lambda: requests.get(f"http://{address}/-/ready", timeout=5).ok, bool, "Prometheus is ready")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def test_promtool_finds_nothing_wrong_with_the_text() -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=busy_metrics().scrape(), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_promtool_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "rules", str(rules_file(tmp_path))], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"SUCCESS: {len(alert_names())} rules found" in checked.stdout


def test_each_alert_fires_in_trouble_and_only_then(tmp_path: Path) -> None:
    rules_file(tmp_path)
    text = ALERTS_TEST.read_text(encoding="utf-8")
    (tmp_path / "alerts_test.yaml").write_text(text, encoding="utf-8")
    well, _, trouble = yaml.safe_load(text)["tests"]
    assert {test["alertname"] for test in well["alert_rule_test"]} == alert_names()
    (firing,) = trouble["promql_expr_test"]
    assert len(firing["exp_samples"]) == len(alert_names())
    checked = subprocess.run(
        [tool("promtool"), "test", "rules", "alerts_test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_prometheus_scrapes_the_operator_and_answers_every_query_of_the_dashboard(tmp_path: Path) -> None:
    tool("prometheus")
    metrics = busy_metrics()
    with serving(metrics) as target, prometheus_of(target, tmp_path) as prometheus:

        def query(expression: str) -> list[Any]:
            response = requests.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=10)
            body = response.json()
            assert response.status_code == 200, f"{expression}: {body}"
            result: list[Any] = body["data"]["result"]
            return result

        # Two scrapes at least, else no counter has a rate. One that came late is a 0, and until the next one no series
        # has a value.
        scrapes = "sum_over_time(up[1m])"
        until(lambda: query(scrapes), lambda found: found and float(found[0]["value"][1]) >= 3, "scraped")
        until(
            lambda: {expression for expression in dashboard_queries() if not query(expression)},
            lambda silent: silent == EMPTY_WHEN_WELL,
            "all queries have an answer but those",
        )
        routes = "engine_ops_http_requests_total"
        odd = until(lambda: query(routes), bool, "the routes are there")
        assert [sample["metric"]["route"] for sample in odd] == [ODD_ROUTE]

        def listed() -> dict[str, dict[str, Any]]:
            groups = requests.get(f"{prometheus}/api/v1/rules", timeout=10).json()["data"]["groups"]
            return {rule["name"]: rule for group in groups for rule in group["rules"]}

        rules = until(
            listed,
            lambda rules: all(rule["health"] != "unknown" for rule in rules.values()),
            "the rules are evaluated",
        )
        assert rules.keys() == alert_names()
        assert {name: rule.get("lastError") for name, rule in rules.items() if rule["health"] != "ok"} == {}
        assert {name for name, rule in rules.items() if rule["state"] == "firing"} == set()
