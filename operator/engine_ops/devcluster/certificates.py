"""Certificate authorities, certificates and keys of one control plane, made anew for each start."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALIDITY = datetime.timedelta(days=365)
# Clocks of containers and virtual machines drift; a certificate from the future is refused.
_BACKDATING = datetime.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """A certificate and its private key, as PEM files.

    Parameters
    ----------
    certificate : Path
        The certificate.
    key : Path
        The private key (PKCS #8, readable by its owner only).
    """

    certificate: Path
    key: Path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that nobody but its owner can read, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_signing_key(directory: Path, name: str) -> tuple[Path, Path]:
    """Make the key pair that signs and verifies ServiceAccount tokens.

    Parameters
    ----------
    directory : Path
        Where the files go.
    name : str
        Their stem.

    Returns
    -------
    tuple of Path
        The private and the public key.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    write_private(private, _private_pem(key))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


class CertificateAuthority:
    """Signs certificates; its own key never leaves the process unless `write_key` is called.

    Parameters
    ----------
    directory : Path
        Where every certificate goes.
    name : str
        The authority's common name, and the stem of its file.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key_pair = KeyPair(certificate=directory / f"{name}.crt", key=directory / f"{name}.key")
        certificate = (
            self._builder(self._subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.key_pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def write_key(self) -> Path:
        """Write the authority's private key, for the controller that signs certificate requests."""
        write_private(self.key_pair.key, _private_pem(self._key))
        return self.key_pair.key

    def client(self, name: str, common_name: str, organizations: Sequence[str] = ()) -> KeyPair:
        """Sign a client certificate.

        Parameters
        ----------
        name : str
            Stem of the files.
        common_name : str
            Kubernetes reads it as the user's name.
        organizations : sequence of str
            Kubernetes reads them as the user's groups.

        Returns
        -------
        KeyPair
            The files.
        """
        return self._issue(name, common_name, organizations, (), [ExtendedKeyUsageOID.CLIENT_AUTH])

    def server(self, name: str, hosts: Sequence[str], *, also_client: bool = False) -> KeyPair:
        """Sign a serving certificate.

        Parameters
        ----------
        name : str
            Stem of the files, and the common name.
        hosts : sequence of str
            DNS names and IP addresses under which it is reached.
        also_client : bool
            Whether the holder shows it as a client, too (etcd's members do).

        Returns
        -------
        KeyPair
            The files.
        """
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        if also_client:
            usages.append(ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._issue(name, name, (), hosts, usages)

    def _issue(
        self,
        name: str,
        common_name: str,
        organizations: Sequence[str],
        hosts: Sequence[str],
        usages: list[x509.ObjectIdentifier],
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
        builder = (
            self._builder(x509.Name(attributes), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = KeyPair(certificate=self._directory / f"{name}.crt", key=self._directory / f"{name}.key")
        write_private(pair.key, _private_pem(key))
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return pair

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATING)
            .not_valid_after(now + _VALIDITY)
            # Python's strict verification (3.13 and newer) demands both key identifiers.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
