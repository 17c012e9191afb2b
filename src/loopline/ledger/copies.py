"""Copies of the checkpoints outside the workspace.

Whoever can write the database can also cut its end off, with the checkpoints in it; the copy tells. A copy on another machine
or on write-once storage tells it of an insider with rights on this machine, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from loopline.failpoints import failpoint
from loopline.ledger import notes
from loopline.ports.files import write_whole


class Copies:
    """The folder of copies; in it one folder a ledger, with `<size>.note` for each checkpoint, `latest.note` and `keys`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, origin: str, size: int) -> Path:
        """Where the checkpoint of this size is."""
        return self._of(origin) / f"{size}.note"

    def put(self, origin: str, size: int, note: str, keys: Sequence[str]) -> None:
        """Writes a checkpoint, then the keys, then that it is the latest."""
        data = note.encode()
        folder = self._of(origin)
        for made in (self.folder, folder):
            # Whatever the umask: who could remove a copy could cut the ledger's end off unseen.
            if not made.is_dir():
                made.mkdir(mode=0o755, parents=True, exist_ok=True)
        own = self.path(origin, size)
        if own.exists() and own.read_text().partition("\n\n")[0] != note.partition("\n\n")[0]:
            # Another statement of this size was copied before: both are kept, for they prove that something was changed.
            own = folder / f"{size}-{sha256(data).hexdigest()[:16]}.note"
        for path, content in (
            (own, data),
            (folder / "keys", "".join(f"{key}\n" for key in keys).encode()),
            (folder / "latest.note", data),
        ):
            if not (path.exists() and path.read_bytes() == content):
                failpoint("ledger.copy.before_write")
                write_whole(path, content)

    def newest(self, origin: str) -> int | None:
        """The size that the latest copy speaks of; None where there is none that can be read."""
        try:
            return notes.read((self._of(origin) / "latest.note").read_text()).size
        except (OSError, ValueError):
            return None

    def notes(self, origin: str) -> dict[Path, str]:
        """All copies that are there."""
        folder = self._of(origin)
        return {path: path.read_text() for path in sorted(folder.glob("*.note"))} if folder.is_dir() else {}

    def keys(self, origin: str) -> list[str]:
        """The keys as they were known when the latest copy was made."""
        path = self._of(origin) / "keys"
        return path.read_text().split() if path.exists() else []

    def _of(self, origin: str) -> Path:
        return self.folder / origin.rpartition("/")[2]
