"""TLS with certificates that turn as mounted Secrets do."""

from __future__ import annotations

import logging
import ssl
import warnings
from pathlib import Path

import pytest
from listening_world import PATIENT, Served, change, ended, limited, read_answer, serving, trusting, until

from engine_ops.devcluster.certificates import CertificateAuthority
from engine_ops.server.tls import ReloadedCertificate, TlsError

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
TURN_SECONDS = 0.02


class MountedSecret:
    """A directory as kubelet makes it: files are links through ``..data``, which is swapped as a whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = CertificateAuthority(directory, "authority")
        self.turns = 0
        self.turn()
        for name in ("tls.crt", "tls.key"):
            (directory / name).symlink_to(Path("..data") / name)

    @property
    def certificate(self) -> Path:
        return self.directory / "tls.crt"

    @property
    def key(self) -> Path:
        return self.directory / "tls.key"

    def turn(self, *, certificate: bytes | None = None, key: bytes | None = None) -> bytes:
        """Swap in a new pair, or what is given of it. Return the certificate, DER."""
        self.turns += 1
        pair = self.authority.server(f"server{self.turns}", ["127.0.0.1", "localhost"])
        stamped = self.directory / f"..{self.turns}"
        stamped.mkdir()
        pem = pair.certificate.read_bytes()
        (stamped / "tls.crt").write_bytes(pem if certificate is None else certificate)
        (stamped / "tls.key").write_bytes(pair.key.read_bytes() if key is None else key)
        link = self.directory / "..data_tmp"
        link.symlink_to(stamped.name)
        link.replace(self.directory / "..data")
        return ssl.PEM_cert_to_DER_cert(pem.decode()[: pem.decode().index("END CERTIFICATE") + 20])

    def loaded(self) -> ReloadedCertificate:
        return ReloadedCertificate(self.certificate, self.key)


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path)


def _shown(served: Served, name: str | None = None) -> bytes | None:
    """Return the certificate that a new connection is shown, DER; ask over it."""
    with served.connect() as raw, trusting().wrap_socket(raw, server_hostname=name) as link:
        link.sendall(GET)
        assert read_answer(link).status == 200  # type: ignore[arg-type]
        return link.getpeercert(binary_form=True)


@pytest.mark.parametrize("name", [None, "localhost", "other.example.org"])
def test_a_new_pair_is_shown_to_new_connections_and_old_ones_stay(secret: MountedSecret, name: str | None) -> None:
    with serving(certificate=secret.loaded(), certificate_seconds=TURN_SECONDS) as served:
        first = _shown(served, name)
        with served.connect() as raw, trusting().wrap_socket(raw) as link:
            second = secret.turn()
            assert second != first
            until(lambda: _shown(served, name) == second)
            link.sendall(GET)
            assert read_answer(link).status == 200


def test_a_client_that_checks_is_content(secret: MountedSecret) -> None:
    authority = next(secret.directory.glob("authority*.crt"))
    with (
        serving(certificate=secret.loaded()) as served,
        served.connect() as raw,
        trusting(str(authority)).wrap_socket(raw, server_hostname="127.0.0.1") as link,
    ):
        link.sendall(GET)
        assert read_answer(link).status == 200
        assert link.version() == "TLSv1.3"


BROKEN = [
    {"certificate": b"nothing"},
    {"key": b"nothing"},
    {"certificate": b""},
    {"key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"},
]


@pytest.mark.parametrize("broken", [*BROKEN, {}])
def test_a_broken_new_pair_keeps_the_old_and_is_said_once(
    secret: MountedSecret, broken: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "engine_ops.server.tls")
    certificate = secret.loaded()
    mismatched = {"key": secret.key.read_bytes()}
    with serving(certificate=certificate, certificate_seconds=3600) as served:
        first = _shown(served)
        secret.turn(**(broken or mismatched))
        assert [certificate.check() for _ in range(3)] == [False] * 3
        (warning,) = caplog.records
        assert "--api-tls-cert" in warning.getMessage()
        assert "stays in use" in warning.getMessage()
        assert _shown(served) == first
        last = secret.turn()
        assert certificate.check()
        assert not certificate.check()
        assert _shown(served) == last
        assert len(caplog.records) == 2


def test_files_that_turn_while_they_are_read_are_read_again(
    secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = secret.loaded()
    load = certificate._load

    def load_and_turn() -> ssl.SSLContext:
        context = load()
        secret.turn()
        return context

    secret.turn()
    with monkeypatch.context() as patched:
        patched.setattr(certificate, "_load", load_and_turn)
        assert not certificate.check()
    assert certificate.check()
    assert not certificate.check()


def test_files_that_vanish_keep_the_old_and_are_said_once(
    secret: MountedSecret, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = secret.loaded()
    (secret.directory / "..data").unlink()
    assert [certificate.check() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1


@pytest.mark.parametrize("broken", BROKEN)
def test_a_pair_that_is_broken_from_the_start_names_the_options(
    secret: MountedSecret, broken: dict[str, bytes]
) -> None:
    secret.turn(**broken)
    with pytest.raises(TlsError, match=r"--api-tls-cert .* --api-tls-key"):
        secret.loaded()


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(secret: MountedSecret) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(secret.key.read_bytes(), None)
    secret.key.unlink()
    secret.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TlsError, match="the key has a passphrase"):
        secret.loaded()


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"none\.crt.*No such file"):
        ReloadedCertificate(tmp_path / "none.crt", tmp_path / "none.key")


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(300), b"\0" * 9]
)
def test_garbage_ends_that_connection_only(
    secret: MountedSecret, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    limits = limited(handshake_seconds=0.2)
    with serving(certificate=secret.loaded(), limits=limits) as served:
        with served.connect() as link:
            link.sendall(garbage)
            assert ended(link)
        until(lambda: served.thread.connections("api")["open"] == 0)
        change(limits, handshake_seconds=PATIENT.handshake_seconds)
        assert _shown(served) is not None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_handshake_that_is_never_ended_gives_its_place_up(secret: MountedSecret) -> None:
    with serving(certificate=secret.loaded(), limits=limited(handshake_seconds=0.1)) as served:
        with served.connect() as link:
            assert ended(link)
        until(lambda: served.thread.connections("api")["open"] == 0)


def test_handshakes_count_as_connections_and_make_room(secret: MountedSecret) -> None:
    with serving(certificate=secret.loaded(), limits=limited(connections=3)) as served:
        links = [served.connect() for _ in range(8)]
        assert _shown(served) is not None
        for link in links[:5]:
            assert ended(link)
        assert served.thread.connections("api")["open"] <= 3
        for link in links:
            link.close()


def test_old_versions_are_refused(secret: MountedSecret) -> None:
    old = trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with (
        serving(certificate=secret.loaded()) as served,
        served.connect() as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        old.wrap_socket(raw)


def test_an_early_413_arrives_over_tls_too(secret: MountedSecret) -> None:
    with (
        serving(certificate=secret.loaded(), limits=limited(linger_seconds=2.0)) as served,
        served.connect() as raw,
        trusting().wrap_socket(raw) as link,
    ):
        link.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n")
        assert read_answer(link).status == 413
        assert ended(link)
