"""The OpenAPI document against what the server takes and gives."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from plugin_services import point, run, serving
from test_plugin_service import MeanPlugin

from engine_ops.plugins import service_messages
from engine_ops.plugins.openapi import document
from engine_ops.plugins.service_messages import MAX_BODY_BYTES, ServiceStruct, of_wire_point, to_wire_point

DOCUMENT = document()
SCHEMAS = DOCUMENT["components"]["schemas"]
OPERATIONS = [(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods]


def faults(value: Any, schema: dict[str, Any], path: str = "$") -> list[str]:
    """Return where a JSON value is not as a schema says, as far as this document's schemas say anything."""
    if "$ref" in schema:
        return faults(value, SCHEMAS[schema["$ref"].rsplit("/", 1)[1]], path)
    if "anyOf" in schema:
        tried = [faults(value, option, path) for option in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: {value!r} is none of {schema['enum']}"]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    kind = schema.get("type")
    if kind is not None and (
        not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind in {"integer", "number"})
    ):
        return [f"{path}: {value!r} is no {kind}"]
    found = []
    if isinstance(value, dict):
        found += [f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            below = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(below, dict):
                found += faults(item, below, f"{path}.{name}")
            elif "properties" in schema:
                found.append(f"{path}.{name}: not in the document")
    if isinstance(value, list):
        for number, item in enumerate(value):
            found += faults(item, schema.get("items", {}), f"{path}[{number}]")
    for bound, is_out in (
        ("minimum", lambda: value < schema["minimum"]),
        ("maximum", lambda: value > schema["maximum"]),
    ):
        if bound in schema and is_out():
            found.append(f"{path}: {value!r} is out of bounds")
    return found


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serving(MeanPlugin, config={"scale": 1}) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as opened,
    ):
        yield opened


def body_of(path: str, method: str) -> dict[str, Any] | None:
    """Return the example of what an operation takes."""
    taken = DOCUMENT["paths"][path][method].get("requestBody")
    if taken is None:
        return None
    name = taken["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]
    example: dict[str, Any] = SCHEMAS[name]["examples"][0]
    return example


async def checked(response: aiohttp.ClientResponse, path: str, method: str) -> Any:
    """Return a response's body, once it is known to be as the document says."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    assert str(response.status) in responses, f"{response.status} is not in the document"
    content = responses[str(response.status)]["content"]
    assert response.content_type in content
    body = json.loads(await response.read())
    assert faults(body, content[response.content_type]["schema"]) == []
    return body


def test_the_check_finds_faults() -> None:
    schema = {"$ref": "#/components/schemas/Reply"}
    assert faults({"success": True}, schema) == []
    assert faults({}, schema) == ["$.success: missing"]
    assert faults({"success": 1}, schema) == ["$.success: 1 is no boolean"]
    assert faults({"success": True, "model_id": "m"}, schema) == ["$.model_id: not in the document"]
    assert faults({"success": True, "confidence": 2}, schema) != []


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_type_is_described_and_its_example_is_one(name: str) -> None:
    schema = SCHEMAS[name]
    kind: type[ServiceStruct] = getattr(service_messages, name)
    assert schema["description"]
    (example,) = schema["examples"]
    assert faults(example, schema) == []
    assert msgspec.to_builtins(msgspec.convert(example, kind)) == example
    assert set(schema["properties"]) == set(kind.__struct_encode_fields__)


def test_every_type_that_is_sent_is_in_the_document() -> None:
    kinds = {
        name
        for name, kind in vars(service_messages).items()
        if isinstance(kind, type) and issubclass(kind, ServiceStruct)
    }
    assert kinds - {"ServiceStruct"} == set(SCHEMAS)


def test_it_is_served_as_it_is() -> None:
    async def main() -> None:
        async with session() as client, client.get("/openapi.json") as response:
            assert response.content_type == "application/json"
            assert json.loads(await response.read()) == DOCUMENT

    run(main())


def test_the_server_has_these_paths_and_no_others() -> None:
    from engine_ops.plugins.serving import application

    routes = {
        (route.resource.canonical, route.method.lower())
        for route in application(MeanPlugin).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert routes == set(OPERATIONS)


def test_examples_are_taken_and_answers_are_as_documented() -> None:
    async def main() -> None:
        async with session() as client:
            for path, method in OPERATIONS:
                body = body_of(path, method)
                async with client.request(method, path, json=body) as response:
                    await checked(response, path, method)
                    # One point is too few for this model.
                    assert response.status == (422 if path == "/train" else 200), path
            async with client.post("/train", json={"points": [body_of("/train", "post")["points"][0]] * 3}) as response:  # type: ignore[index]
                assert (await checked(response, "/train", "post"))["samples"] == 3
            async with client.post("/optimize", json=body_of("/optimize", "post")) as response:
                assert (await checked(response, "/optimize", "post"))["result"] == {"expected_duration": 92000.0}

    run(main())


POSTS = [path for path, method in OPERATIONS if method == "post"]


@pytest.mark.parametrize("path", POSTS)
def test_bodies_that_are_none(path: str) -> None:
    async def main() -> None:
        async with session() as client:
            for body, kind, status in (
                (b"{", "application/json", 400),
                (b"\xff", "application/json", 400),
                (b"", "application/json", 400),
                (b"a=b", "application/x-www-form-urlencoded", 415),
                (b"[]", "application/json", 422),
            ):
                async with client.post(path, data=body, headers={"Content-Type": kind}) as response:
                    assert response.status == status, body
                    assert (await checked(response, path, "post"))["status"] == status
            async with client.get(path) as response:
                assert (response.status, response.content_type) == (405, "application/problem+json")
                assert response.headers["Allow"] == "POST"

    run(main())


def test_faults_of_a_body_name_the_field() -> None:
    async def main() -> None:
        async with session() as client:
            for path, body, field in (
                ("/optimize", {"id": "x", "type": "other", "data": {}}, "type"),
                ("/optimize", {"id": "x", "type": "resource", "data": {}, "workload": {"name": 3}}, "workload.name"),
                ("/history", {"size": -1}, "size"),
                ("/history", {"size": 1, "points": [{"timestamp": "now"}]}, "points[0].timestamp"),
                ("/validate", {"config": []}, "config"),
                ("/validate", {"state": "?"}, "state"),
                ("/validate", {"config": {"scale": 0}}, "config.scale"),
                ("/train", {"points": 3}, "points"),
            ):
                async with client.post(path, json=body) as response:
                    assert response.status == 422
                    said = await checked(response, path, "post")
                    (fault,) = said["errors"]
                    assert fault["path"] == field
                    assert fault["message"]
            async with client.post("/history", json={"size": 1}) as response:
                assert response.status == 200, "nothing to add to nothing"

    run(main())


def test_bodies_that_are_too_long() -> None:
    async def main() -> None:
        async with session() as client:
            for path in ("/optimize", "/history", "/validate"):
                async with client.post(path, data=_endless(), headers={"Content-Type": "application/json"}) as response:
                    assert response.status == 413
                    await checked(response, path, "post")
            reader, writer = await asyncio.open_connection("127.0.0.1", client._base_url.port)  # type: ignore[union-attr]
            writer.write(
                b"POST /optimize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                + f"Content-Length: {MAX_BODY_BYTES + 1}\r\n\r\n".encode()
            )
            assert (await reader.readline()).startswith(b"HTTP/1.1 413"), "it is refused unread"
            writer.close()
            points = [json.loads(msgspec.json.encode(to_wire_point(point(1, text="x" * 1000))))] * (
                MAX_BODY_BYTES // 1000
            )
            body = io.BytesIO(msgspec.json.encode({"points": points}))
            async with client.post("/train", data=body, headers={"Content-Type": "application/json"}) as response:
                assert response.status == 200, "a training may be longer"

    run(main())


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(MAX_BODY_BYTES // 2**16 + 1):
        yield b" " * 2**16


def test_paths_that_are_none() -> None:
    async def main() -> None:
        async with session() as client, client.get("/nothing") as response:
            assert (response.status, response.content_type) == (404, "application/problem+json")
            assert faults(json.loads(await response.read()), SCHEMAS["Problem"]) == []

    run(main())


def test_points_come_back_as_they_were() -> None:
    there = point(3)
    there.duration = float("nan")
    there.resource_usage["memory"] = float("nan")
    sent = msgspec.json.encode(to_wire_point(there))
    assert b'"duration"' not in sent
    back = of_wire_point(msgspec.json.decode(sent, type=service_messages.DataPoint))
    assert repr(back) == repr(there)
