"""How people reach a cluster's API from outside its box: an address, a certificate and a token, in a kubeconfig.

Everything is made anew for each cluster and ends with it. It has to be TLS although nothing leaves the machine, because
kubectl (client-go's clientcmd) shows a kubeconfig's token to ``https`` servers only.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.0.0.1"
_VALID = datetime.timedelta(days=365)
_SKEW = datetime.timedelta(hours=1)
# How pods call the API (testbed.cluster.api_service).
_SERVICE_NAMES = [f"kubernetes{domain}" for domain in ("", ".default", ".default.svc", ".default.svc.cluster.local")]


@dataclass(frozen=True)
class Door:
    """The way into a box from outside: a socket that listens there, what it proves itself by, and what it asks for.

    ``identity`` holds the private key and the certificate (PEM), in memory only.
    """

    listener: socket.socket
    identity: BinaryIO
    certificate: bytes
    token: str

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close this process's copies of the socket and the identity. Idempotent."""
        self.listener.close()
        self.identity.close()

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.listener.getsockname()[1]}"

    @property
    def page_url(self) -> str:
        """The page for browsers. They would not trust the certificate; on the loopback they need none."""
        return f"http://{HOST}:{self.listener.getsockname()[1]}/ui?token={self.token}"


def open_door() -> Door:
    """Listen on a free port of the loopback. To be called outside the box: sockets stay where they are made."""
    key, certificate = _self_signed()
    identity = os.fdopen(os.memfd_create("identity"), "wb")  # the TLS library reads from files only
    identity.write(key + certificate)
    identity.flush()
    return Door(socket.create_server((HOST, 0)), identity, certificate, secrets.token_urlsafe(32))


def write_kubeconfig(file: Path, name: str, door: Door) -> None:
    """Write a kubeconfig (YAML, of which JSON is a part) that only its owner may read."""
    cluster = {"server": door.url, "certificate-authority-data": base64.b64encode(door.certificate).decode()}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": door.token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(json.dumps(content, indent=2) + "\n")


def _self_signed() -> tuple[bytes, bytes]:
    """A private key and a certificate for the loopback and the API's Service, which is its own authority; both as
    PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "testbed")])
    now = datetime.datetime.now(datetime.timezone.utc)
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)  # sign, and sign certificates
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(HOST)), *map(x509.DNSName, ("localhost", *_SERVICE_NAMES))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
