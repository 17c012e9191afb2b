"""TLS of the workers' port: with a certificate of somebody's, or one that signs itself."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loopline.errors import Conflict, Invalid
from loopline.failpoints import failpoint

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 397
"""How long a certificate that is made here holds; clients refuse longer ones."""


def check_pair(certificate: str, key: str) -> None:
    """Raises `Invalid` for a certificate and key that cannot be served with; both empty: no TLS."""
    if not certificate and not key:
        return
    why = "both files are needed" if not (certificate and key) else ""
    if not why:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as e:  # an SSLError is an OSError
            why = str(e) or type(e).__name__
    if why:
        raise Invalid(
            f"TLS cannot be served with the certificate {certificate!r} and the key {key!r}: {why}.",
            code="bad-certificate",
            hint="Give PEM files of a certificate and its key; `loopline certificate` makes a pair.",
        )


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def make_certificate(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Writes `cert.pem`, signed by its own key, and `key.pem` (mode 0600) for host names and addresses.

    Raises `Conflict` where one of them is there, `Invalid` for a name that is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    certificate, key_file = folder / "cert.pem", folder / "key.pem"
    for path in (certificate, key_file):
        if path.exists():
            raise Conflict(
                f"{path} exists already.", code="certificate-exists", hint="Remove it, or name another folder."
            )
    try:
        alternatives = x509.SubjectAlternativeName([_name(name) for name in names])
    except ValueError as e:
        raise Invalid(f"A name cannot stand in a certificate: {e}.", code="bad-certificate") from e
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Loopline")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, data, mode in (
        (key_file, secret, 0o600),
        (certificate, made.public_bytes(serialization.Encoding.PEM), 0o644),
    ):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            failpoint("serving.tls.before_sync")
            os.fsync(file.fileno())
    return certificate, key_file


def _name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
