"""The ports of manifests/base: what the probes ask there is answered, and nobody else is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from listening_world import serving

from engine_ops.controllers.ports import DRAIN_SECONDS
from engine_ops.server.address import Address, parse_address
from engine_ops.server.probes import HEALTH_SECONDS, probe_app

BASE = Path(__file__).parents[2] / "manifests" / "base"
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


def pod() -> dict[str, Any]:
    (deployment,) = yaml.safe_load_all((BASE / "deployment.yaml").read_text(encoding="utf-8"))
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def operator() -> dict[str, Any]:
    container: dict[str, Any] = pod()["containers"][0]
    return container


def address_of(operator: dict[str, Any], option: str) -> Address:
    (value,) = (argument.partition("=")[2] for argument in operator["args"] if argument.startswith(f"{option}="))
    return parse_address(value, option)


def test_the_named_ports_are_those_that_are_listened_on(operator: dict[str, Any]) -> None:
    ports = {port["name"]: port["containerPort"] for port in operator["ports"]}
    assert ports == {"health": address_of(operator, "--probes").port, "api": address_of(operator, "--api").port}
    assert {operator[probe]["httpGet"]["port"] for probe in PROBES} == {"health"}
    # The kubelet comes from outside of the Pod; tokens that are not encrypted do not.
    assert not address_of(operator, "--probes").loopback
    assert address_of(operator, "--api").loopback


def test_only_readiness_waits_until_the_operator_serves(operator: dict[str, Any]) -> None:
    async def health() -> dict[str, Any]:
        return {}

    def answers(unready: str | None) -> dict[str, int]:
        with serving(app=probe_app(health, lambda: unready)) as served:
            lines = {probe: f"GET {operator[probe]['httpGet']['path']} HTTP/1.1" for probe in PROBES}
            return {probe: served.ask(f"{line}\r\nHost: x\r\n\r\n".encode()).status for probe, line in lines.items()}

    assert answers("it is starting") == {"startupProbe": 200, "livenessProbe": 200, "readinessProbe": 503}
    assert answers(None) == dict.fromkeys(PROBES, 200)


def test_an_operator_whose_loop_hangs_is_started_anew(operator: dict[str, Any]) -> None:
    """The probe waits long enough to be told why."""
    for probe in ("startupProbe", "livenessProbe"):
        assert operator[probe]["timeoutSeconds"] > HEALTH_SECONDS
    assert pod()["terminationGracePeriodSeconds"] > DRAIN_SECONDS


def test_nothing_comes_in_but_by_policies_of_those_who_need_it() -> None:
    (policy,) = yaml.safe_load_all((BASE / "network_policy.yaml").read_text(encoding="utf-8"))
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not policy["spec"].get("ingress")
    labels = policy["spec"]["podSelector"]["matchLabels"]
    (deployment,) = yaml.safe_load_all((BASE / "deployment.yaml").read_text(encoding="utf-8"))
    assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
