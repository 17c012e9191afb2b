"""What is signed of a run bundle, and the seams to who signs and who opens files.

A bundle is a plain tar. Its files, `statement.json` and `key.pem` apart, are named in the statement with their digests:

    journal/000001 ...    what the runs hold, as batches of a journal (`tracking/journal_format.py`)
    files/<hex>           the bytes of artifacts, by their BLAKE3
    ledger.json           proofs that the entries about the run are in the origin's ledger, for the stand-alone verifier
    statement.json        the DSSE envelope of the statement (in-toto)
    key.pem               the public key that it is signed with
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

PREDICATE = "https://loopline.dev/run/v1"

STATEMENT, KEY, LEDGER = "statement.json", "key.pem", "ledger.json"

UNSIGNED = frozenset({STATEMENT, KEY})
"""The files that the statement does not name: itself, and the key, which it names by its fingerprint."""


class Signer(Protocol):
    """Signs for this instance, and checks what others signed (`packaging.signing.ModelSigner`)."""

    def sign(self, statement: dict[str, Any]) -> dict[str, Any]:
        """The envelope of a statement."""
        ...

    def public_key(self, key: str) -> str:
        """The public key of this id as PEM."""
        ...

    def verify_by(self, envelope: dict[str, Any], pem: str) -> tuple[str, dict[str, Any]]:
        """Fingerprint of the key and statement. Raises an error of the family where the key did not sign it."""
        ...

    def owns(self, fingerprint: str) -> bool:
        """Whether it is a key of this instance."""
        ...


@dataclass(frozen=True)
class Bundling:
    """What run bundles need from above: `unpack` writes the files of a tar into a new folder and gives their sizes by name."""

    signer: Signer
    unpack: Callable[[Iterable[bytes], Path], Mapping[str, int]]
    scratch: Path


def statement(run: str, runs: Mapping[str, str], files: Mapping[str, str], exported: int) -> dict[str, Any]:
    """The statement about a bundle. `runs`: who created each, by id; `files`: their digests (`blake3:<hex>`) by name."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": name, "digest": {"blake3": digest.removeprefix("blake3:")}}
            for name, digest in sorted(files.items())
        ],
        "predicateType": PREDICATE,
        "predicate": {"run": run, "runs": dict(runs), "exported": exported},
    }
