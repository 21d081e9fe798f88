"""Certificates as nginx reads them: a file for each Secret, and the controller's own."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import ssl
from collections.abc import Collection
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from testbed.cluster.ingress.values import Key
from testbed.cluster.objects import JsonObject

# As ingress-nginx calls the certificate that it shows where none is configured.
_OWN_NAME = "Kubernetes Ingress Controller Fake Certificate"
_VALID = datetime.timedelta(days=365)


class CertificateError(Exception):
    """A Secret that cannot be used as a certificate, and why."""


class CertificateFiles:
    """The certificates of Secrets in a directory. A file's name holds a digest, so that a changed one is another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._own: Path | None = None
        self._known: dict[tuple[Key, str], Path | CertificateError] = {}

    def own(self) -> Path:
        """The controller's own, for hosts without one."""
        if self._own is None:
            self._own = self._write("own", self_signed(_OWN_NAME))
        return self._own

    def of_secret(self, key: Key, secret: JsonObject | None) -> Path:
        """The file of a Secret of type kubernetes.io/tls. Raises CertificateError."""
        title = "/".join(key)
        if secret is None:
            raise CertificateError(f"Secret {title} does not exist")
        digest = hashlib.sha256(repr(secret.get("data")).encode()).hexdigest()[:16]
        if (key, digest) not in self._known:
            try:
                self._known[key, digest] = self._write(f"{key[0]}_{digest}", _checked(title, secret))
            except CertificateError as error:
                self._known[key, digest] = error
        found = self._known[key, digest]
        if isinstance(found, CertificateError):
            raise found
        return found

    def keep(self, files: Collection[Path]) -> None:
        """Forget every Secret whose file is none of these: a private key is not to lie about longer than it is used."""
        for name, found in list(self._known.items()):
            if found not in files:
                del self._known[name]
                if isinstance(found, Path):
                    found.unlink(missing_ok=True)  # Secrets that are alike share it

    def _write(self, name: str, pem: bytes) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        file = self._directory / f"{name}.pem"
        file.touch(mode=0o600)
        file.write_bytes(pem)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file)
        except (ssl.SSLError, OSError) as error:
            file.unlink()
            raise CertificateError(f"the certificate and the key do not fit or cannot be read: {error}") from None
        return file


def self_signed(name: str) -> bytes:
    """Certificate and key in PEM, for a name, valid for a year."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem) + private


def _checked(title: str, secret: JsonObject) -> bytes:
    data = secret.get("data") or {}
    parts = []
    for name in ("tls.crt", "tls.key"):
        if not data.get(name):
            raise CertificateError(f"Secret {title} has no {name}")
        try:
            parts.append(base64.b64decode(data[name], validate=True).strip() + b"\n")
        except (binascii.Error, TypeError, ValueError):
            raise CertificateError(f"{name} of Secret {title} is not base64") from None
    return b"".join(parts)
