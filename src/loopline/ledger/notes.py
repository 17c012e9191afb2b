"""Signed notes and checkpoints, as C2SP defines them (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), with Ed25519.

loopline/ledger/5f0c...              the origin, which is also the key's name
1042                                 entries
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=      Merkle root, base64

— loopline/ledger/5f0c... Az3grlg...                 name, then base64 of 4 bytes of key id and 64 of signature
"""

from __future__ import annotations

import base64
import binascii
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_DASH = "\N{EM DASH} "


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    return key.public_key().public_bytes_raw()


def key_id(name: str, public: bytes) -> str:
    """The key id, in hex: the first four bytes of SHA256(name || newline || 0x01 || public key)."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).hexdigest()[:8]


def verifier_key(name: str, public: bytes) -> str:
    """The public key as one line, `name+id+base64`: what a verifier is told to trust."""
    return f"{name}+{key_id(name, public)}+{base64.b64encode(_ED25519 + public).decode()}"


def read_verifier_key(text: str) -> tuple[str, str, bytes]:
    """Name, key id and public bytes of such a line. Raises ValueError."""
    name, key, encoded = text.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if raw[:1] != _ED25519 or len(raw) != 33 or key_id(name, raw[1:]) != key:
        raise ValueError(f"{text!r} is no Ed25519 verifier key")
    return name, key, raw[1:]


def sign(text: str, name: str, *keys: Ed25519PrivateKey) -> str:
    """The note: the text (which ends with a newline) and a signature line for each key."""
    lines = []
    for key in keys:
        identity = bytes.fromhex(key_id(name, public_bytes(key)))
        lines.append(f"{_DASH}{name} {base64.b64encode(identity + key.sign(text.encode())).decode()}\n")
    return text + "\n" + "".join(lines)


class Statement(msgspec.Struct, frozen=True):
    """What a checkpoint says, and who signed it (key ids; not yet checked)."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: dict[str, bytes]

    def signed_by(self, verifier: str) -> bool:
        """Whether the key of this verifier line signed it."""
        name, key, public = read_verifier_key(verifier)
        signature = self.signatures.get(key)
        if signature is None or name != self.origin:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, self.text.encode())
        except InvalidSignature:
            return False
        return True


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def read(note: str) -> Statement:
    """Takes a checkpoint's note apart. Raises ValueError where it is none; signatures are not checked here."""
    text, blank, lines = note.rpartition("\n\n")
    body = text.split("\n")
    if not blank or len(body) < 3 or not body[1].isdecimal():
        raise ValueError("this is no checkpoint")
    signatures = {}
    try:
        root = base64.b64decode(body[2], validate=True)
        for line in lines.splitlines():
            name, _, encoded = line.removeprefix(_DASH).rpartition(" ")
            raw = base64.b64decode(encoded, validate=True)
            if line.startswith(_DASH) and name == body[0] and len(raw) == 68:
                signatures[raw[:4].hex()] = raw[4:]
    except binascii.Error as e:
        raise ValueError("this is no checkpoint") from e
    if len(root) != 32:
        raise ValueError("this is no checkpoint")
    return Statement(body[0], int(body[1]), root, text + "\n", signatures)
