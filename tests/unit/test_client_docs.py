"""The pages on the client and on `engine-ops serve`: what needs a server is run against one."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_support import Served, serving

PAGE = Path(__file__).parents[2] / "docs" / "user-guide" / "client.md"
ADDRESS = "http://localhost:3000"
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--memory") as it:
        yield it


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_page_prints_what_its_comments_say(served: Served, number: int) -> None:
    block = BLOCKS[number]
    assert ADDRESS in block
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(block.replace(ADDRESS, served.url), str(PAGE), "exec"), {"__name__": "page"})  # noqa: S102 -- ours
    expected = re.findall(r"^ *print\(.*\)  # (.+)$", block, re.MULTILINE)
    assert expected
    assert output.getvalue().splitlines() == expected


def test_the_page_names_each_exception_with_its_statuses() -> None:
    from engine_ops.client import errors

    rows = re.findall(r"^\| `(\w+Error)` \| ([0-9, ]+|none|any) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {int(status): name for name, statuses in rows for status in re.findall(r"[0-9]+", statuses)}
    made = {status: type(errors.error_of(status, b"", {}, None)).__name__ for status in range(400, 600)}
    assert told == {status: name for status, name in made.items() if name != "EngineOpsError"}
    assert {name for name, _ in rows} == {
        name for name in dir(importlib.import_module("engine_ops.client")) if "Error" in name
    }


@pytest.mark.parametrize("module", ["client.sync", "client.aio", "server.site_check"])
def test_examples_of_docstrings(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"engine_ops.{module}"))
    assert results.failed == 0
    assert results.attempted > 0
