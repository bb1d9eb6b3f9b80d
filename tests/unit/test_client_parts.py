"""Parts of the client: when it asks again, server-sent events, whom the token is shown to."""

from __future__ import annotations

import datetime
import email.utils
import itertools
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.client.credentials import TokenFile, base_of, credentials_for
from engine_ops.client.kubeconfig import current_context
from engine_ops.client.retrying import FIRST_SECONDS, LONGEST_SECONDS, Attempts, retry_after
from engine_ops.client.sse import EventParser, ServerEvent
from engine_ops.devcluster.certificates import CertificateAuthority

SECONDS = st.floats(0, 1000)


@given(
    timeout=st.floats(0.1, 100),
    refusals=st.lists(st.tuples(st.sampled_from([429, 503]), st.none() | SECONDS), max_size=30),
    share=st.floats(0, 1),
)
def test_waits_stay_within_the_time_limit(
    timeout: float, refusals: list[tuple[int, float | None]], share: float
) -> None:
    time = 0.0
    drawn: list[float] = []

    def draw(low: float, high: float) -> float:
        drawn.append(high)
        assert low == 0
        return share * high

    attempts = Attempts(timeout, now=lambda: time, draw=draw)
    for status, again in refusals:
        wait = attempts.wait_seconds(status, again)
        if wait is None:
            assert time + (again or 0) + share * drawn[-1] >= timeout
            break
        assert wait >= (again or 0)
        assert time + wait < timeout
        assert attempts.seconds_left == pytest.approx(timeout - time)
        time += wait
    assert drawn == [min(FIRST_SECONDS * 2**n, LONGEST_SECONDS) for n in range(len(drawn))]


@given(status=st.integers(100, 599).filter(lambda status: status not in {429, 503}))
def test_only_what_was_not_begun_is_tried_again(status: int) -> None:
    assert Attempts(10).wait_seconds(status, 0.0) is None


@given(number=st.integers(0, 10**9 - 1))
def test_retry_after_is_a_number_of_seconds(number: int) -> None:
    assert retry_after({"Retry-After": str(number)}) == number


@given(now=st.integers(0, 2**32), later=st.integers(-1000, 10**6))
def test_retry_after_is_a_date(now: int, later: int) -> None:
    date = datetime.datetime.fromtimestamp(now + later + 1000, datetime.UTC)
    header = email.utils.format_datetime(date, usegmt=True)
    assert retry_after({"Retry-After": header}, now=lambda: now) == max(later + 1000, 0)


@given(header=st.text(max_size=30))
def test_retry_after_may_be_anything(header: str) -> None:
    waits = retry_after({"Retry-After": header})
    assert waits is None or waits >= 0


WORD = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)), max_size=8)
EVENT = st.tuples(WORD.map(lambda word: "n" + word), st.lists(WORD, min_size=1, max_size=3), st.none() | WORD)


@given(
    events=st.lists(EVENT, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    bom=st.booleans(),
)
def test_events_come_in_any_pieces(
    events: list[tuple[str, list[str], str | None]], end: str, cuts: list[int], bom: bool
) -> None:
    lines, expected, last = [": begins"], [], ""
    for name, data, number in events:
        lines += [f"event: {name}", *(f"data: {line}" for line in data)]
        if number is not None:
            lines.append(f"id: {number}")
            last = number
        lines += ["retry: 1", ""]
        expected.append(ServerEvent(name, "\n".join(data), last))
    sent = ("\ufeff" if bom else "").encode() + (end.join(lines) + end + "data: cut off").encode()
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    parser = EventParser()
    got = [event for low, high in itertools.pairwise(edges) for event in parser.feed(sent[low:high])]
    assert got == expected


def test_an_event_without_a_name_or_a_space() -> None:
    parser = EventParser("7")
    assert parser.feed(b"data:x\ndata\n\nevent: empty\n\ndata: y\n\n") == [
        ServerEvent("message", "x\n", "7"),
        ServerEvent("message", "y", "7"),
    ]


@pytest.fixture
def ca(tmp_path: Path) -> str:
    return CertificateAuthority(tmp_path, "ca").key_pair.certificate.read_text()


@pytest.fixture
def pod(tmp_path: Path, ca: str) -> Path:
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("of-the-pod\n")
    (account / "ca.crt").write_text(ca)
    return account


@pytest.fixture
def kubeconfig(tmp_path: Path, ca: str) -> Path:
    (tmp_path / "cluster.pem").write_text(ca)
    path = tmp_path / "config"
    content = {
        "current-context": "here",
        "contexts": [
            {"name": "there", "context": {"cluster": "other", "user": "other"}},
            {"name": "here", "context": {"cluster": "mine", "user": "me"}},
        ],
        "users": [{"name": "other", "user": {"token": "wrong"}}, {"name": "me", "user": {"token": "of-the-user"}}],
        "clusters": [{"name": "mine", "cluster": {"certificate-authority": "cluster.pem"}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def shown(base_url: str, url: str | None = None, token: Any = None, **options: Any) -> str | None:
    options = {"find_ca": True, "environ": {"KUBECONFIG": "/nowhere"}, "service_account": Path("/nowhere"), **options}
    return credentials_for(base_of(base_url), token, **options).authorization(url or base_url)


def test_a_token_of_ones_own_is_always_sent() -> None:
    assert shown("http://api:3000", token="mine") == "Bearer mine"
    assert shown("https://api", token=lambda: "turns") == "Bearer turns"


def test_a_token_that_was_found_is_for_https_only(pod: Path, kubeconfig: Path) -> None:
    both = {"service_account": pod, "environ": {"KUBECONFIG": str(kubeconfig)}}
    assert shown("https://api", **both) == "Bearer of-the-pod"
    assert shown("https://api", environ=both["environ"]) == "Bearer of-the-user"
    assert shown("http://api", **both) is None
    assert shown("http://localhost:3000", **both) is None


def test_no_token_where_none_is_wanted(pod: Path) -> None:
    assert shown("https://api", token="", service_account=pod) is None


@pytest.mark.parametrize("token", ["mine", None])
@pytest.mark.parametrize(
    "url",
    [
        "http://api/x",
        "https://api:8443/x",
        "https://api.example/x",
        "https://example/api",
        "https://api@example/",
        "https://api:99999/",
        "//api/x",
        "",
    ],
)
def test_a_token_goes_nowhere_else(pod: Path, url: str, token: str | None) -> None:
    assert shown("https://api", "https://api/v1", token, service_account=pod) is not None
    assert (
        credentials_for(base_of("https://api"), token, find_ca=True, service_account=pod, environ={}).authorization(url)
        is None
    )


@pytest.mark.parametrize("url", ["https://api/x", "https://API:443/", "https://api./x"])
def test_the_same_place_by_another_spelling(url: str) -> None:
    assert shown("https://api", url, "mine") == "Bearer mine"


def test_a_token_file_is_read_again_when_it_turns(tmp_path: Path) -> None:
    # As the kubelet does it: a link to a directory is swapped.
    for number in (1, 2):
        (tmp_path / f"data{number}").mkdir()
        (tmp_path / f"data{number}" / "token").write_text(f"token-{number}\n")
    (tmp_path / "data").symlink_to("data1")
    token = TokenFile(tmp_path / "data" / "token")
    assert token() == "token-1"
    (tmp_path / "new").symlink_to("data2")
    os.replace(tmp_path / "new", tmp_path / "data")  # noqa: PTH105
    assert token() == "token-2"
    (tmp_path / "data2" / "token").write_text("token-3 is longer")
    assert token() == "token-3 is longer"
    (tmp_path / "data2" / "token").unlink()
    assert token() == "token-3 is longer"


def test_a_token_file_is_read_by_several_threads(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a" * 100)
    token = TokenFile(path)
    got: set[str | None] = set()

    def read() -> None:
        for _ in range(200):
            got.add(token())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for letter in "bcd":
        beside = tmp_path / "beside"
        beside.write_text(letter * 100)
        beside.replace(path)
    for thread in threads:
        thread.join()
    assert got <= {letter * 100 for letter in "abcd"}
    assert token() == "d" * 100


def test_certificates_that_were_found(pod: Path, kubeconfig: Path, ca: str) -> None:
    def found(*, find_ca: bool = True, token: str | None = None, **options: Any) -> str | None:
        options = {"environ": {"KUBECONFIG": str(kubeconfig)}, "service_account": Path("/nowhere"), **options}
        return credentials_for(base_of("https://api"), token, find_ca=find_ca, **options).ca_pem

    assert found(service_account=pod) == found() == ca
    assert found(find_ca=False) is None
    assert found(token="mine", service_account=pod) is None
    (pod / "ca.crt").write_text("no certificate")
    assert found(service_account=pod) is None
    (pod / "ca.crt").unlink()
    assert found(service_account=pod) is None


def test_a_kubeconfig_of_several_files(kubeconfig: Path, tmp_path: Path) -> None:
    first = tmp_path / "sub" / "first"
    first.parent.mkdir()
    first.write_text(yaml.safe_dump({"users": [{"name": "me", "user": {"tokenFile": "token", "token": "old"}}]}))
    context = current_context({"KUBECONFIG": os.pathsep.join(["/nowhere", "", str(first), str(kubeconfig)])})
    assert context.token_file == first.parent / "token"
    assert context.ca_pem is not None


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["current-context", "contexts", "context", "users", "user", "clusters", "cluster", "name"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_a_kubeconfig_may_hold_anything(content: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("kube") / "config"
    path.write_text(yaml.safe_dump(content))
    context = current_context({"KUBECONFIG": str(path)})
    assert context.token is None
    path.write_bytes(b"\xff{")
    assert current_context({"KUBECONFIG": str(path)}).token is None


@pytest.mark.parametrize("data", ["!!", "/w==", "aGVsbG8="])
def test_a_kubeconfig_with_no_certificate(kubeconfig: Path, data: str) -> None:
    content = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"] = {"certificate-authority-data": data}
    kubeconfig.write_text(yaml.safe_dump(content))
    credentials = credentials_for(
        base_of("https://api"),
        None,
        find_ca=True,
        service_account=Path("/nowhere"),
        environ={"KUBECONFIG": str(kubeconfig)},
    )
    assert credentials.ca_pem is None
    assert credentials.authorization("https://api") == "Bearer of-the-user"
