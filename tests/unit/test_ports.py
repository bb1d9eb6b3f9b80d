"""The operator's ports: which addresses are taken, what the probes say at once, and the end by a defect."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from server_stand_in import StandInEngine

from engine_ops.controllers.api_config import ApiConfig
from engine_ops.controllers.ports import Ports
from engine_ops.kube.errors import ConnectError

DEADLINE_SECONDS = 30.0
ANY = "http://127.0.0.1:0"


def ask(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_SECONDS) as response:  # noqa: S310 - our own port
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await test()

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("api", "message"),
    [
        (ApiConfig(address="http://0.0.0.0:3000"), "tokens would come over the network"),
        (ApiConfig(address="https://0.0.0.0:3443"), "set --api-tls-cert and --api-tls-key"),
        (ApiConfig(address="https://0.0.0.0:3443", tls_cert="tls.crt"), "set --api-tls-cert and --api-tls-key"),
        (ApiConfig(address=ANY, tls_cert="tls.crt", tls_key="tls.key"), "it begins with https://"),
        (ApiConfig(address="https://127.0.0.1:0", tls_cert="no.crt", tls_key="no.key"), "--api-tls-cert"),
        (ApiConfig(address="ftp://127.0.0.1:0"), "--api"),
    ],
)
def test_what_would_not_be_safe_or_cannot_be_is_refused_with_the_option(api: ApiConfig, message: str) -> None:
    with pytest.raises(ConnectError, match=message):
        Ports(None, api)


@pytest.mark.parametrize("probes", ["127.0.0.1:8080", "http://127.0.0.1:99999", "http://127.0.0.1:8080/health"])
def test_an_address_of_the_probes_that_is_none_names_the_option(probes: str) -> None:
    with pytest.raises(ConnectError, match="--probes"):
        Ports(probes, None)


def test_a_port_that_is_taken_names_the_option() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports = Ports(f"http://127.0.0.1:{taken.getsockname()[1]}/healthz", None)
            with pytest.raises(ConnectError, match=r"--probes http://127\.0\.0\.1:\d+: Address already in use"):
                await ports.__aenter__()

    run(test)


def test_the_operator_is_alive_from_the_first_moment_and_ready_when_it_says_so() -> None:
    async def test() -> None:
        async with Ports(f"{ANY}/healthz", None) as ports:
            at = ports.probes_address
            assert await asyncio.to_thread(ask, f"{at}/healthz") == (200, {})
            status, said = await asyncio.to_thread(ask, f"{at}/readyz")
            assert (status, said["reason"]) == (503, "it is starting")
            ports.tell({"answer": lambda: 42})
            ports.ready()
            assert await asyncio.to_thread(ask, f"{at}/healthz") == (200, {"answer": 42})
            assert (await asyncio.to_thread(ask, f"{at}/readyz"))[0] == 200

    run(test)


def test_a_part_that_fails_is_no_health() -> None:
    def fails() -> object:
        raise LookupError("it is not there")

    async def test() -> None:
        async with Ports(ANY, None) as ports:
            ports.tell({"answer": fails})
            status, said = await asyncio.to_thread(ask, f"{ports.probes_address}/healthz")
            assert status == 503
            assert "LookupError" in said["reason"]

    run(test)


def test_without_addresses_there_are_no_ports() -> None:
    async def test() -> None:
        async with Ports(None, None) as ports:
            ports.tell({})
            ports.ready()
            await ports.open_api(StandInEngine(), None)
            assert (ports.probes_address, ports.api_address) == (None, None)

    run(test)


def test_the_api_without_credentials_for_the_api_server_is_not_served(tmp_path: Path) -> None:
    async def test() -> None:
        async with Ports(None, ApiConfig(address=ANY)) as ports:
            with pytest.raises(ConnectError, match="did not start"):
                await ports.open_api(StandInEngine(), str(tmp_path / "no-kubeconfig"))

    run(test)


def test_a_defect_of_a_thread_ends_the_operator() -> None:
    async def test() -> None:
        async with Ports(ANY, None) as ports:
            watching = asyncio.create_task(ports.watch())
            await asyncio.sleep(0)
            assert ports._probes is not None
            assert ports._probes._loop is not None
            tasks = asyncio.run_coroutine_threadsafe(_all_tasks(), ports._probes._loop).result(DEADLINE_SECONDS)
            main = next(task for task in tasks if "_serve" in repr(task.get_coro()))
            ports._probes._loop.call_soon_threadsafe(main.cancel)
            with pytest.raises(ConnectError, match="what answers HTTP ended"):
                await watching

    run(test)


async def _all_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks()
