"""What can be asked about runs."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.operations import Body, Bytes, operation
from loopline.ports.drawing import PlotForm
from loopline.tracking.comparison.result import Comparison
from loopline.tracking.records import (
    Artifact,
    Correction,
    Ending,
    ExternalDataset,
    ExternalUse,
    Lifecycle,
    Logged,
    Measure,
    Part,
    Point,
    Purge,
    Received,
    Retention,
    Run,
    RunGroup,
    RunGroupPage,
    RunKind,
    RunPage,
    RunStatus,
    Search,
    TagRetention,
    Upload,
)


class RunsVerbs(Protocol):
    """Runs: parameters, metric points, artifacts, inputs and outputs of each execution."""

    @operation("POST /projects/{project}/runs", action="run")
    def create(
        self,
        name: str,
        kind: RunKind = "run",
        parent: str | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        inputs: tuple[str, ...] = (),
        environment: dict[str, Any] | None = None,
        group: int | None = None,
        id: str | None = None,
        created: int | None = None,
    ) -> Run:
        """Start a run, in a group by its number (none: the default one), with what is known of it already.

        `created`: when it began, in milliseconds since 1970 UTC, where that was not now. `id`: a ULID of the caller's own; one
        that is there is the same run, and is given as it is.
        """
        ...

    @operation("POST /projects/{project}/runs/{run}/metrics", action="run", record="digest")
    def log(
        self,
        run: str,
        metrics: list[Point] | None = None,
        params: dict[str, Any] | None = None,
        tags: dict[str, str | None] | None = None,
        name: str | None = None,
    ) -> Logged:
        """Add metric points, params and tags to a run, and give it another name, all or none; once answered, they are on the disk.

        A point is its key, step, time and value: the same point again is the same point. Params and tags are as `params` and
        `tag` set them.
        """
        ...

    @operation("POST /projects/{project}/runs/{run}/measures", action="run", record="digest")
    def measure(self, run: str, by: str, measures: list[Measure]) -> Logged:
        """Add what the run `by` measured of a model that was logged (`run`, of kind "model"), and on which data."""
        ...

    @operation("GET /projects/{project}/measures", action="read")
    def measures(self, models: tuple[str, ...]) -> tuple[Measure, ...]:
        """List what was measured of logged models, by their ids, at most 1,000 of them."""
        ...

    @operation(
        "PUT /projects/{project}/journals/{sender}/{number}", action="run", record="digest", prepares=True, repeats=True
    )
    def send(self, sender: str, number: int, content: Body) -> Received:
        """Take the batch of this number from a journal (see `tracking/journal.py`), whole or not at all.

        A batch that was taken already is acknowledged again and changes nothing; one that leaves a gap is refused.
        """
        ...

    @operation("POST /projects/{project}/journals/{sender}/close", action="run", repeats=True)
    def close(self, sender: str) -> Received:
        """Say that no more comes from a journal: runs of it that do not say how they ended were killed."""
        ...

    @operation("POST /projects/{project}/journals/{sender}/skip", action="run", prepares=True, repeats=True)
    def skip_batches(self, sender: str, number: int) -> Received:
        """Say that the batches of a journal up to this number are lost, and go on behind them; the ledger keeps it.

        What was taken already is not touched by it, and nothing happens where the batch is.
        """
        ...

    @operation("GET /projects/{project}/journals/{sender}", action="run")
    def received(self, sender: str) -> Received:
        """Show how far a journal has been taken."""
        ...

    @operation("POST /projects/{project}/runs/{run}/params", action="run")
    def params(self, run: str, params: dict[str, Any]) -> Run:
        """Set params of a run. A param has one value for good: the same again is fine, another is refused."""
        ...

    @operation("POST /projects/{project}/runs/{run}/corrections", action="run")
    def correct(self, run: str, params: dict[str, Any], reason: str) -> Run:
        """Change params that were set wrongly; what stood there stays on record, with the reason."""
        ...

    @operation("GET /projects/{project}/runs/{run}/corrections", action="read")
    def corrections(self, run: str) -> tuple[Correction, ...]:
        """List the params that were changed after they were set, oldest first."""
        ...

    @operation("PUT /projects/{project}/runs/{run}/note", action="run")
    def note(self, run: str, text: str) -> Run:
        """Set what people say of a run (Markdown), in place of what was there."""
        ...

    @operation("POST /projects/{project}/runs/{run}/inputs", action="run")
    def link(self, run: str, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> Run:
        """Add refs that a run read or made, while it goes on."""
        ...

    @operation("GET /projects/{project}/runs/{run}/console", action="read")
    def console(self, run: str) -> Bytes:
        """Fetch what a run printed, as far as it is kept."""
        ...

    @operation("POST /projects/{project}/runs/{run}/tags", action="run")
    def tag(self, run: str, tags: dict[str, str | None]) -> Run:
        """Set or replace tags of a run; null removes one."""
        ...

    @operation("POST /projects/{project}/runs/{run}/external", action="run")
    def use(self, run: str, datasets: list[ExternalDataset]) -> Run:
        """Say which data a run read that is held elsewhere; what is said of the same data again changes nothing."""
        ...

    @operation("GET /projects/{project}/external", action="read")
    def used(self, groups: tuple[int, ...] = (), limit: int = 1000) -> tuple[ExternalUse, ...]:
        """List the data held elsewhere that the runs of some groups read (none given: of all)."""
        ...

    @operation("PATCH /projects/{project}/runs/{run}", action="run")
    def change(
        self, run: str, name: str | None = None, status: RunStatus | None = None, ended: int | None = None
    ) -> Run:
        """Give a run another name, or say anew how it stands: resumed ("running"), or how and when it ended."""
        ...

    @operation("POST /projects/{project}/runs/{run}/finish", action="run")
    def finish(self, run: str, status: Ending = "finished", outputs: tuple[str, ...] = (), message: str = "") -> Run:
        """End a run, with the refs that it made."""
        ...

    @operation("DELETE /projects/{project}/runs/{run}", action="run")
    def delete(self, run: str) -> Run:
        """Delete a run: it is kept, shown only where deleted ones are asked for, and takes no more; `restore` undoes it.

        What its own journal still brings is taken nevertheless, so that nothing that was logged is lost.
        """
        ...

    @operation("POST /projects/{project}/runs/{run}/restore", action="run")
    def restore(self, run: str) -> Run:
        """Make a deleted run live again, as it was."""
        ...

    @operation("POST /projects/{project}/run-purge", action="administer")
    def purge(
        self,
        runs: tuple[str, ...] = (),
        groups: tuple[int, ...] = (),
        older_than: int | None = None,
        dry_run: bool = False,
    ) -> Purge:
        """Remove deleted runs for good, with their points and files; nothing undoes it.

        `groups`: deleted groups that go with all their runs. Where neither is named, what was deleted at least `older_than`
        milliseconds ago goes (else: as long ago as the project's retention says). A run that a model or dataset version names
        stays, and so does one that a tag keeps; the ledger keeps its entries. `dry_run`: only say what would go.
        """
        ...

    @operation("GET /projects/{project}/run-retention", action="read")
    def retention(self) -> Retention:
        """Show how long deleted runs are kept."""
        ...

    @operation("PUT /projects/{project}/run-retention", action="administer")
    def set_retention(self, deleted: int | None, tags: tuple[TagRetention, ...] = ()) -> Retention:
        """Say after how many milliseconds deleted runs are removed for good (none: never), and by which tags they are kept longer.

        What a tag keeps is removed by nobody before its time, also not where it is named or an age is given.
        """
        ...

    @operation("GET /projects/{project}/runs/{run}", action="read")
    def show(self, run: str) -> Run:
        """Show a run with its params, tags and the last value of each metric."""
        ...

    @operation("GET /projects/{project}/last-points", action="read")
    def last(self, runs: tuple[str, ...]) -> dict[str, tuple[Point, ...]]:
        """Show the last point of each metric of some runs, by their ids, at most 1,000 of them."""
        ...

    @operation("GET /projects/{project}/runs", action="read")
    def list(
        self,
        name: str | None = None,
        kind: RunKind | None = None,
        status: RunStatus | None = None,
        parent: str | None = None,
        limit: int = 100,
        after: str | None = None,
        groups: tuple[int, ...] = (),
        lifecycle: Lifecycle = "live",
    ) -> RunPage:
        """List runs, newest first, a page at a time."""
        ...

    @operation("GET /projects/{project}/run-search", action="read")
    def search(
        self,
        filter: str = "",
        order: tuple[str, ...] = (),
        limit: int = 100,
        after: str | None = None,
        saved: str | None = None,
        groups: tuple[int, ...] = (),
        lifecycle: Lifecycle = "live",
    ) -> RunPage:
        """Find runs by a filter (see docs/search.md), ordered by anything, a page at a time.

        `groups`: only runs of these, by number; none: of all.
        """
        ...

    @operation("GET /projects/{project}/run-comparison", action="read")
    def compare(self, runs: tuple[str, ...], metrics: tuple[str, ...] = (), all: bool = False) -> Comparison:
        """Hold runs against the first of them: what differs (`all`: what does not, too), and what is more than chance.

        Where there are folds, or the same runs with other seeds, each metric's difference has an interval (docs/comparing.md).
        """
        ...

    @operation("GET /projects/{project}/run-plot", action="read")
    def plot(self, runs: tuple[str, ...], metric: str, form: PlotForm = "png") -> Bytes:
        """Draw one metric of some runs over each other, by step."""
        ...

    @operation("GET /projects/{project}/runs/{run}/bundle", action="read")
    def export_bundle(self, run: str) -> Bytes:
        """Fetch a run that has ended, with its children, as one signed file for another instance (docs/import-export.md)."""
        ...

    @operation("POST /projects/{project}/run-bundles", action="run", prepares=True)
    def import_bundle(self, content: Body, key: str = "") -> Run:
        """Take the runs of a bundle, whole or not at all; again is nothing twice.

        `key`: the fingerprint of the key that signed it, as its owner told it, or how that begins (16 characters at least); it
        may be left out where the key is this instance's own.
        """
        ...

    @operation("PUT /projects/{project}/searches/{name}", action="run")
    def save_search(self, name: str, filter: str, order: tuple[str, ...] = ()) -> Search:
        """Give a search a name, in place of what had it."""
        ...

    @operation("GET /projects/{project}/searches", action="read")
    def searches(self) -> tuple[Search, ...]:
        """List the searches that have a name."""
        ...

    @operation("DELETE /projects/{project}/searches/{name}", action="run")
    def forget_search(self, name: str) -> None:
        """Take a search's name away."""
        ...

    @operation("GET /projects/{project}/runs/{run}/metrics/{key:path}", action="read")
    def history(self, run: str, key: str, points: int | None = None) -> tuple[Point, ...]:
        """Show the points of one metric of a run, by step and time; `points`: at most so many, for a plot.

        Fewer points are chosen so that a line through them looks like the line through all: the first, the last, and of each
        stretch in between the least and the greatest (M4: Jugel et al. 2014).
        """
        ...

    @operation("PUT /projects/{project}/runs/{run}/artifacts/{path:path}", action="run", prepares=True)
    def put_artifact(self, run: str, path: str, content: Body) -> Artifact:
        """Keep a file with a run, under a path of its own; the same bytes are stored once."""
        ...

    @operation("POST /projects/{project}/runs/{run}/uploads", action="run", record="none", prepares=True)
    def start_upload(self, run: str, path: str, parts: int) -> Upload:
        """Begin a file that comes in so many parts, each a body of its own; nothing of the run changes until it is complete.

        An upload that gets no part for a day is removed.
        """
        ...

    @operation(
        "PUT /projects/{project}/runs/{run}/uploads/{upload}/parts/{number}",
        action="run", record="none", prepares=True, repeats=True,
    )  # fmt: skip
    def put_part(self, run: str, upload: str, number: int, content: Body) -> Part:
        """Bring a part, in whatever order; a part that comes twice is the one whose digest is named at the end."""
        ...

    @operation(
        "POST /projects/{project}/runs/{run}/uploads/{upload}/complete", action="run", prepares=True, repeats=True
    )
    def complete_upload(self, run: str, upload: str, parts: tuple[str, ...], path: str | None = None) -> Artifact:
        """Join the parts, named by their digests in their order, and keep the file with the run; again answers the same.

        `path`: what the upload was begun for, by who completes it; it is refused where it was begun for another one.
        """
        ...

    @operation("DELETE /projects/{project}/runs/{run}/uploads/{upload}", action="run", record="none", prepares=True)
    def abort_upload(self, run: str, upload: str, path: str | None = None) -> None:
        """Give an upload up, and remove its parts; with `path`, only where it was begun for that."""
        ...

    @operation("POST /projects/{project}/runs/{run}/artifacts/{path:path}", action="run")
    def copy_artifact(self, run: str, path: str, digest: str) -> Artifact:
        """Keep bytes with a run that are a file of a run in this project already, without sending them again.

        `digest`: `blake3:<hex>` of the bytes. Bytes that no run of the project has are not found, whoever else has them.
        """
        ...

    @operation("DELETE /projects/{project}/runs/{run}/artifacts/{path:path}", action="run")
    def remove_artifact(self, run: str, path: str) -> tuple[Artifact, ...]:
        """Remove a file of a run, or all files of a folder; the answer is what was removed, and the ledger keeps their digest."""
        ...

    @operation("GET /projects/{project}/runs/{run}/artifacts", action="read")
    def artifacts(self, run: str) -> tuple[Artifact, ...]:
        """List the files of a run."""
        ...

    @operation("GET /projects/{project}/runs/{run}/artifacts/{path:path}", action="read")
    def artifact(self, run: str, path: str) -> Bytes:
        """Fetch a file of a run."""
        ...


class GroupsVerbs(Protocol):
    """Groups of runs that belong together; number 0, the default one, is there in every project."""

    @operation("POST /projects/{project}/groups", action="run")
    def create(self, name: str, tags: dict[str, str] | None = None, note: str = "") -> RunGroup:
        """Make a group. No two live groups of a project have one name."""
        ...

    @operation("GET /projects/{project}/groups/{group}", action="read")
    def show(self, group: int) -> RunGroup:
        """Show a group by its number, deleted or not."""
        ...

    @operation("GET /projects/{project}/groups", action="read")
    def list(
        self, name: str | None = None, lifecycle: Lifecycle = "live", limit: int = 100, after: int | None = None
    ) -> RunGroupPage:
        """List groups by number, a page at a time."""
        ...

    @operation("PATCH /projects/{project}/groups/{group}", action="run")
    def change(self, group: int, name: str | None = None, note: str | None = None) -> RunGroup:
        """Give a group another name or note."""
        ...

    @operation("POST /projects/{project}/groups/{group}/tags", action="run")
    def tag(self, group: int, tags: dict[str, str | None]) -> RunGroup:
        """Set or replace tags of a group; null removes one."""
        ...

    @operation("DELETE /projects/{project}/groups/{group}", action="run")
    def delete(self, group: int) -> RunGroup:
        """Delete a group and with it its live runs; `restore` brings back just those."""
        ...

    @operation("POST /projects/{project}/groups/{group}/restore", action="run")
    def restore(self, group: int) -> RunGroup:
        """Make a deleted group live again, and the runs that were deleted with it."""
        ...
