"""Records of the data room."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.data.manifest import Manifest
from loopline.quality.cleaning_records import CleaningReport

By = Literal["time", "group", "stratified", "random"]
"""By what a version is split."""

Leak = Literal["same-group", "same-row", "near-row", "knows-label"]
"""What can be amiss between the sides of a split (`split_records.Finding`)."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a dataset version: its name and its type as Arrow names it."""

    name: str
    type: str


class LabelColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column of labels: each is known `matures` after its event, whose time stands in the column `time`."""

    column: str
    time: str
    matures: str = "0s"
    immature: int = 0
    """Rows of a version whose label was not known yet when they were read; nothing that one declares."""


class LabelsKnown(msgspec.Struct, frozen=True, kw_only=True):
    """How many labels of a version are known at a time: `rows` = `known` + `immature` + `missing` (known to be missing)."""

    column: str
    time: str
    matures: str
    as_of: int | None
    rows: int
    known: int
    immature: int
    missing: int


class DatasetVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable version of a dataset. Rows read from the source = `rows` + `quarantined`, always."""

    ref: str
    name: str
    version: int
    rows: int
    manifest: str = ""
    """Digest of what says which files it has (`data.manifest`); empty: it is a table."""
    files: int = 0
    bytes: int = 0
    """Of all its files; 0 for a table."""
    columns: tuple[Column, ...]
    digest: str
    """Of the schema and ordered values (`hashing.digest_table`)."""
    source: str
    """The ref of what it was read from, with the digest of the bytes; empty for a derived version."""
    inputs: tuple[str, ...]
    """Refs of the dataset versions that it was derived from."""
    quarantined: int
    broken: dict[str, int]
    """Rows that broke each rule of the contract, by the rule's name."""
    warned: dict[str, int] = {}
    """Rows read that broke each rule which only warns; they were taken, unless they broke another one."""
    contract: str
    """Digest of the contract it was checked against; empty: none."""
    cleaning: str = ""
    """Digest of how it was cleaned; empty: it was not."""
    sealed: bool
    """Whether only evaluation may read it; each look is counted."""
    looks: int
    opened: str
    """Of a sealed version: the readable one that holds rows of it since, so that it is evidence no more; empty: none."""
    withdrawn: str = ""
    """Why somebody found it to be bad; empty: nobody did."""
    unsound: str = ""
    """The ref of the withdrawn version, this one or one that it was made from, for which nothing is learned or decided from it;
    empty: there is none."""
    tags: tuple[str, ...] = ()
    labels: tuple[LabelColumn, ...] = ()
    """The columns of labels that become known later than their rows."""
    facts: dict[str, str]
    message: str
    created: int
    creator: str
    purged: int | None = None
    """When it was decided that its content goes for good; from then on no verb reads it. None: it is there."""


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """How a version was cleaned: the declared steps, what they learned and from which version, and what they did."""

    ref: str
    made_from: str
    fitted_on: str
    steps: tuple[dict[str, Any], ...]
    fitted: dict[str, Any]
    report: CleaningReport


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A name that somebody gave to one version of a dataset, for good."""

    name: str
    tag: str
    version: int
    ref: str
    at: int
    by: str


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was found to be bad, and all that was made, trained or decided from it, by the ledger."""

    ref: str
    reason: str
    affected: tuple[str, ...]


class VersionFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The Parquet files of a version, on the machine of its workspace: one behind the other they hold its rows.

    `table` is the folder of the Delta table that it is a version of, under the number `delta_version`.
    """

    ref: str
    files: tuple[str, ...]
    rows: int
    table: str
    delta_version: int


class FilesVersion(msgspec.Struct, frozen=True, kw_only=True):
    """What a version of files holds, and the folder of the store that has its objects, on the machine of its workspace."""

    ref: str
    version: int
    manifest: Manifest
    store: str


LIVE = "live"
"""The fact that marks a dataset version as one that already holds served rows."""


class VersionRetention(msgspec.Struct, frozen=True, kw_only=True):
    """Which dataset versions a project keeps although nothing needs them: for `age` milliseconds, and the `last` so many of each
    dataset. Both None: all, for ever."""

    age: int | None = None
    last: int | None = None
    by: str = ""
    at: int | None = None


class VersionNeeded(msgspec.Struct, frozen=True, kw_only=True):
    """A version that stays, and why."""

    version: str
    by: str


class VersionPurge(msgspec.Struct, frozen=True, kw_only=True):
    """The refs of the versions whose content goes, or would, and why each other one stays (where none was named)."""

    versions: tuple[str, ...]
    kept: tuple[VersionNeeded, ...]


class Vacuumed(msgspec.Struct, frozen=True, kw_only=True):
    """Files of tables that no version needs: how many went (or would, where it was only looked), and how many are too young to."""

    files: int
    bytes: int
    young: int


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset: a named series of versions."""

    name: str
    versions: int
    latest: str
    rows: int
    created: int


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """What rows are to be learned for; rows that cannot be are not taken. `columns` are further ones that must be there."""

    label: str
    task: Literal["binary", "multiclass", "regression"] | None = None
    time: str | None = None
    group: str | None = None
    columns: tuple[str, ...] = ()


class Quarantine(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one dataset version that broke its contract, with the rule and the reason: `rows` = `held` + `released` +
    `dropped`."""

    ref: str
    rows: int
    held: int
    released: int
    dropped: int
    broken: dict[str, int]
    shown: tuple[dict[str, Any], ...]
    """The first rows that are still held, each with its number (`_row`, from 1), `_rule` and `_reason`."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about some quarantined rows of a version."""

    ref: str
    decision: Literal["released", "dropped"]
    rows: int
    held: int
    """Rows of the version that are held still."""
    into: str
    """The version that released rows are in; empty for dropped ones."""
    reason: str
    at: int
    by: str


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dataset is collected from, with `${NAME}` for its secrets, and how far it was read (None: not yet)."""

    address: str
    options: dict[str, str] = {}
    position: dict[str, Any] | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a dataset is collected by itself: every so often, at the times of a cron line (UTC), or as soon as so many rows wait.

    Exactly one of `every` (a duration such as "15m"), `cron` (five fields) and `waiting` (rows; 1: as soon as something arrives).
    """

    every: str | None = None
    cron: str | None = None
    waiting: int | None = None


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset is collected from: its sources and how far they were read, into which version, and when it is done again."""

    name: str
    ref: str
    sources: tuple[SourceState, ...]
    join: tuple[str, ...]
    on_change: str
    read: int
    """When the sources were last read with success."""
    schedule: Schedule | None = None
    due: int | None = None
    failures: int = 0
    problem: str = ""
    """Why the last turn of its schedule failed; empty: it went well."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading of the sources came to: `read` rows = those of the version that are new + `quarantined`.

    `new`: whether a version was made; else nothing had come, and `version` is the newest. `changes`: columns that are new or wider.
    """

    version: DatasetVersion
    new: bool
    read: int
    quarantined: int
    changes: tuple[str, ...] = ()


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of `posts` posts of `rows` rows: each of them is in `version`, or quarantined there, `broken` by rule."""

    version: str
    posts: int
    rows: int
    quarantined: int
    broken: dict[str, int]


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that were posted and are kept for good: in the version of `taken`, or waiting for the next one.

    `digest` is of the bytes as they came. `problem` says why what waits could not be taken, where it was due.
    """

    dataset: str
    rows: int
    digest: str
    waiting: int
    """Rows of this post and others that wait; 0: none do."""
    taken: Taken | None = None
    problem: str = ""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What was posted to a dataset and waits for its next version; `since` is when the first of it came (None: nothing waits)."""

    dataset: str
    posts: int
    rows: int
    bytes: int
    since: int | None = None


class SplitVersions(msgspec.Struct, frozen=True, kw_only=True):
    """The sides of a split as dataset versions; `test` is sealed."""

    train: str
    validation: str
    test: str
    facts: dict[str, Any]
    """What was done: rows a side, rows dropped for a group seen earlier, boundaries."""
