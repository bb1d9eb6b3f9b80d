"""Bodies that nobody should send: each is refused with a sentence, and none of them is a defect of ours."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from server_stand_in import HttpClient, HttpReply, StandIns

from engine_ops.server.app import create_app
from engine_ops.server.optimize_models import OptimizeRequest
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import CANONICAL_BYTES, read_question

URL = "/api/v1/optimize"
ASK: dict[str, Any] = {"id": "a", "type": "resource", "data": {}}


@pytest.fixture
def _as_in_the_operator() -> Iterator[None]:
    """The operator lets Python recurse further than usual."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(15_000)
    yield
    sys.setrecursionlimit(before)


def post(
    body: bytes | list[bytes], url: str = URL, content_type: str = "application/json", **headers: str
) -> HttpReply:
    stand_ins = StandIns()
    stand_ins.access.add("a", "system:serviceaccount:shop:ada")

    async def main() -> HttpReply:
        app = create_app(stand_ins.services(), version="1")
        return await HttpClient(app, "a").post(url, body=body, content_type=content_type, **headers)

    return asyncio.run(main())


def said(reply: HttpReply) -> str:
    assert reply.headers["content-type"] == "application/problem+json"
    detail: str = reply.json()["detail"]
    assert detail.endswith(".")
    return detail


def with_data(data: bytes) -> bytes:
    return b'{"id":"a","type":"resource","data":%s}' % data


LONG = b'{"a":"' + b"x" * CANONICAL_BYTES + b'",'


@pytest.mark.usefixtures("_as_in_the_operator")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 10_000 + b"]" * 10_000, id="arrays"),
        pytest.param(b"[" * 10_000, id="open arrays"),
        pytest.param(with_data(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), id="objects in data"),
        pytest.param(with_data(LONG + b'"b":' + b"[" * 10_000 + b"]" * 10_000 + b"}"), id="long data"),
        pytest.param(b'{"id":' + b"[" * 200 + b"]" * 200 + b"}", id="in the id"),
        pytest.param(b'{"\\"]]":' + b'["]",' * 101 + b"1" + b"]" * 101 + b"}", id="with brackets in texts"),
        pytest.param(b"[" * 5_000_000, id="megabytes of it"),
    ],
)
def test_what_is_nested_too_deep(body: bytes) -> None:
    reply = post(body)
    assert reply.status == 400
    assert said(reply) == "The body is nested more than 100 levels deep."


def test_what_is_just_not_nested_too_deep() -> None:
    assert post(with_data(b'{"a":' * 99 + b"1" + b"}" * 99)).status == 200
    assert post(with_data(b'{"a":' * 100 + b"1" + b"}" * 100)).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b'{"id":"a"',
        b'{"id":"a","type":"resource","data":{}} {}',
        b"\xff\xfe{\x00}\x00",
        with_data(b'{"a":NaN}'),
        with_data(b'{"a":Infinity}'),
        with_data(b'{"a":-Infinity}'),
        with_data(b'{"a":1e999}'),
        with_data(b'{"a":"\\ud800"}'),
        with_data(b'{"a":"\\udc00x"}'),
        with_data(b'{"\\ud800":1}'),
        with_data(b'{"a":"\xed\xa0\x80"}'),
        with_data(b'{"a":"\xff"}'),
        with_data(LONG + b'"b":"\xff"}'),
        with_data(b'{"a":01}'),
        with_data(b"{'a':1}"),
        with_data(b'{"a":1,}'),
        b'{"id":"\\ud800","type":"resource","data":{}}',
        b'{"id":"\xff","type":"resource","data":{}}',
        b'{"id":"a","type":"resource","data":{},"constraints":{"a":1e999}}',
        b'{"id":"a","type":"nope","data":{"a":1e999}}',
        b'{"id":"a","type":"resource","data":{},"searchSeconds":1e999}',
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    reply = post(body)
    assert reply.status == 400
    assert said(reply)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 254}, "id"),
        ({"id": "x" * 10**6}, "id"),
        ({"id": "a\n"}, "id"),
        ({"id": "a\r\nSet-Cookie: b=c"}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": "\x7f"}, "id"),
        ({"id": 1}, "id"),
        ({"id": None}, "id"),
        ({"type": "Resource"}, "type"),
        ({"type": None}, "type"),
        ({"data": []}, "data"),
        ({"data": None}, "data"),
        ({"data": "{}"}, "data"),
        ({"data": 1}, "data"),
        ({"constraints": []}, "constraints"),
        ({"plugin": ""}, "plugin"),
        ({"plugin": "x" * 254}, "plugin"),
        ({"searchSeconds": -1}, "searchSeconds"),
        ({"searchSeconds": 3601}, "searchSeconds"),
        ({"searchSeconds": "1"}, "searchSeconds"),
        ({"searchSeconds": True}, "searchSeconds"),
        ({"searchSeconds": 31}, "searchSeconds"),
        ({"searchSeconds": 10**400}, "searchSeconds"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"search_seconds": 1}, "search_seconds"),
        ({"what": 1}, "what"),
        ({"x" * 10**5: 1}, "x" * 300),
        ({"__proto__": {}}, "__proto__"),
        ({"workloadRef": {}}, "workloadRef"),
    ],
)
def test_what_is_no_question(change: dict[str, Any], field: str) -> None:
    reply = post(json.dumps(ASK | change).encode())
    assert reply.status == 422, reply.body
    assert said(reply)
    assert len(reply.body) < 10_000
    assert field in [error["field"] for error in reply.json()["errors"]]


def test_every_field_at_fault_is_named() -> None:
    reply = post(b'{"type":"x","data":3,"more":1}')
    assert {error["field"] for error in reply.json()["errors"]} == {"id", "type", "data", "more"}
    many = post(json.dumps(ASK | {f"f{number}": 1 for number in range(10_000)}).encode())
    assert len(many.json()["errors"]) == 50


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"a"', b"[[]]"])
def test_what_is_no_object(body: bytes) -> None:
    reply = post(body)
    assert reply.status == 422
    assert said(reply) == "body: must be an object with id, type and data."


def test_of_a_key_given_twice_the_last_counts() -> None:
    assert post(b'{"id":"a","id":"b","type":"resource","data":{}}').json()["requestId"] == "b"


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json"]
)
def test_what_a_page_of_a_browser_could_send_unasked(content_type: str) -> None:
    reply = post(json.dumps(ASK).encode(), content_type=content_type)
    assert reply.status == 415
    assert said(reply)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
def test_what_is_said_to_be_json(content_type: str) -> None:
    assert post(json.dumps(ASK).encode(), content_type=content_type).status == 200


def test_a_body_in_pieces_and_one_without_an_end() -> None:
    body = json.dumps(ASK).encode()
    assert post([body[:5], b"", body[5:20], body[20:]]).status == 200
    assert post([b'{"a":"', *[b"x" * 2**20] * 11]).status == 413


def test_unknown_parameters() -> None:
    reply = post(json.dumps(ASK).encode(), url=URL + "?namespace=shop&nonsense=1")
    assert reply.status == 422
    assert reply.json()["errors"][0]["field"] == "nonsense"


simple = st.none() | st.booleans() | st.integers(-5, 4000) | st.floats(allow_nan=False, allow_infinity=False)
anything = (
    simple
    | st.text(max_size=4)
    | st.lists(simple, max_size=2)
    | st.dictionaries(st.text(max_size=2), simple, max_size=2)
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=260) | anything,
        "type": st.sampled_from(["resource", "scheduling", "performance", "ml-driven", "genetic", "other"]) | anything,
        "data": st.just({}) | anything,
        "constraints": st.just({}) | anything,
        "plugin": st.text(max_size=260) | anything,
        "searchSeconds": anything,
        "timeoutSeconds": anything,
        "other": anything,
    },
)
good = st.just(ASK)


@given(base=good, change=envelopes)
def test_what_is_read_is_what_the_document_says(base: dict[str, Any], change: dict[str, Any]) -> None:
    value = base | change
    try:
        OptimizeRequest.model_validate(value, by_alias=True, by_name=False)
        documented = True
    except ValidationError:
        documented = False
    problem: ProblemError | None = None
    try:
        read_question(msgspec.json.encode(value), namespace="shop", username="ada")
    except ProblemError as error:
        problem = error
    if problem is None:
        assert documented
        return
    assert problem.status == 422
    assert problem.errors
    # What is between two fields no schema says.
    assert not documented or problem.detail.startswith("searchSeconds: must not be above timeoutSeconds")


@given(body=st.binary(max_size=200) | envelopes.map(lambda value: json.dumps(value).encode()[:-1]))
def test_nothing_else_than_a_problem_comes_of_any_bytes(body: bytes) -> None:
    with pytest.raises(ProblemError) as problem:
        read_question(body, namespace="shop", username="ada")
    assert problem.value.status in {400, 422}
    assert problem.value.response().body
