"""The data room's verbs, within one transaction."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from loopline.access import authority
from loopline.data.asked import Asked
from loopline.data.cleaning import CleanedVersions
from loopline.data.diff import diff
from loopline.data.diff_page import page as diff_page
from loopline.data.learning import check_learning
from loopline.data.maturity import READ, Readable, check_labels, counted, known, stretches_of, with_read, without
from loopline.data.named import Named
from loopline.data.quarantine import Held, all_held
from loopline.data.readers import read_table
from loopline.data.records import (
    By,
    Cleaned,
    Dataset,
    DatasetVersion,
    Decision,
    LabelColumn,
    LabelsKnown,
    Leak,
    Learning,
    Quarantine,
    SplitVersions,
    Tag,
    VersionFiles,
    Withdrawal,
)
from loopline.data.retention import Retained
from loopline.data.sides import write_sides
from loopline.data.tables import looks
from loopline.data.uploads import fitting, on_disk, source_name, told
from loopline.data.verbs import DatasetsVerbs
from loopline.data.windows import check_evidence
from loopline.data.written import Written
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Refused, did_you_mean
from loopline.hashing import digest_json
from loopline.ledger.lineage import made_of
from loopline.operations import Body, Bytes, check_limit
from loopline.pipeline.service import forget
from loopline.ports.blobs import BlobStore
from loopline.quality.blocks import Blocks, ipc_stream
from loopline.quality.contract import Contract
from loopline.quality.contract_check import parted
from loopline.quality.contract_suggest import suggest
from loopline.quality.profile import Profile, profile
from loopline.quality.profile_page import page
from loopline.refs import check_name


class DatasetsService(Retained, DatasetsVerbs):
    """Datasets and their versions; `tables` is the folder of the Delta tables, `scratch` one for uploads under way.

    `look` runs the files of the process's owner that declare functions for contracts.
    """

    def __init__(
        self, tx: Tx, blobs: BlobStore, tables: Path, scratch: Path, look: Callable[[], None] = lambda: None
    ) -> None:
        self.tx = tx
        self.blobs = blobs
        self.scratch = scratch
        self._look = look
        self.named = Named(tx)
        self.written = Written(tx, blobs, tables, self.named)

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
        check_name(name, "name of a dataset")
        read_from = authority.readable(self.tx, inputs or [])
        rules = self.rules(contract) if contract else None
        with on_disk(source, self.scratch) as path:
            read = read_table(path, name=source.name, scratch=self.scratch)
            rows, since = read.rows, [[read.rows.height, self.tx.now]]
            if onto is not None:
                before = self.named.row(name, onto)
                self.named.check_open(before)
                self.named.check_sound([before])
                ref = self.tx.ref("data", name, before.version)
                earlier = self.written.stored(before)
                rows, since = fitting(rows, earlier.schema, ref).behind(earlier), [*before.read, *since]
                read_from.append(ref)
            good, quarantined, broken, warned = rows, None, dict[str, int](), dict[str, int]()
            if rules is not None:
                asked = Asked(self.named, self.blobs, self.readable)
                good, quarantined, report = parted(rows, rules, beyond=asked.beyond)
                assert rows.height == good.height + quarantined.height, "rows in are rows taken and rows held back"
                since = without(since, report.mask)
                read_from += asked.refs
                broken, warned = report.counts("quarantine"), report.counts("warn")
                if good.height == 0:
                    raise all_held(source.name, name, broken)
            labels = self.written.labels(name) if labels is None else labels
            check_labels(good.empty, labels)
            self._windows(name).check_columns(good.columns, source.name, learning.label if learning else None)
            if learning is not None:
                taught = with_read(good.frame(), since)
                check_learning(known(taught, labels, learning.label).drop(READ), learning)
            return self.written.write(
                name,
                good,
                quarantined=quarantined,
                broken=broken,
                warned=warned,
                contract=rules,
                source=f"source:{source_name(source.name)}@{read.facts.digest.partition(':')[2]}",
                inputs=read_from,
                facts={"format": read.format, **told(read.facts.warnings), **(facts or {})},
                message=message,
                labels=labels,
                read=since,
                by_hand=learning is None,
            )

    def list(self) -> list[Dataset]:
        return self.named.datasets()

    def log(self, name: str) -> tuple[DatasetVersion, ...]:
        return self.named.records(self.named.all(name))

    def show(self, name: str, version: str = "latest") -> DatasetVersion:
        return self.named.record(self.named.row(name, version))

    def profile(
        self, name: str, version: str = "latest", form: str = "json", full: bool = False, label: str | None = None
    ) -> Bytes:
        check_form(form)
        row = self.named.row(name, version)
        self.named.check_open(row)
        self.named.check_table(row)
        if full or label is not None:
            found = profile(self.readable(row), label=label, full=full)
        else:
            found = Profile.from_json(self.blobs.read(row.profile))
        found = found.marked(self.named.personal(name)).without_values()
        if form == "json":
            return Bytes(media="application/json", data=found.to_json())
        return Bytes(media="text/html", data=page(found, title=self.named.ref(row)).encode())

    def contract(self, name: str, version: str = "latest") -> dict[str, Any]:
        row = self.named.row(name, version)
        if not row.contract:
            raise NotFound(
                f"{self.named.ref(row)} was checked against no contract.",
                code="no-contract",
                hint=f"Draft one: loopline data contract {name}@{row.version} --suggest",
            )
        return self.named.contract(row.contract)

    def suggest(
        self,
        name: str,
        version: str = "latest",
        label: str | None = None,
        time: str | None = None,
        group: str | None = None,
    ) -> dict[str, Any]:
        row = self.named.row(name, version)
        self.named.check_open(row)
        hidden = sorted(self.named.personal(name))
        draft = suggest(self.readable(row), label=label, time=time, group=group, personal=hidden)
        return dict(msgspec.to_builtins(draft))

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
        keep = [column for column in (time, group) if column]
        return self._cleaned().make(name, version, steps, fit=fit, label=label, keep=keep, message=message)

    def cleaning(self, name: str, version: str = "latest") -> Cleaned:
        return self._cleaned().of(self.named.row(name, version))

    def quarantine(
        self, name: str, version: str = "latest", rule: str | None = None, limit: int = 20, personal: bool = False
    ) -> Quarantine:
        check_limit(limit, "rows")
        row = self.named.row(name, version)
        self.tx.note(inputs=[self.named.ref(row)])
        return self._held(row).listed(rule, limit, hidden=() if personal else self.named.personal(name))

    def release(
        self, name: str, version: str, reason: str, rule: str | None = None, rows: tuple[int, ...] | None = None
    ) -> Decision:
        row = self.named.row(name, version)
        self.named.check_sound([row])
        newest = self.named.row(name)
        self.named.check_open(newest)
        held = self._held(row)
        chosen = held.chosen(rule, rows, reason)
        ref = self.named.ref(row)
        taken = Blocks.of(self._cleaned().cleaned(row, held.taken(chosen)))
        made = self.written.write(
            name,
            fitting(taken, self.written.schema(newest).schema, self.named.ref(newest)),
            inputs=list(dict.fromkeys([self.named.ref(newest), ref])),
            facts=newest.facts,
            message=f"taken after all, of the quarantine of {ref}: {reason}",
            behind=newest,
            read=[[int(chosen.sum()), row.created]],
        )
        return held.decide("released", chosen, reason, made.ref)

    def drop(
        self, name: str, version: str, reason: str, rule: str | None = None, rows: tuple[int, ...] | None = None
    ) -> Decision:
        row = self.named.row(name, version)
        held = self._held(row)
        self.tx.note(inputs=[self.named.ref(row)])
        return held.decide("dropped", held.chosen(rule, rows, reason), reason, "")

    def tag(self, name: str, version: str, tag: str) -> Tag:
        return self.named.tag(name, version, tag)

    def untag(self, name: str, tag: str) -> None:
        self.named.untag(name, tag)

    def tags(self, name: str) -> tuple[Tag, ...]:
        return self.named.tags(name)

    def diff(self, name: str, version: str, to: str = "latest", key: tuple[str, ...] = (), form: str = "json") -> Bytes:
        check_form(form)
        sides = [self.named.row(name, version), self.named.of_ref(to) if ":" in to else self.named.row(name, to)]
        for row in sides:
            self.named.check_open(row)
        found = diff(
            *map(self.readable, sides),
            names=(self.named.ref(sides[0]), self.named.ref(sides[1])),
            totals=(sides[0].rows, sides[1].rows),
            key=key,
            personal=self.named.personal(name) | self.named.personal(sides[1].name),
        )
        if form == "html":
            return Bytes(media="text/html", data=diff_page(found).encode())
        return Bytes(media="application/json", data=msgspec.json.encode(found))

    def restore(self, name: str, version: str, message: str = "") -> DatasetVersion:
        row = self.named.row(name, version)
        self.named.check_open(row)
        self.named.check_sound([row])
        return self.written.restore(row, message)

    def withdraw(self, name: str, version: str, reason: str) -> Withdrawal:
        row = self.named.row(name, version)
        ref = self.named.ref(row)
        if not reason.strip():
            raise Invalid(
                f"{ref} is not withdrawn without a reason.", code="no-reason", hint="Say what is wrong with it."
            )
        if row.withdrawn is not None and row.withdrawn != reason:
            raise Conflict(f"{ref} is withdrawn already: {row.withdrawn}.", code="withdrawn-already")
        self._set(row, withdrawn=reason)
        affected = made_of(self.tx, ref)
        forget(self.tx, [ref, *(made for made in affected if made.startswith("data:"))])
        self.tx.note(inputs=[ref], digests={"reason": digest_json(reason)})
        return Withdrawal(ref=ref, reason=reason, affected=tuple(affected))

    def unsound(self, refs: tuple[str, ...]) -> dict[str, str]:
        found = zip(refs, map(self.named.soundness().bad, refs), strict=True)
        return {ref: self.named.ref(bad) for ref, bad in found if bad is not None}

    def labels(self, name: str, version: str = "latest", as_of: int | None = None) -> tuple[LabelsKnown, ...]:
        row = self.named.row(name, version)
        frame = self.written.rows_read(row)
        return tuple(counted(frame, one, as_of) for one in self.written.labels_of(row))

    def read(self, name: str, version: str = "latest", as_of: int | None = None) -> Bytes:
        row = self.named.row(name, version)
        ref = self.tx.ref("data", name, row.version)
        self.named.check_open(row)
        self.tx.note(inputs=[ref])
        return Bytes(media="application/vnd.apache.arrow.stream", data=ipc_stream(self.readable(row, as_of)))

    def files(self, name: str, version: str = "latest") -> VersionFiles:
        row = self.named.row(name, version)
        ref = self.named.ref(row)
        self.named.check_open(row)
        if sealed := row.rows - self.readable(row).height:
            raise Refused(
                f"{sealed:,} of the {row.rows:,} rows of {ref} are sealed for evaluation, and its files hold them.",
                code="sealed",
                hint=f"Use {name}.train and {name}.validation, or the rows that are left: loopline data read {ref}",
            )
        self.tx.note(inputs=[ref])
        return self.written.files(row)

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
        row = self.named.row(name, version)
        self.named.check_open(row)
        self.named.check_sound([row])
        return write_sides(
            self.written,
            self._windows(name),
            row,
            label=label,
            time=time,
            group=group,
            task=task,
            by=by,
            fractions=fractions,
            embargo=embargo,
            seed=seed,
            as_of=as_of,
            refuse=refuse,
        )

    def rules(self, contract: dict[str, Any]) -> Contract:
        """A contract to check rows against. Raises `Invalid` where it names a function that this process does not have."""
        return Contract.from_dict(contract).settled(self._look)

    def frame(self, ref: str, as_of: int | None = None) -> pl.DataFrame:
        """The rows of a version that is not sealed, for the rooms above. Raises `Refused` for a sealed one."""
        row = self.named.of_ref(ref)
        return pl.read_ipc_stream(io.BytesIO(self.read(row.name, str(row.version), as_of).data))

    def look(self, ref: str) -> tuple[pl.DataFrame, int]:
        """The rows of a version, sealed or not, and which look at them this is. For evaluation alone, which must `count` it."""
        row = self.named.of_ref(ref)
        self.named.check_sound([row])
        look = 1 + self.named.looks(row)
        check_evidence(row, ref, look)
        return self.written.rows(row), look

    def count(self, ref: str, look: int, purpose: str) -> bool:
        """Counts a look, before anything that it showed is kept. False where another was counted under that number meanwhile."""
        row = self.named.of_ref(ref)
        self.tx.write()
        if look != 1 + self.named.looks(row):
            return False
        key = {"project": self.tx.project, "name": row.name, "version": row.version}
        self.tx.execute(looks.insert().values(**key, look=look, by=self.tx.principal, at=self.tx.now, purpose=purpose))
        self.tx.note(inputs=[self.tx.ref("data", row.name, row.version)])
        return True

    def readable(self, row: Any, as_of: int | None = None) -> pl.DataFrame:
        """The rows of a version, but for those sealed for evaluation; labels that are not known are missing."""
        return self._rows(row).shown(as_of)

    def sound(self, ref: str) -> Readable:
        """What a version has to learn from, for the rooms above. Raises `Refused` for one that is sealed or withdrawn."""
        row = self.named.of_ref(ref)
        self.named.check_open(row)
        self.named.check_sound([row])
        return self._rows(row)

    def unsealed(self, row: Any) -> Blocks:
        """The rows of a version in blocks, without those sealed for evaluation and without labels, for the rooms above.

        Raises `Refused` for a version that is sealed or withdrawn.
        """
        self.named.check_open(row)
        self.named.check_sound([row])
        windows, stored = self._windows(row.name), self.written.stored(row)
        labels = {label.column for label in self.written.labels_of(row)}
        kept = [column for column in stored.columns if column not in labels]
        if all(window.opened is not None for window in windows.all()):
            return stored.only(kept)
        height = sum(windows.readable(block).height for block in stored)
        return Blocks(stored.schema, height, lambda n: (windows.readable(b).select(n) for b in stored)).only(kept)

    def _rows(self, row: Any) -> Readable:
        rows = self._windows(row.name).readable(self.written.rows_read(row))
        labels = self.written.labels_of(row)
        return Readable(self.named.ref(row), row.rows, rows.drop(READ), labels, stretches_of(rows[READ]))

    def _cleaned(self) -> CleanedVersions:
        return CleanedVersions(self.named, self.written, self.blobs, self._rows)

    def _held(self, row: Any) -> Held:
        return Held(self.tx, row, self.named.ref(row), self.written.quarantined)


def check_form(form: str) -> None:
    """Raises `Invalid` for a form in which nothing is told."""
    if form not in ("json", "html"):
        raise Invalid(f"There is no form {form!r}.", code="bad-form", hint=did_you_mean(form, ["json", "html"]))
