"""The profile of a table: the mergeable one-pass summary of its columns."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from loopline.errors import Invalid, NotFound, did_you_mean
from loopline.operations import Bytes
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_full import Full
from loopline.quality.profile_warnings import ProfileWarning, findings, warnings


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The summary of a table: one object for profiling, rules, skew and drift.

    Profiles of parts merge into the profile of the whole (associative, commutative); a frozen profile is a reference, whose
    edges and levels later profiles use. `duplicates` are rows that repeat an earlier row of the same part; None against a
    reference, where they are not looked for. `groups`: how many rows are in a group of that many rows, where groups were named.
    `full`: what a full profile found.
    """

    rows: int
    columns: dict[str, ColumnProfile]
    label: str | None = None
    frozen: bool = False
    duplicates: int | None = None
    groups: dict[int, int] = {}
    full: Full | None = None
    version: int = 1

    def merge(self, other: Profile) -> Profile:
        """The profile of both tables' rows together.

        Invalid where the columns, their kinds, or the frozen edges differ. Counts and histograms are exact whatever the
        order; means and sums agree up to rounding.
        """
        if self.columns.keys() != other.columns.keys():
            lone = sorted(self.columns.keys() ^ other.columns.keys())
            raise Invalid(
                f"Only one of the two profiles has the column{'s' if len(lone) > 1 else ''} {', '.join(lone[:5])}.",
                code="profile-columns-differ",
                hint="Profile the same columns of both parts.",
                columns=lone,
            )
        return Profile(
            rows=self.rows + other.rows,
            columns={name: column.merge(other.columns[name], name) for name, column in self.columns.items()},
            label=self.label if self.label == other.label else None,
            frozen=self.frozen and other.frozen,
            duplicates=None
            if self.duplicates is None or other.duplicates is None
            else self.duplicates + other.duplicates,
            groups={
                size: self.groups.get(size, 0) + other.groups.get(size, 0)
                for size in sorted(self.groups.keys() | other.groups.keys())
            },
            full=self.full.merge(other.full) if self.full is not None and other.full is not None else None,
        )

    def freeze(self) -> Profile:
        """The same profile as a reference: at most 256 quantile bins a number, the list of levels a category."""
        return msgspec.structs.replace(
            self, columns={name: column.freeze() for name, column in self.columns.items()}, frozen=True, full=None
        )

    def only(self, names: Iterable[str]) -> Profile:
        """The profile of some of the columns; NotFound names one that is not there."""
        wanted = list(names)
        for name in wanted:
            if name not in self.columns:
                raise NotFound(
                    f"The profile has no column {name!r}.",
                    code="column-not-found",
                    hint=did_you_mean(name, self.columns),
                    column=name,
                )
        return msgspec.structs.replace(
            self,
            columns={name: self.columns[name] for name in wanted},
            label=self.label if self.label in wanted else None,
            full=None,
        )

    def marked(self, personal: Collection[str]) -> Profile:
        """The same profile, its columns of these names known to be about a person: comparisons with it show no value of theirs."""
        columns = {n: msgspec.structs.replace(self.columns[n], personal=True) for n in self.columns if n in personal}
        return msgspec.structs.replace(self, columns={**self.columns, **columns})

    def without_values(self) -> Profile:
        """The same profile to be shown: of columns about a person the counts alone."""
        columns = {n: c.without_values() for n, c in self.columns.items() if c.personal}
        return msgspec.structs.replace(self, columns={**self.columns, **columns})

    def warnings(self) -> tuple[ProfileWarning, ...]:
        """What is worth a look, worst first, in plain words."""
        found = warnings(self.columns, rows=self.rows, label=self.label, duplicates=self.duplicates)
        more = findings(self.columns, self.full, label=self.label) if self.full is not None else ()
        return tuple(sorted((*found, *more), key=lambda warning: -warning.severity))

    def _repr_html_(self) -> str | None:
        """What a notebook shows: the page, in a frame of its own."""
        from loopline.quality.profile_page import page

        return Bytes(media="text/html", data=page(self).encode())._repr_html_()

    def to_json(self) -> bytes:
        """The profile as JSON, a few kB a column."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Profile:
        """The profile again; Invalid where the text is none."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as exc:
            raise Invalid(
                f"This is no profile: {exc}.", code="profile-unreadable", hint="Make it anew from the dataset version."
            ) from exc
