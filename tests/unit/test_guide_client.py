"""The HTTP examples of the guide of the system before this one, word for word, against `engine-ops serve`.

The documents are no part of the repository: they lie beside it. Without them these tests are skipped.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.connection
from serve_support import Served, serving, until

from engine_ops import OptimizationRequest
from engine_ops.history.local import LocalHistory
from engine_ops.ml import WorkloadDataPoint
from engine_ops.ml.testing import sample_history

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
GUIDE_ADDRESS = "http://localhost:3000"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CURL = re.compile(r"^ *(?:\$ )?(curl .*?localhost:3000\S*)", re.MULTILINE)

PAGES = [page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.txt"))]
BLOCKS = [block for page in PAGES for block in PYTHON.findall(page) if "EngineOpsClient" in block]
CALLS = sorted({call for page in PAGES for call in CURL.findall(page)})

pytestmark = pytest.mark.skipif(not PAGES, reason="the guide is not there: ../shared/reference")

PLUGIN = """
from engine_ops.ml.examples import SimplePredictorPlugin

class MyPlugin(SimplePredictorPlugin):
    pass
"""


@pytest.fixture(scope="module")
def points() -> list[WorkloadDataPoint]:
    return sample_history(40, ("ml-driven", "resource"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, points: list[WorkloadDataPoint]) -> Iterator[Served]:
    """Serve a history, and a plugin of the name that the guide has."""
    place = tmp_path_factory.mktemp("guide")
    history = LocalHistory(place / "data" / "history", capacity=1000)
    for point in points:
        history.record(point)
    history.flush()
    metadata = place / "packages" / "guide-1.0.dist-info"
    metadata.mkdir(parents=True)
    (place / "packages" / "guide_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: guide\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[engine_ops.plugins]\nmy-plugin = guide_plugin:MyPlugin\n")
    with serving("--data-dir", str(place / "data"), path=place / "packages") as serving_it:
        yield serving_it


@pytest.fixture
def _at_the_guides_address(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead what is addressed to port 3000 to the port that was free."""
    port = int(served.url.rpartition(":")[2])
    connect = urllib3.util.connection.create_connection

    def lead(address: tuple[str, int], *args: Any, **options: Any) -> Any:
        return connect(("127.0.0.1", port) if address == ("localhost", 3000) else address, *args, **options)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", lead)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def run(word: str) -> tuple[dict[str, Any], str]:
    """Run the block with a word; return its names and what it printed."""
    (block,) = [block for block in BLOCKS if word in block]
    names: dict[str, Any] = {"__name__": "guide"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, word, "exec"), names)  # noqa: S102 -- the guide's code is what we test
    return names, printed.getvalue()


def test_the_examples_are_found() -> None:
    assert len(BLOCKS) == 2
    assert len(CALLS) == 6, CALLS


@pytest.mark.usefixtures("_at_the_guides_address")
def test_a_prediction_is_asked_for(served: Served) -> None:
    with served.client() as client:
        warm_up = OptimizationRequest(id="warm", type="ml-driven", data={"workload_size": 1})
        until(lambda: client.optimize(warm_up), lambda result: result.success)
    names, printed = run("client.optimize(request)")
    result = names["result"]
    assert result.success
    assert result.request_id == "req-1"
    assert result.result["expected_duration"] > 0
    assert printed == f"{result.result}\n"
    names["client"].close()


@pytest.mark.usefixtures("_at_the_guides_address")
def test_the_history_is_fetched(points: list[WorkloadDataPoint]) -> None:
    names, _ = run("client.session.get")
    fetched = [point.to_dict() for point in names["data_points"]]
    assert names["workload_data"]["count"] == len(fetched)
    # Others may have been asked meanwhile.
    assert [point for point in points if point.to_dict() not in fetched] == []
    names["client"].close()


@pytest.mark.parametrize("call", CALLS)
def test_the_calls_of_the_shell(served: Served, call: str) -> None:
    words = call.replace(GUIDE_ADDRESS, served.url).split()
    options = ["--silent", "--show-error", "--fail", "--noproxy", "*"]
    done = subprocess.run([words[0], *options, *words[1:]], capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith(b"{")
