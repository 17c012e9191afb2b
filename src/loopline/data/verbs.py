"""What can be asked of the data room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.data.manifest import FilesDiff
from loopline.data.records import (
    By,
    Cleaned,
    Dataset,
    DatasetVersion,
    Decision,
    FilesVersion,
    LabelColumn,
    LabelsKnown,
    Leak,
    Learning,
    Quarantine,
    SplitVersions,
    Tag,
    Vacuumed,
    VersionFiles,
    VersionPurge,
    VersionRetention,
    Withdrawal,
)
from loopline.operations import Body, Bytes, operation


class DatasetsVerbs(Protocol):
    """Datasets and their immutable versions."""

    @operation("POST /projects/{project}/datasets/{name}/versions", action="run", prepares=True)
    def add(
        self,
        name: str,
        source: Body,
        contract: dict[str, Any] | None = None,
        message: str = "",
        facts: dict[str, str] | None = None,
        inputs: list[str] | None = None,
        learning: Learning | None = None,
        onto: str | None = None,
        labels: tuple[LabelColumn, ...] | None = None,
    ) -> DatasetVersion:
        """Read a file into the next version of a dataset; rows that break the contract go to quarantine.

        `source` is CSV, Parquet or NDJSON. The same content as the newest version, checked against the same contract, gives that
        version again. `onto` is the number of a version whose rows come first. `labels` are columns that become known later than
        their rows (None: those of the newest version): until then they are missing to whoever reads. Raises `Invalid` (nothing is
        written) on a file that is no table and, with `learning`, on rows that cannot be learned from: a label that is absent, of
        one value or missing in rows, too few rows to split.
        """
        ...

    @operation("GET /projects/{project}/datasets", action="read")
    def list(self) -> list[Dataset]:
        """All datasets of the project, newest first."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions", action="read")
    def log(self, name: str) -> tuple[DatasetVersion, ...]:
        """The versions of a dataset, newest first."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}", action="read")
    def show(self, name: str, version: str = "latest") -> DatasetVersion:
        """One version of a dataset: a number, a tag, a day (2026-03-01: the newest at its end, UTC), or "latest"."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/profile", action="read")
    def profile(
        self, name: str, version: str = "latest", form: str = "json", full: bool = False, label: str | None = None
    ) -> Bytes:
        """The profile of a version, as "json" or as a "html" page.

        `full` looks for more: which columns go together, rows that nearly repeat, how texts are spelled. `label` names a column to
        predict: what gives it away is told. Either is made from the rows, without those sealed for evaluation. Of columns that a
        contract calls personal it has counts, and no value.
        """
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/contract", action="read")
    def contract(self, name: str, version: str = "latest") -> dict[str, Any]:
        """The contract that a version was checked against, as JSON."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/contract/suggestion", action="read")
    def suggest(
        self,
        name: str,
        version: str = "latest",
        label: str | None = None,
        time: str | None = None,
        group: str | None = None,
    ) -> dict[str, Any]:
        """Draft a contract that the rows of a version keep, for its owner to edit; rows sealed for evaluation are left out."""
        ...

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/clean", action="run", prepares=True)
    def clean(
        self,
        name: str,
        steps: tuple[dict[str, Any], ...],
        version: str = "latest",
        fit: str | None = None,
        label: str | None = None,
        time: str | None = None,
        group: str | None = None,
        message: str = "",
    ) -> Cleaned:
        """Clean a version by declared steps, into the next version of the dataset NAME.clean; sealed rows are left out.

        The steps learn from its rows, or from those of `fit`, another version (the training side). Rows that a step sets aside are
        in the new version's quarantine, with rule and reason; where `fit` is another version, none is. No step reads the `label`
        or changes `time` and `group`. Raises `Invalid` for a step that does not suit the rows, before anything is written.
        """
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/cleaning", action="read")
    def cleaning(self, name: str, version: str = "latest") -> Cleaned:
        """How a version was cleaned: steps, what they learned and from what, rows and cells changed."""
        ...

    @operation(
        "GET /projects/{project}/datasets/{name}/versions/{version}/quarantine", action="read_personal", record="entry"
    )
    def quarantine(
        self, name: str, version: str = "latest", rule: str | None = None, limit: int = 20, personal: bool = False
    ) -> Quarantine:
        """The quarantined rows of a version that are still held, with the rule that each broke; `rule`: of that one alone.

        Values of columns that a contract calls personal are shown with `personal` alone.
        """
        ...

    @operation(
        "POST /projects/{project}/datasets/{name}/versions/{version}/quarantine/release", action="run", prepares=True
    )
    def release(
        self, name: str, version: str, reason: str, rule: str | None = None, rows: tuple[int, ...] | None = None
    ) -> Decision:
        """Take quarantined rows after all: the next version is the newest one with these rows behind it.

        Which: all that are held, those that broke one rule first, or those of these numbers (from 1, as they are listed).
        """
        ...

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/quarantine/drop", action="run")
    def drop(
        self, name: str, version: str, reason: str, rule: str | None = None, rows: tuple[int, ...] | None = None
    ) -> Decision:
        """Decide that quarantined rows are never taken; they stay on record, and counted."""
        ...

    @operation("PUT /projects/{project}/datasets/{name}/tags/{tag}", action="run")
    def tag(self, name: str, version: str, tag: str) -> Tag:
        """Name a version for good: `data:visits@published`. A tag is never moved, but can be taken away."""
        ...

    @operation("DELETE /projects/{project}/datasets/{name}/tags/{tag}", action="run")
    def untag(self, name: str, tag: str) -> None:
        """Take a tag away; the version stays."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/tags", action="read")
    def tags(self, name: str) -> tuple[Tag, ...]:
        """List the tags of a dataset, those of the newest version first."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/diff", action="read")
    def diff(self, name: str, version: str, to: str = "latest", key: tuple[str, ...] = (), form: str = "json") -> Bytes:
        """What changed from a version to another one: columns, rows (by a `key`, or whole), distributions; no row is shown.

        `to` is a version of the same dataset, or a ref of another one; the form is "json" (`data.diff.Diff`) or a "html" page.
        """
        ...

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/restore", action="run", prepares=True)
    def restore(self, name: str, version: str, message: str = "") -> DatasetVersion:
        """Make an earlier version's content the newest version again."""
        ...

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/withdraw", action="register")
    def withdraw(self, name: str, version: str, reason: str) -> Withdrawal:
        """Say that a version is bad: nothing is learned, registered or promoted from it any more, nor from what was made of it.

        It stays on record and can be looked at. Lists what was made, trained or decided from it.
        """
        ...

    @operation("GET /projects/{project}/dataset-soundness", action="read")
    def unsound(self, refs: tuple[str, ...]) -> dict[str, str]:
        """Tell which of these things rest on a withdrawn version, and on which: dataset versions, runs, model versions.

        By their refs, as given; what rests on none is left out. A thing rests on what it was made from, however far back; a model
        version on what its run read, too.
        """
        ...

    @operation(
        "GET /projects/{project}/datasets/{name}/versions/{version}/rows", action="read_personal", record="entry"
    )
    def read(self, name: str, version: str = "latest", as_of: int | None = None) -> Bytes:
        """The rows of a version as an Arrow IPC stream, but for those that a split of the dataset has sealed.

        Labels that were not known at `as_of` (milliseconds since 1970-01-01 UTC), or when their row was read, are missing. Raises
        `Refused` for a sealed version.
        """
        ...

    @operation(
        "GET /projects/{project}/datasets/{name}/versions/{version}/files", action="read_personal", record="entry"
    )
    def files(self, name: str, version: str = "latest") -> VersionFiles:
        """The Parquet files of a version, in the order of their rows, and its Delta table: for programs on the same machine.

        They are never written again; leave them as they are. Raises `Refused` for a sealed version, and for one of whose rows a
        split has sealed some.
        """
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/labels", action="read")
    def labels(self, name: str, version: str = "latest", as_of: int | None = None) -> tuple[LabelsKnown, ...]:
        """How many labels of a version are known at a time, not known yet, and missing; of columns with a declared maturity."""
        ...

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/split", action="run", prepares=True)
    def split(
        self,
        name: str,
        label: str,
        version: str = "latest",
        time: str | None = None,
        group: str | None = None,
        task: str | None = None,
        by: By | None = None,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        embargo: str = "",
        seed: int = 0,
        as_of: int | None = None,
        refuse: tuple[Leak, ...] = (),
    ) -> SplitVersions:
        """Split a version into train, validation and a sealed test, by time where there is one, each group on one side.

        `by` is "time", "group", "stratified" or "random". By time, rows within `embargo` before a later side are left out. Rows
        whose label was not known yet at `as_of` are on no side. What is amiss between the sides is told in the facts; a split with
        findings of the kinds `refuse` is refused, and nothing is written.

        Rows that were looked at in an earlier test are no rows of the new one, as far as enough others are there; those that
        are bring their looks along. An earlier test whose rows are now in a side that can be read is opened: no evidence any more.
        """
        ...

    @operation("GET /projects/{project}/dataset-retention", action="read")
    def retention(self) -> VersionRetention:
        """Show which versions of datasets are kept although nothing needs them."""
        ...

    @operation("PUT /projects/{project}/dataset-retention", action="administer")
    def set_retention(self, age: int | None, last: int | None = None) -> VersionRetention:
        """Say for how many milliseconds versions are kept, and that the `last` so many of each dataset are.

        The others go for good as soon as nothing needs them. Neither: all are kept, for ever.
        """
        ...

    @operation("POST /projects/{project}/datasets-purge", action="administer")
    def purge(
        self,
        versions: tuple[str, ...] = (),
        older_than: int | None = None,
        last: int | None = None,
        dry_run: bool = False,
    ) -> VersionPurge:
        """Remove the content of versions for good; their record stays. Nothing undoes it.

        `versions` are refs. Where none is named, those go that neither were made within `older_than` milliseconds nor are one of
        the `last` so many of their dataset (else: as the project's retention says). What is newest, tagged, withdrawn, sealed,
        holds undecided rows, or is named by a run, a model, an evaluation, a monitor, a feature view, a contract or a version of
        another dataset stays: `kept` says why. The bytes go a day later, by `vacuum`. `dry_run`: only say what would go.
        """
        ...

    @operation("POST /projects/{project}/datasets-vacuum", action="administer", prepares=True)
    def vacuum(self, dry_run: bool = False) -> Vacuumed:
        """Remove files of tables that no version of the project needs: of killed ingests and of versions purged a day ago."""
        ...


class FilesVerbs(Protocol):
    """Datasets of files: folders as versions, their content in the store. `data.files.adding` and `checkout` use them."""

    @operation(
        "POST /projects/{project}/files/{name}/missing", action="run", record="none", prepares=True, repeats=True
    )
    def missing(self, name: str, digests: tuple[str, ...]) -> tuple[str, ...]:
        """Which of these objects the project has not, in none of its datasets: they are to be sent."""
        ...

    @operation("POST /projects/{project}/files/{name}/objects", action="run", prepares=True, repeats=True)
    def put(self, name: str, objects: Body) -> int:
        """Send objects (`data.files.pack`) for a version that is about to be added; kept for a day until one needs them."""
        ...

    @operation("POST /projects/{project}/files/{name}/versions", action="run", prepares=True)
    def add(self, name: str, manifest: Body, message: str = "", facts: dict[str, str] | None = None) -> DatasetVersion:
        """Name the next version of a dataset of files, by the manifest of what is in it; its objects were sent before.

        The same content as the newest version gives that version again. Raises `Invalid` for a manifest with a path or a link
        that leaves its folder, and `Conflict` where the project has not all objects.
        """
        ...

    @operation("GET /projects/{project}/files/{name}/versions/{version}", action="read_personal", record="entry")
    def open(self, name: str, version: str = "latest") -> FilesVersion:
        """What files a version has, and where its objects are on the machine of the workspace: never write to them."""
        ...

    @operation(
        "POST /projects/{project}/files/{name}/versions/{version}/objects",
        action="read_personal",
        record="entry",
        prepares=True,
        repeats=True,
    )
    def objects(self, name: str, version: str, digests: tuple[str, ...]) -> Bytes:
        """Some objects of a version, as a pack (`data.files.pack`)."""
        ...

    @operation("GET /projects/{project}/files/{name}/versions/{version}/diff", action="read_personal", record="entry")
    def diff(self, name: str, version: str, to: str = "latest") -> FilesDiff:
        """Which files were added, removed and changed from a version to another one, of this dataset or by its ref."""
        ...
