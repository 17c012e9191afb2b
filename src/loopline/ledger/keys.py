"""The signing keys: files in the workspace that only their owner reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from loopline.errors import Unavailable
from loopline.failpoints import failpoint
from loopline.ledger.notes import key_id, public_bytes
from loopline.ports.files import write_whole

_NEXT = "ledger-next.pem"


class KeyFolder:
    """The folder `keys/` of a workspace. A key's file is named by its id; the next key waits aside until it is on the ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, Ed25519PrivateKey] = {}

    def prepare(self, origin: str) -> Ed25519PrivateKey:
        """A new key, durable on disk but not yet in force (one left by a crash is replaced)."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        failpoint("ledger.key.before_write")
        write_whole(self.folder / _NEXT, pem, mode=0o600)
        self._loaded[key_id(origin, public_bytes(key))] = key
        return key

    def enforce(self, key: str) -> None:
        """Gives the prepared key its name, once the ledger has it."""
        failpoint("ledger.key.before_rename")
        if not self._path(key).exists():  # another program that found the key aside may have named it already
            os.replace(self.folder / _NEXT, self._path(key))
        failpoint("ledger.key.after_rename")

    def forget(self, former: Sequence[str]) -> None:
        """Removes keys that others have followed."""
        for key in former:
            failpoint("ledger.key.before_unlink")
            self._path(key).unlink(missing_ok=True)
            self._loaded.pop(key, None)

    def load(self, origin: str, key: str) -> Ed25519PrivateKey:
        """The key with this id. Raises `Unavailable` where its file is missing or another one."""
        if key not in self._loaded:
            # A crash between the commit and the rename leaves the key in force under the other name.
            for path in (self._path(key), self.folder / _NEXT):
                if path.exists():
                    found = load_pem_private_key(path.read_bytes(), None)
                    if isinstance(found, Ed25519PrivateKey) and key_id(origin, public_bytes(found)) == key:
                        self._loaded[key] = found
                        break
            else:
                raise Unavailable(
                    f"The ledger's signing key {key} is not in {self.folder}.",
                    code="ledger-key-missing",
                    hint="Put the workspace's keys folder back; without it no checkpoint can be signed.",
                )
            if path.name == _NEXT:
                self.enforce(key)
        return self._loaded[key]

    def _path(self, key: str) -> Path:
        return self.folder / f"ledger-{key}.pem"
