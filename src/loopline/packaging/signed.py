"""Signatures that travel with a bundle, in its folder `signatures/`: who vouches for its manifest, and with it for every file."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import Invalid, LooplineError, Refused
from loopline.packaging.manifest import MANIFEST, SIGNATURES
from loopline.packaging.records import Trust
from loopline.packaging.signing import ModelSigner, fingerprint, verified

PREDICATE = "https://loopline.dev/bundle/v1"


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A signed statement (a DSSE envelope) and the public key that it is said to be of."""

    envelope: dict[str, Any]
    public_key: str


def keep_signature(folder: Path, signed: Signed) -> None:
    """Puts a signature into a bundle's folder, under its key's name."""
    (folder / SIGNATURES).mkdir(exist_ok=True)
    path = folder / SIGNATURES / f"{fingerprint(signed.public_key)[:16]}.json"
    path.write_bytes(msgspec.json.encode(signed))


def sign_bundle(folder: Path, signer: ModelSigner) -> str:
    """Signs the manifest of a bundle, and puts that beside it; gives the public key (PEM)."""
    digest = sha256((folder / MANIFEST).read_bytes()).hexdigest()
    envelope = signer.sign(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": MANIFEST, "digest": {"sha256": digest}}],
            "predicateType": PREDICATE,
            "predicate": {},
        }
    )
    public = signer.public_key(envelope["signatures"][0]["keyid"])
    keep_signature(folder, Signed(envelope=envelope, public_key=public))
    return public


def signed_by(folder: Path, keys: Iterable[str]) -> str | None:
    """The fingerprint of the first of these keys (PEM) that signed the manifest of a bundle; None where none did.

    The key beside a signature is not believed: only `keys` are. Raises `Invalid` where one of `keys` is none.
    """
    try:
        digest = sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None
    envelopes = []
    for path in sorted((folder / SIGNATURES).glob("*.json")):
        try:
            envelopes.append(msgspec.json.decode(path.read_bytes(), type=Signed).envelope)
        except (OSError, msgspec.MsgspecError):
            continue  # what cannot be read vouches for nothing
    for pem in keys:
        for envelope in envelopes:
            try:
                found, said = fingerprint(pem), verified(envelope, pem)
            except Invalid as e:
                if e.code == "bad-signature":
                    continue
                raise
            if _names(said, digest):
                return found
    return None


def check_trusted(folder: Path, trust: Trust, why: str) -> None:
    """Raises `Refused` unless a trusted key signed the bundle; `why` says what asks for it."""
    if signed_by(folder, trust.keys) is None:
        known = ", ".join(fingerprint(key)[:16] for key in trust.keys) or "none"
        raise Refused(
            f"The bundle {folder} is signed by no key that is trusted here, and {why}.",
            code="bundle-unsigned",
            hint=f"Trusted keys: {known}. Fetch it with its signature: loopline models pull.",
        )


def statement_of(said: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of each file by name, as a signed statement says. Raises `Invalid`."""
    try:
        return {str(one["name"]): str(one["digest"]["sha256"]) for one in said["subject"]}
    except (KeyError, TypeError) as e:
        raise Invalid("The signed statement names no files.", code="bad-signature") from e


def _names(said: dict[str, Any], digest: str) -> bool:
    try:
        return statement_of(said).get(MANIFEST) == digest
    except LooplineError:
        return False
