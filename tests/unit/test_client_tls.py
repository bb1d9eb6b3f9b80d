"""What the clients believe of certificates, and that tokens and redirects do not meet."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_stand_in import Said, StandIn, stand_in

from engine_ops import AsyncEngineOpsClient, EngineOpsClient
from engine_ops.client import UnreachableError, credentials
from engine_ops.devcluster.certificates import CertificateAuthority


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path, "ca")


@pytest.fixture
def api(authority: CertificateAuthority) -> Iterator[StandIn]:
    pair = authority.server("api", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with stand_in(context) as serving:
        yield serving


@pytest.fixture
def pod(tmp_path: Path, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a Pod."""
    account = tmp_path / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("of-the-pod")
    (account / "ca.crt").write_bytes(authority.key_pair.certificate.read_bytes())
    found = credentials.credentials_for
    monkeypatch.setattr(
        "engine_ops.client.settings.credentials_for",
        lambda *args, **options: found(*args, **{**options, "service_account": account}),
    )
    return account


def health_blocking(url: str, **options: Any) -> dict[str, Any]:
    with EngineOpsClient(url, timeout=60, **options) as client:
        return client.health()


def health_async(url: str, **options: Any) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with AsyncEngineOpsClient(url, timeout=60, **options) as client:
            return await client.health()

    return asyncio.run(ask())


both = pytest.mark.parametrize("health", [health_blocking, health_async])


@both
def test_a_certificate_of_nobody_is_not_believed(health: Any, api: StandIn) -> None:
    with pytest.raises(UnreachableError, match=r"(?i)certificate"):
        health(api.url, token="mine")
    assert api.asked == []


@both
def test_a_certificate_of_a_given_ca_is_believed(
    health: Any, api: StandIn, authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = CertificateAuthority(tmp_path, "other").key_pair.certificate
    # What the user says goes before what the environment says.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    assert health(api.url, token="mine", verify=authority.key_pair.certificate) == {}
    assert api.asked[0].headers["Authorization"] == "Bearer mine"
    with pytest.raises(UnreachableError, match=r"(?i)certificate"):
        health(api.url, token="mine", verify=str(other))


@both
def test_a_directory_of_cas_is_believed(
    health: Any, api: StandIn, authority: CertificateAuthority, tmp_path: Path
) -> None:
    directory = tmp_path / "cas"
    directory.mkdir()
    shutil.copy(authority.key_pair.certificate, directory / "ca.pem")
    subprocess.run(["openssl", "rehash", directory], check=True)
    assert health(api.url, token="mine", verify=directory) == {}


@both
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_no_certificate_is_checked_where_it_is_not_wanted(health: Any, api: StandIn) -> None:
    assert health(api.url, token="mine", verify=False) == {}


@both
def test_a_pod_shows_its_token_and_believes_its_ca(health: Any, api: StandIn, pod: Path) -> None:
    assert health(api.url) == {}
    assert api.asked[0].headers["Authorization"] == "Bearer of-the-pod"
    # The user's own word on certificates is the only one then.
    with pytest.raises(UnreachableError, match=r"(?i)certificate"):
        health(api.url, verify=True)


@both
def test_a_pod_keeps_its_token_from_plain_http(health: Any, pod: Path) -> None:
    with stand_in() as plain:
        assert health(plain.url) == {}
        assert plain.asked[0].headers["Authorization"] is None


@pytest.mark.usefixtures("pod")
def test_the_token_turns_while_a_client_lives(api: StandIn, pod: Path) -> None:
    with EngineOpsClient(api.url) as client:
        client.health()
        (pod / "token").write_text("the-next-one")
        client.health()
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer of-the-pod", "Bearer the-next-one"]


@pytest.mark.parametrize("token", [None, "mine"])
@pytest.mark.usefixtures("pod")
def test_a_redirect_does_not_take_the_token_along(
    api: StandIn, token: str | None, authority: CertificateAuthority
) -> None:
    """The session is the user's: it follows redirects."""
    verify = None if token is None else str(authority.key_pair.certificate)

    async def follow(url: str) -> int:
        async with (
            AsyncEngineOpsClient(api.url, token=token, verify=verify) as client,
            client.session.get(url) as answer,
        ):
            return answer.status

    with stand_in() as elsewhere:
        api.answers = [Said(302, b"", {"Location": elsewhere.url + "/x"})]
        with EngineOpsClient(api.url, token=token, verify=verify) as client:
            assert client.session.get(client.base_url + "/api/v1/health").status_code == 200
            assert client.session.get(elsewhere.url).status_code == 200
        assert asyncio.run(follow(api.url)) == 200
        assert asyncio.run(follow(elsewhere.url)) == 200
        assert [asked.headers["Authorization"] is not None for asked in api.asked] == [True, True]
        assert [asked.headers["Authorization"] for asked in elsewhere.asked] == [None] * 4


def test_netrc_does_not_come_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for health in (health_blocking, health_async):
        with stand_in() as plain:
            health(plain.url, token="mine")
            health(plain.url)
            assert [asked.headers["Authorization"] for asked in plain.asked] == ["Bearer mine", None]


def test_a_header_of_ones_own_stays(api: StandIn, authority: CertificateAuthority) -> None:
    with EngineOpsClient(api.url, token="mine", verify=str(authority.key_pair.certificate)) as client:
        client.session.get(api.url, headers={"Authorization": "Basic x"})
    assert api.asked[0].headers["Authorization"] == "Basic x"
