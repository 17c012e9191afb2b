"""Signed statements about model versions: DSSE envelopes around in-toto statements, by Ed25519.

https://github.com/secure-systems-lab/dsse and https://in-toto.io/Statement/v1. The key is the workspace's own for models, apart
from the ledger's; a statement is trusted only where its key is in the workspace's folder of keys.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from loopline.errors import Invalid, NotFound, Refused, Unavailable
from loopline.failpoints import failpoint
from loopline.hashing import canonical_json
from loopline.ports.files import write_whole

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_PRIVATE = "models.pem"
_KEY_ID = re.compile(r"[0-9a-f]{16}")


def encoding(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is really signed, so that type and payload cannot be mistaken for each other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(public: Ed25519PublicKey) -> str:
    """The id of a key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return _fingerprint(public)[:16]


class ModelSigner:
    """Signs and checks with the keys of one workspace. `folder` is its `keys/`; the key is made at the first signature."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sign(self, statement: dict[str, Any]) -> dict[str, Any]:
        """The DSSE envelope of a statement. Raises `Refused` where others can read the private key."""
        private = self._private()
        public = private.public_key()
        payload = canonical_json(statement)
        signature = private.sign(encoding(PAYLOAD_TYPE, payload))
        return {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key_id(public), "sig": base64.b64encode(signature).decode()}],
        }

    def verify(self, envelope: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Key id and statement of an envelope that a key of this workspace signed. Raises `Invalid` or `NotFound` (the key)."""
        return _checked(envelope, self._public)

    def verify_by(self, envelope: dict[str, Any], pem: str) -> tuple[str, dict[str, Any]]:
        """Fingerprint of a public key, and the statement of an envelope that it signed. Raises `Invalid`."""
        return fingerprint(pem), verified(envelope, pem)

    def owns(self, fingerprint: str) -> bool:
        """Whether a key of this fingerprint is in the workspace's folder of keys."""
        try:
            return _fingerprint(self._public(fingerprint[:16])) == fingerprint
        except (NotFound, Invalid):
            return False

    def public_key(self, key: str) -> str:
        """The public key with this id as PEM. Raises `NotFound`."""
        return self._public(key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def _public(self, key: str) -> Ed25519PublicKey:
        if not isinstance(key, str) or not _KEY_ID.fullmatch(key):
            raise Invalid("The signature names no key.", code="bad-signature")
        try:
            public = load_pem_public_key((self.folder / f"models-{key}.pub").read_bytes())
        except FileNotFoundError as e:
            raise NotFound(
                f"The key {key} is not one of this workspace's.",
                code="no-key",
                hint=f"Its public key belongs into {self.folder}, where it is to be trusted.",
            ) from e
        except ValueError as e:
            raise Invalid(f"The file of the public key {key} holds no key.", code="bad-key-file") from e
        if not isinstance(public, Ed25519PublicKey) or key_id(public) != key:
            raise Invalid(f"The file of the public key {key} holds another key.", code="bad-key-file")
        return public

    def _private(self) -> Ed25519PrivateKey:
        path = self.folder / _PRIVATE
        if not path.exists():
            self._make(path)
        found = path.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Refused(
                f"{path} can be read by others, so it signs nothing.", code="key-exposed", hint=f"chmod 600 {path}"
            )
        private = _private(path, found.st_ino, found.st_mtime_ns)
        public = private.public_key()
        trusted = self.folder / f"models-{key_id(public)}.pub"
        if not trusted.exists():
            write_whole(trusted, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return private

    def _make(self, path: Path) -> None:
        """A new key under its name, unless another program was first: then that one's key holds."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        aside = path.with_name(f"{_PRIVATE}.{os.getpid()}-{os.urandom(4).hex()}")
        write_whole(aside, pem, mode=0o600)
        try:
            failpoint("packaging.key.before_link")
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink(missing_ok=True)


@functools.lru_cache(maxsize=4)
def _private(path: Path, inode: int, changed: int) -> Ed25519PrivateKey:
    """The private key of a file; it is read once, until another file is put in its place (to which `inode`, `changed` are)."""
    try:
        private = load_pem_private_key(path.read_bytes(), None)
    except ValueError as e:
        raise Unavailable(f"{path} holds no key.", code="bad-key-file", hint="Put the workspace's key back.") from e
    if not isinstance(private, Ed25519PrivateKey):
        raise Unavailable(
            f"{path} holds a key of another kind.", code="bad-key-file", hint="Put the workspace's key back."
        )
    return private


def _checked(envelope: dict[str, Any], public: Callable[[str], Ed25519PublicKey]) -> tuple[str, dict[str, Any]]:
    """Key id and statement of an envelope that holds by the key that `public` gives for its id."""
    try:
        kind, payload = envelope["payloadType"], base64.b64decode(envelope["payload"], validate=True)
        first = envelope["signatures"][0]
        key, signature = first["keyid"], base64.b64decode(first["sig"], validate=True)
    except (KeyError, IndexError, TypeError, binascii.Error) as e:
        raise Invalid("The signature is not a DSSE envelope.", code="bad-signature") from e
    if kind != PAYLOAD_TYPE:
        raise Invalid(f"The signature is of a {kind!r}, not of a statement.", code="bad-signature")
    try:
        public(key).verify(signature, encoding(kind, payload))
    except InvalidSignature as e:
        raise Invalid(
            f"The signature does not hold: the statement is not what the key {key} signed.", code="bad-signature"
        ) from e
    return key, msgspec.json.decode(payload, type=dict[str, Any])


def verified(envelope: dict[str, Any], pem: str) -> dict[str, Any]:
    """The statement of an envelope that this public key (PEM) signed. Raises `Invalid`."""
    public = _read(pem)
    return _checked(envelope, lambda _: public)[1]


def fingerprint(pem: str) -> str:
    """The SHA-256 of a public key's 32 bytes, in hex. Raises `Invalid` where it is none."""
    return _fingerprint(_read(pem))


def _read(pem: str) -> Ed25519PublicKey:
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, TypeError) as e:
        raise Invalid("The signature comes with no key.", code="bad-signature") from e
    if not isinstance(public, Ed25519PublicKey):
        raise Invalid("The signature comes with a key of another kind.", code="bad-signature")
    return public


def _fingerprint(public: Ed25519PublicKey) -> str:
    return sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()
