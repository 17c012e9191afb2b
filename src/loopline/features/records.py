"""What a feature table looks like from outside: its fields, and the signature of a model on them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["number", "integer", "boolean", "category", "date", "text"]
Task = Literal["binary", "multiclass", "regression"]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One raw input column.

    `categories` are the levels seen in training (at most 1,000, the most frequent ones, sorted; empty for other kinds);
    `minimum` and `maximum` the range seen in training (dates: days since 1970-01-01). They inform; a value outside is no error.
    A column that is not `nullable` must be given in every row.
    """

    name: str
    kind: Kind
    nullable: bool
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives. `classes` are the label's values as strings; binary: (negative, positive)."""

    inputs: tuple[Field, ...]
    task: Task
    classes: tuple[str, ...] = ()


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """A column that is not used as a feature, and the reason in words for a person."""

    name: str
    reason: str


class Inference(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a training frame: the fields to use, and the columns left out with their reasons."""

    fields: tuple[Field, ...]
    dropped: tuple[Dropped, ...]


class FeatureViewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One definition of a feature view (`definitions.FeatureView` as JSON), and what is online of it."""

    ref: str
    name: str
    version: int
    declaration: dict[str, Any]
    digest: str
    at: int
    by: str
    online: Materialization | None = None
    """The newest materialisation of any version of the view; None: it was never materialised."""


class Materialization(msgspec.Struct, frozen=True, kw_only=True):
    """The features of all entities of a view at one moment, made for looking up.

    `as_of` is the moment: milliseconds since 1970-01-01 UTC where the view's time is a date, else in its own unit. `sealed` rows of
    the source were left out, since a split of it sealed them for evaluation.
    """

    view: str
    number: int
    as_of: float
    source: str
    entities: int
    sealed: int
    digest: str
    at: int
    by: str


class FeatureValues(msgspec.Struct, frozen=True, kw_only=True):
    """Features of some entities, in the order in which they were asked for, as they were at `as_of`.

    `age` is how many milliseconds ago they were made; `stale` says why newer ones could be made, and is empty where there is no
    reason.
    """

    view: str
    as_of: float
    source: str
    age: int
    stale: str
    values: tuple[dict[str, Any], ...]
