"""The page's table is the one that is tried."""

from __future__ import annotations

import json

from permission_table import BEGIN, CALLERS, END, NO_TOKEN, PAGE, TABLE, section

from engine_ops.server.openapi_text import render


def test_the_page_has_the_table_that_is_tried() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.count(BEGIN) == page.count(END) == 1
    found = page[page.index(BEGIN) : page.index(END) + len(END)]
    assert found == section(), "run python tests/unit/permission_table.py"


def test_the_table_has_every_call_that_the_api_has() -> None:
    paths = json.loads(render())["paths"]
    there = {(method.upper(), path) for path, methods in paths.items() for method in methods} | {
        ("GET", "/openapi.json")
    }
    tried = {
        (call.method, call.path.partition("?")[0].replace("{job}", "{id}").replace("/oracle", "/{name}"))
        for call in TABLE
    }
    assert tried == there


def test_who_is_not_known_may_do_what_anybody_may() -> None:
    for call in TABLE:
        told = {call.status(caller) for caller in CALLERS[CALLERS.index(NO_TOKEN) :]}
        assert told == ({200} if call.path == "/api/v1/health" else {401})
