"""What can be asked of the data room."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.data.records import Dataset, DatasetVersion, Learning, Quarantine, SplitVersions
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
    ) -> DatasetVersion:
        """Read a file into the next version of a dataset; rows that break the contract go to quarantine.

        `source` is CSV, Parquet or NDJSON. The same content as the newest version, checked against the same contract, gives that
        version again. `onto` is the number of a version whose rows come first. Raises `Invalid` (nothing is written) on a file
        that is no table and, with `learning`, on rows that cannot be learned from: a label that is absent, of one value or
        missing in rows, too few rows to split.
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
        """One version of a dataset (a number, or "latest")."""
        ...

    @operation("GET /projects/{project}/datasets/{name}/versions/{version}/profile", action="read")
    def profile(self, name: str, version: str = "latest", form: str = "json") -> Bytes:
        """The profile of a version, as "json" or as a "html" page."""
        ...

    @operation(
        "GET /projects/{project}/datasets/{name}/versions/{version}/quarantine", action="read_personal", record="entry"
    )
    def quarantine(self, name: str, version: str = "latest", limit: int = 20) -> Quarantine:
        """The quarantined rows of a version, with the rule that each broke."""
        ...

    @operation(
        "GET /projects/{project}/datasets/{name}/versions/{version}/rows", action="read_personal", record="entry"
    )
    def read(self, name: str, version: str = "latest") -> Bytes:
        """The rows of a version as an Arrow IPC stream, but for those that a split of the dataset has sealed.

        Raises `Refused` for a sealed version.
        """
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
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
    ) -> SplitVersions:
        """Split a version into train, validation and a sealed test, by time where there is one, each group on one side.

        Rows that were looked at in an earlier test are no rows of the new one, as far as enough others are there; those that
        are bring their looks along. An earlier test whose rows are now in a side that can be read is opened: no evidence any more.
        """
        ...
