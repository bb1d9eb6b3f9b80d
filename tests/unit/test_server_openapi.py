"""The REST API against its OpenAPI document: that it is described, and that thousands of cases find no gap."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest
import requests
import schemathesis
from cli_support import engine_ops
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import CHECKS, load_all_checks
from server_history import HistoryEngine, two_namespaces
from server_stand_in import HttpClient, StandInAccess, StandIns

from engine_ops.server.app import create_app
from engine_ops.server.openapi_text import render
from engine_ops.server.problems import TITLES
from engine_ops.server.services import ApiLimits

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"
CASES = int(os.environ.get("ENGINE_OPS_API_CASES", "25"))
"""For each operation. Thousands take minutes: ENGINE_OPS_API_CASES=1000."""

TOKEN = "token-of-ada"
DOCUMENT: dict[str, Any] = json.loads(render())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


def _app() -> Any:
    these = StandIns(HistoryEngine(two_namespaces()), StandInAccess(), ApiLimits(requests_per_second=0))
    # A ServiceAccount, so that ?namespace= need not be there.
    these.access.add(TOKEN, "system:serviceaccount:shop:ada")
    return create_app(these.services(), version="1.2.3")


load_all_checks()
POSITIVE = CHECKS.get_one("positive_data_acceptance")
NEGATIVE = CHECKS.get_one("negative_data_rejection")
schema = schemathesis.openapi.from_dict(DOCUMENT)
schema.app = _app()


@schema.parametrize()
@settings(
    max_examples=CASES,
    derandomize="ENGINE_OPS_API_CASES" not in os.environ,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(case: Any) -> None:
    # What breaks a rule is seen by its values being valid: others may be of any kind.
    excluded = {POSITIVE} if case.meta.generation.mode.is_positive and _crosses(case) else set()
    if _is_valid_on_the_wire(case):
        excluded.add(NEGATIVE)
    checks = [check for check in CHECKS.get_all() if check not in excluded]
    case.call_and_validate(headers={"Authorization": f"Bearer {TOKEN}"}, checks=checks)


def _crosses(case: Any) -> bool:
    """Whether a case may break a rule between two of its values, which no schema can say."""
    body = case.body if isinstance(case.body, dict) else {}
    later = "respond-async" in (case.headers or {}).get("Prefer", "")
    return (
        {"from", "to"} <= set(case.query or ())
        or (body.get("searchSeconds") or 0) > (body.get("timeoutSeconds") or 30)
        or (later and ("/" in body.get("id", "") or body.get("id") in {".", ".."}))
    )


def _is_valid_on_the_wire(case: Any) -> bool:
    """Whether what breaks the schema breaks it no more once it is sent.

    In a URL an empty list is absent, and the text "-1" a number; a header is text whatever it was.
    """
    request = requests.Request(**case.as_transport_kwargs(base_url="http://x")).prepare()
    operation = case.operation.definition.raw
    known = {each["name"]: each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"}
    sent = parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
    if len(dict(sent)) != len(sent) or not all(name in known and _reads(value, known[name]) for name, value in sent):
        return False
    if not all(len(str(value)) <= 253 for value in (case.path_parameters or {}).values()):
        return False
    if "requestBody" not in operation:
        return True
    try:
        _fits(json.loads(request.body or b""), operation["requestBody"]["content"]["application/json"]["schema"])
    except ValueError:  # no JSON, or against the schema
        return False
    return True


def _reads(text: str, schema: dict[str, Any]) -> bool:
    """Whether a part of a URL is as a schema says, for a text or for the whole number that it spells."""
    values: list[str | int] = [text, int(text)] if re.fullmatch(r"-?[0-9]{1,16}", text) else [text]
    return any(jsonschema_rs.is_valid(schema, value, validate_formats=True) for value in values)


def test_the_file_is_as_generated() -> None:
    assert FILE.read_text(encoding="utf-8") == render(), "run `engine-ops openapi --output docs/openapi.json`"


def test_the_command_writes_and_checks(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "openapi.json"

    def run(*arguments: str) -> tuple[int, str]:
        result = engine_ops("openapi", *arguments)
        return result.exit_code, result.output

    assert run() == (0, render())
    assert run("--check", str(file))[0] == 1
    assert run("--output", str(file)) == (0, "")
    assert run("--check", str(file)) == (0, "")
    file.write_text(render().replace("listPlugins", "pluginsList"), encoding="utf-8")
    code, said = run("--check", str(file))
    assert code == 1
    assert '"operationId": "pluginsList"' in said
    assert run("--check", str(file), "--output", str(file))[0] == 2


def test_it_is_served_as_it_is() -> None:
    async def main() -> None:
        served = await HttpClient(_app(), TOKEN).get("/openapi.json")
        assert served.json() == DOCUMENT
        assert served.headers["content-type"] == "application/json"

    asyncio.run(main())


def test_the_application_has_these_operations_and_no_others() -> None:
    served = set()
    pending = list(_app().routes)
    while pending:
        route = pending.pop()
        below = getattr(route, "original_router", None)
        if below is not None:
            pending += below.routes
        else:
            served |= {(route.path, method.lower()) for method in route.methods}
    assert served - {("/openapi.json", "get")} == set(OPERATIONS)


def test_only_health_needs_no_token() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    free = [path for path, method in OPERATIONS if DOCUMENT["paths"][path][method].get("security") == []]
    assert free == ["/api/v1/health"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_is_described_with_examples(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["summary"]
    assert operation["description"]
    assert operation["operationId"]
    for parameter in operation.get("parameters", ()):
        assert parameter["description"]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert content["example"]
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            for kind, content in response.get("content", {}).items():
                assert "example" in content or kind == "application/vnd.apache.parquet"
        else:
            name = response["$ref"].rsplit("/", 1)[1]
            content = DOCUMENT["components"]["responses"][name]["content"]["application/problem+json"]
            assert all(each["value"]["status"] == int(status) for each in content["examples"].values())


def test_examples_fit_their_schemas() -> None:
    checked = 0
    for path, method in OPERATIONS:
        operation = DOCUMENT["paths"][path][method]
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for kind, content in body.get("content", {}).items():
                if kind == "application/json":
                    _fits(content["example"], content["schema"])
                    checked += 1
    for response in DOCUMENT["components"]["responses"].values():
        for each in response["content"]["application/problem+json"]["examples"].values():
            _fits(each["value"], {"$ref": "#/components/schemas/Problem"})
            checked += 1
    assert checked > 30
    with pytest.raises(jsonschema_rs.ValidationError):
        _fits({"name": 3}, {"$ref": "#/components/schemas/Plugin"})


def _fits(value: Any, schema: dict[str, Any]) -> None:
    jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, value)


def test_every_schema_is_described_and_used() -> None:
    text = json.dumps(DOCUMENT)
    for name, schema in SCHEMAS.items():
        assert schema["description"], name
        assert text.count(f'"#/components/schemas/{name}"') >= 1, name
        for field, below in schema["properties"].items():
            assert "$ref" in below or below.get("description"), f"{name}.{field}"


def test_the_page_names_every_call_and_every_kind_of_error() -> None:
    page = (FILE.parent / "rest-api.md").read_text(encoding="utf-8")
    for path, method in OPERATIONS:
        last = path.rsplit("/", 1)[1]
        assert path in page or (path.startswith("/api/v1/plugins/") and f"/{last}`" in page), (method, path)
    for kind, (status, _) in TITLES.items():
        assert f"| {status} | `{kind}` |" in page
