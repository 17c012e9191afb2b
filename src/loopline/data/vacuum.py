"""Files of Delta tables that no version of a dataset names: what ingests left that were killed before their version had a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import deltalake

from loopline.data.records import Vacuumed
from loopline.failpoints import failpoint

GRACE_MILLISECONDS = 24 * 3_600_000
"""No ingest takes that long between writing a file and naming its version."""


def vacuum(folder: Path, named: Iterable[int], now: int, *, dry_run: bool) -> Vacuumed:
    """Removes the files of one table that none of the `named` Delta versions needs and that are older than the grace period.

    The newest Delta version is left whole, whoever named it: other programs read a table by that. A file that has more names
    (`pieces`) frees its bytes with the last of them. Raises nothing for a folder that is no table.
    """
    if not deltalake.DeltaTable.is_deltatable(str(folder)):
        return Vacuumed(files=0, bytes=0, young=0)
    newest = deltalake.DeltaTable(str(folder)).version()
    needed = {file for version in {*named, newest} for file in files_of(folder, version)}
    files = size = young = 0
    there, going = sorted(folder.glob("*.parquet")), Counter[int]()
    names = Counter(path.stat().st_ino for path in there)
    for path in there:
        if path.name in needed or path.is_symlink():
            continue
        stat = path.stat()
        if stat.st_mtime * 1000 > now - GRACE_MILLISECONDS:
            young += 1
            continue
        going[stat.st_ino] += 1
        files, size = files + 1, size + (stat.st_size if going[stat.st_ino] == names[stat.st_ino] else 0)
        if not dry_run:
            failpoint("data.vacuum.remove")
            path.unlink()
    return Vacuumed(files=files, bytes=size, young=young)


def files_of(folder: Path, version: int) -> list[str]:
    """The names of the files of one Delta version, in the order of their rows."""
    # Within one write the files are numbered (part-00000-...), and their order is the order of the rows.
    # They lie in the folder itself; a URI would spell its name another way (a space as %20).
    return sorted(uri.rsplit("/", 1)[-1] for uri in deltalake.DeltaTable(str(folder), version=version).file_uris())
