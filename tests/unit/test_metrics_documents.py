"""docs/metrics.md, the alerts, the runbook and the dashboard, held to what the operator exposes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metrics_names import exposed

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
ROW = re.compile(r"^\| `(engine_ops_\w+)` \| (\w+) \| ([^|]*)\| ([^|]+) \|$", re.MULTILINE)
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}


def alerts() -> list[dict[str, Any]]:
    resource = yaml.safe_load((MONITORING / "prometheus_rule.yaml").read_text(encoding="utf-8"))
    return [rule for group in resource["spec"]["groups"] for rule in group["rules"]]


def queries() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


def names_in(expression: str) -> set[str]:
    """The metrics of a query, without what a histogram's series add to its name."""
    known = exposed()
    found = set()
    for name in re.findall(r"\b(?:engine_ops|process)_\w+", expression):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        found.add(family if family in known and known[family].kind == "histogram" else name)
    return found


def test_each_metric_is_documented_with_its_type_and_labels_and_no_other() -> None:
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in ROW.findall(PAGE)}
    assert len(documented) == len(ROW.findall(PAGE))
    assert documented == {name: (each.kind, each.labels) for name, each in exposed().items()}


def test_the_help_of_each_metric_is_what_the_documentation_says() -> None:
    said = {name: text for name, _, _, text in ROW.findall(PAGE)}
    assert said == {name: each.help for name, each in exposed().items()}


def test_the_process_metrics_that_are_named_are_there() -> None:
    assert set(re.findall(r"`(process_\w+)`", PAGE.replace("`process_*`", ""))) == PROCESS


@pytest.mark.parametrize("query", sorted({*queries(), *(rule["expr"] for rule in alerts())}))
def test_every_query_uses_metrics_that_there_are(query: str) -> None:
    names = names_in(query)
    assert names
    assert names <= exposed().keys() | PROCESS


def test_every_query_of_the_documentation_uses_metrics_that_there_are() -> None:
    section = PAGE.partition("## Questions and queries")[2]
    found = names_in(section)
    assert found
    assert found <= exposed().keys()


def test_every_metric_is_in_the_dashboard() -> None:
    assert exposed().keys() <= set().union(*map(names_in, queries()))


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_each_alert_leads_to_its_section_of_the_runbook(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    section = re.search(rf"^### {rule['alert']}$(.*?)(?=^#)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section is not None
    for part in ("What it means", "How to look", "What to do"):
        assert f"**{part}.**" in section[1]


def test_no_section_of_the_runbook_is_about_an_alert_that_is_gone() -> None:
    assert set(re.findall(r"^### (EngineOps\w+)$", RUNBOOK, re.MULTILINE)) == {rule["alert"] for rule in alerts()}
