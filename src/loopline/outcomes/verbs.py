"""What can be asked of the outcomes room."""

from __future__ import annotations

from typing import Protocol

from loopline.data.records import DatasetVersion
from loopline.operations import Bytes, operation
from loopline.outcomes.records import Collected, Compacted, Expired, Label, LabelsTaken, Prediction, Traffic


class PredictionsVerbs(Protocol):
    """Predictions as they were answered."""

    @operation("POST /predictions/collect", action="administer", record="digest", prepares=True)
    def collect(self) -> Collected:
        """Take what the workers logged into the record, each segment once, with its digest."""
        ...

    @operation("POST /projects/{project}/predictions/compact", action="administer", record="digest", prepares=True)
    def compact(self) -> Compacted:
        """Put small segments of the record together; nothing that can be read of it changes. A server does so by itself."""
        ...

    @operation("POST /projects/{project}/endpoints/{endpoint}/expire", action="administer", prepares=True)
    def expire(self, endpoint: str, before: int) -> Expired:
        """Remove what an endpoint answered before a time (in milliseconds) from the record, with its rows and labels, for good.

        It goes by segments: one goes when its last answer is old enough. A server does so by itself where the policy says how
        many days answers stay.
        """
        ...

    @operation("GET /projects/{project}/endpoints/{endpoint}/predictions", action="read_personal", record="entry")
    def list(
        self, endpoint: str, since: int = 0, limit: int = 100, variant: str | None = None, labelled: bool = False
    ) -> list[Prediction]:
        """The newest predictions of an endpoint, with their labels."""
        ...

    @operation("GET /projects/{project}/endpoints/{endpoint}/rows", action="read_personal", record="entry")
    def read(self, endpoint: str, since: int = 0, labelled: bool = False) -> Bytes:
        """All answers of an endpoint since a time, with rows (as JSON) and labels, as an Arrow IPC stream."""
        ...

    @operation(
        "GET /projects/{project}/endpoints/{endpoint}/predictions/{prediction:path}",
        action="read_personal",
        record="entry",
    )
    def show(self, endpoint: str, prediction: str) -> Prediction:
        """One prediction with its row, answer and label."""
        ...

    @operation("GET /projects/{project}/endpoints/{endpoint}/traffic", action="read")
    def traffic(self, endpoint: str, since: int = 0) -> Traffic:
        """What an endpoint answered, by variant: rows, errors, latencies, labels; `NAME:shadow` is what a variant only scored."""
        ...


class ScoresVerbs(Protocol):
    """What model versions say to datasets."""

    @operation("POST /projects/{project}/datasets/{name}/versions/{version}/scores", action="run", prepares=True)
    def make(
        self, name: str, model: str, version: str = "latest", into: str | None = None, message: str = ""
    ) -> DatasetVersion:
        """Score the rows of a dataset version by a model version, into the next version of the dataset NAME.scores, or `into`.

        It has the columns of the version, without labels, and `prediction`; for classes, `probability.CLASS` too. Rows that are
        sealed for evaluation are left out. Raises `Invalid` where the version lacks a column that the model reads.
        """
        ...


class LabelsVerbs(Protocol):
    """The truth that comes later."""

    @operation("POST /projects/{project}/endpoints/{endpoint}/labels", action="label", record="digest")
    def add(self, endpoint: str, labels: list[Label]) -> LabelsTaken:
        """Join labels to predictions by id. A second label for a prediction corrects the first and keeps it on record."""
        ...
