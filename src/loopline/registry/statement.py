"""The statement that is signed about a model version (in-toto), and the seam to whoever signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

PREDICATE = "https://loopline.dev/model-version/v1"


class Signer(Protocol):
    """Signs statements and checks signed ones (`packaging.signing.ModelSigner`)."""

    def sign(self, statement: dict[str, Any]) -> dict[str, Any]:
        """The envelope of a statement."""
        ...

    def verify(self, envelope: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Key id and statement. Raises an error of the family where the signature does not hold."""
        ...

    def public_key(self, key: str) -> str:
        """The public key as PEM."""
        ...


def statement(
    ref: str, forms: Mapping[str, str], sha256: Mapping[str, str], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The statement about a version: each file with its digests, and what the version says of itself (`about`).

    SHA-256 stands beside BLAKE3 so that an outsider can check the files with what every system has.
    """
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": name, "digest": {"blake3": digest.removeprefix("blake3:"), "sha256": sha256[name]}}
            for name, digest in sorted(forms.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {"model": ref, **about},
    }
