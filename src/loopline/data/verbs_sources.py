"""What can be asked of the sources that datasets are collected from, and of the inbox."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from loopline.data.records import Collected, Collection, LabelColumn, Posted, SourceState, Taken, Waiting
from loopline.operations import Body, operation


class SourcesVerbs(Protocol):
    """What datasets are collected from: files, stores, databases, topics; read into versions, each row once."""

    @operation("POST /projects/{project}/sources/{name}", action="run", prepares=True)
    def collect(
        self,
        name: str,
        sources: tuple[SourceState, ...],
        contract: dict[str, Any] | None = None,
        message: str = "",
        join: tuple[str, ...] = (),
        on_change: Literal["widen", "quarantine", "refuse"] = "widen",
        labels: tuple[LabelColumn, ...] | None = None,
        facts: dict[str, str] | None = None,
    ) -> Collected:
        """Read sources into the next version of a dataset, and put on record where they are: `sync` goes on from there.

        Several sources go one behind the other or, with `join`, beside each other by these columns. Only the operating-system
        user of the server's own machine may: it reads as that user. A secret is written as `${NAME}` and taken from the
        environment. `position` of a source is none of the caller's. The same sources again are a `sync`.
        """
        ...

    @operation("POST /projects/{project}/sources/{name}/sync", action="run", prepares=True, repeats=True)
    def sync(self, name: str, message: str = "", waiting: int = 1, facts: dict[str, str] | None = None) -> Collected:
        """Read what came since into the next version of a dataset: each row of a source is in exactly one version's reading.

        Where a source grows its rows go behind those that are there, else they replace them. Nothing is made as long as fewer
        than `waiting` rows have come.
        """
        ...

    @operation("GET /projects/{project}/sources", action="read")
    def list(self) -> tuple[Collection, ...]:
        """All datasets of the project that are collected, by name."""
        ...

    @operation("GET /projects/{project}/sources/{name}", action="read")
    def show(self, name: str) -> Collection:
        """What a dataset is collected from, how far it was read, and when it is read again."""
        ...

    @operation("PUT /projects/{project}/sources/{name}/schedule", action="run")
    def schedule(
        self, name: str, every: str | None = None, cron: str | None = None, waiting: int | None = None
    ) -> Collection:
        """Have a dataset collected by itself from now on, by a running `loopline up`: by exactly one of the three rules."""
        ...

    @operation("DELETE /projects/{project}/sources/{name}/schedule", action="run")
    def unschedule(self, name: str) -> Collection:
        """Collect a dataset no more by itself; its sources stay on record."""
        ...

    @operation("POST /projects/{project}/sources/{name}/turn", action="run")
    def turn(self, name: str, problem: str = "") -> Collection:
        """Put on record that a turn of the schedule was taken, or why it failed: the next one is due later each time."""
        ...


class InboxVerbs(Protocol):
    """Rows that others send to a dataset: kept at once, and taken into versions together."""

    @operation("POST /projects/{project}/datasets/{name}/rows", action="send", prepares=True)
    def post(self, name: str, rows: Body) -> Posted:
        """Send rows that go behind the newest version of a dataset, checked against its contract; what breaks it is quarantined.

        `rows` are CSV, NDJSON, JSON, Parquet, Avro, Arrow or Excel, by their bytes and their `Content-Type`, plain or packed
        (`Content-Encoding`). They are kept for good when this returns. They are in a version at once where none was made for a
        minute or 10,000 rows wait; else they wait for that. Under an idempotency key they are taken once, however often they
        are sent. Raises `Invalid` (nothing is kept) on what is no table, or none with the dataset's columns.
        """
        ...

    @operation("GET /projects/{project}/datasets/{name}/rows", action="read")
    def waiting(self, name: str) -> Waiting:
        """What was posted to a dataset and waits for its next version."""
        ...

    @operation("POST /projects/{project}/datasets/{name}/rows/take", action="run", prepares=True, repeats=True)
    def take(self, name: str) -> Taken | None:
        """Take what waits into the next version now; None where nothing waits. A running server does so by itself."""
        ...
