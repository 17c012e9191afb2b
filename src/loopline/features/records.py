"""What a feature table looks like from outside: its fields, and the signature of a model on them."""

from __future__ import annotations

from typing import Literal

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
