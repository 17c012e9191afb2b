"""From raw columns to the float32 features of a model, fitted on training rows only; the same object at training and serving.

Two styles. `boosted`: numbers pass as they are (trees take NaN), a category becomes the smoothed mean of the target at its level,
fitted out of fold on the training rows (Micci-Barreca 2001, doi:10.1145/507533.507538). `linear`: numbers are imputed by the
median with an indicator, standardised and clipped; a category becomes one column a level. In both, rare levels are pooled
with unknown ones, a missing category is a level of its own, and dates become parts.

On the readmission data (train 33,922, split by time and patient) the means give a test ROC-AUC of 0.645, codes by frequency
0.634, ordered means 0.644, LightGBM's own categories (which ONNX trees lack) 0.645.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.features import dates
from loopline.features.boundary import STRING_KINDS
from loopline.features.records import Field

if TYPE_CHECKING:
    import polars as pl

Style = Literal["linear", "boosted"]
Floats = npt.NDArray[np.float32]

FOLDS = 5
SMOOTHING = 20.0  # as many rows of the overall mean are added to each level
RARE = {"boosted": 5, "linear": 20}  # a level with fewer training rows is pooled
MOST_LEVELS = {"boosted": 2_000, "linear": 50}
CLIP = 10.0  # standard deviations


class Number(msgspec.Struct, frozen=True, kw_only=True):
    """One numeric column of the transform: a number as it is, or a part of a date; the rest is for `linear` alone."""

    field: str
    part: str | None = None
    fill: float = 0.0
    center: float = 0.0
    scale: float = 1.0
    indicator: bool = False


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """One category: its kept levels, and for `boosted` the features at each level, then at missing, then at unknown."""

    field: str
    levels: tuple[str, ...]
    means: tuple[tuple[float, ...], ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a fitted transform knows; JSON-able."""

    style: Style
    fields: tuple[Field, ...]
    numbers: tuple[Number, ...]
    categories: tuple[Category, ...]
    suffixes: tuple[str, ...] = ()


class TableTransform:
    """A fitted transform. `names` are the features in order; `apply` gives float32 [n, len(names)]."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.fields = plan.fields
        self.number_fields = tuple(f for f in plan.fields if f.kind not in STRING_KINDS)
        self.string_fields = tuple(f for f in plan.fields if f.kind in STRING_KINDS)
        self._place = {f.name: i for i, f in enumerate(self.number_fields)}
        self._codes = [{"": len(c.levels)} | {v: i for i, v in enumerate(c.levels)} for c in plan.categories]
        self._means = [np.asarray(c.means, dtype=np.float32) for c in plan.categories]
        self.names = _names(plan)

    @classmethod
    def fit(
        cls,
        frame: pl.DataFrame,
        fields: Sequence[Field],
        *,
        style: Style = "boosted",
        targets: npt.NDArray[np.float64] | None = None,
        suffixes: Sequence[str] = ("",),
        seed: int = 0,
    ) -> TableTransform:
        """Fit on training rows. `targets` [n, w] are needed by `boosted` where there are categories (see `fit_apply`)."""
        return cls._fit(frame, fields, style, targets, suffixes, seed)[0]

    @classmethod
    def fit_apply(
        cls,
        frame: pl.DataFrame,
        fields: Sequence[Field],
        *,
        targets: npt.NDArray[np.float64],
        suffixes: Sequence[str] = ("",),
        seed: int = 0,
    ) -> tuple[TableTransform, Floats]:
        """Fit a boosted transform, and the features of the same rows to train on: there a category's means are out of fold.

        `targets` float64 [n, w]: 0/1 for binary, one column a class for multiclass, the value for regression; `suffixes`, w of
        them, end the names of the features made of them.
        """
        transform, raw, out_of_fold = cls._fit(frame, fields, "boosted", targets, suffixes, seed)
        return transform, transform._features(raw, out_of_fold)

    @classmethod
    def _fit(
        cls,
        frame: pl.DataFrame,
        fields: Sequence[Field],
        style: Style,
        targets: npt.NDArray[np.float64] | None,
        suffixes: Sequence[str],
        seed: int,
    ) -> tuple[TableTransform, Floats, list[Floats]]:
        from loopline.features import table  # polars; a server applies transforms without it

        fields = tuple(f for f in fields if f.kind != "text")
        raw = table.numbers(frame, fields)
        number_fields = [f for f in fields if f.kind not in STRING_KINDS]
        fitted = [n for place, f in enumerate(number_fields) for n in _fit_number(f, raw[:, place], style)]
        categories: list[Category] = []
        encoded: list[Floats] = []
        for field in (f for f in fields if f.kind in STRING_KINDS):
            levels = _kept_levels(table.strings(frame, field), style)
            means: tuple[tuple[float, ...], ...] = ()
            if style == "boosted":
                assert targets is not None, "a boosted transform with categories learns from targets"
                code = table.codes(frame, field, levels)
                table_means, out_of_fold = _fit_means(code, len(levels) + 2, targets, seed)
                means = tuple(tuple(row) for row in table_means.tolist())
                encoded.append(out_of_fold)
            categories.append(Category(field=field.name, levels=levels, means=means))
        plan = Plan(
            style=style,
            fields=fields,
            numbers=tuple(fitted),
            categories=tuple(categories),
            suffixes=tuple(suffixes) if style == "boosted" else (),
        )
        return cls(plan), raw, encoded

    def apply(self, frame: pl.DataFrame) -> Floats:
        """The features of a frame's rows. Raises `Invalid` for a column that is absent or of another type."""
        from loopline.features import table  # polars; a server applies transforms without it

        fields = {f.name: f for f in self.string_fields}
        codes = [table.codes(frame, fields[c.field], c.levels) for c in self.plan.categories]
        return self._features(table.numbers(frame, self.fields), self._encode(codes))

    def apply_arrays(self, numbers: Floats, strings: npt.NDArray[np.object_]) -> Floats:
        """The features of decoded rows, as `boundary.Boundary.decode` gives them; needs no polars."""
        codes = [
            np.array([known.get(value, len(known)) for value in strings[:, place]], dtype=np.int32)
            for place, known in enumerate(self._codes)
        ]
        return self._features(numbers, self._encode(codes))

    def to_dict(self) -> dict[str, Any]:
        """The transform as JSON values."""
        return dict(msgspec.to_builtins(self.plan))

    @classmethod
    def from_dict(cls, shape: dict[str, Any]) -> TableTransform:
        """The same transform again. Raises msgspec.ValidationError where the shape is another."""
        return cls(msgspec.convert(shape, Plan))

    def _encode(self, codes: Sequence[npt.NDArray[np.int32]]) -> list[Floats]:
        if self.plan.style == "boosted":
            return [means[code] for means, code in zip(self._means, codes, strict=True)]
        return [
            np.eye(len(c.levels) + 2, dtype=np.float32)[code]
            for c, code in zip(self.plan.categories, codes, strict=True)
        ]

    def _features(self, raw: Floats, encoded: Sequence[Floats]) -> Floats:
        spread = {f.name: dates.parts(raw[:, self._place[f.name]]) for f in self.number_fields if f.kind == "date"}
        columns: list[Floats] = [
            raw[:, self._place[n.field]] if n.part is None else spread[n.field][:, dates.PARTS.index(n.part)]
            for n in self.plan.numbers
        ]
        if self.plan.style == "linear":
            flags = zip(columns, self.plan.numbers, strict=True)
            missing = [np.isnan(values).astype(np.float32) for values, n in flags if n.indicator]
            columns = [_standardised(values, n) for values, n in zip(columns, self.plan.numbers, strict=True)] + missing
        out = np.empty((raw.shape[0], len(self.names)), dtype=np.float32)
        place = 0
        for block in (*(values[:, None] for values in columns), *encoded):
            out[:, place : place + block.shape[1]] = block
            place += block.shape[1]
        return out


def _names(plan: Plan) -> tuple[str, ...]:
    named = [n.field if n.part is None else f"{n.field}.{n.part}" for n in plan.numbers]
    missing = [f"{name} is missing" for name, n in zip(named, plan.numbers, strict=True) if n.indicator]
    if plan.style == "boosted":
        return (*named, *(f"{c.field}{suffix}" for c in plan.categories for suffix in plan.suffixes))
    levels = [f"{c.field}={v}" for c in plan.categories for v in (*c.levels, "(missing)", "(other)")]
    return (*named, *missing, *levels)


def _fit_number(field: Field, values: Floats, style: Style) -> list[Number]:
    if field.kind != "date":
        return [Number(field=field.name)] if style == "boosted" else [_statistics(field.name, None, values)]
    spread = dates.parts(values)
    kept = [
        (part, column)
        for part, column in zip(dates.PARTS, spread.T, strict=True)
        if np.unique(column[~np.isnan(column)]).size > 1
    ]
    if style == "boosted":
        return [Number(field=field.name, part=part) for part, _ in kept]
    fitted = [_statistics(field.name, part, column) for part, column in kept]
    # The parts of a date are missing together: one indicator says it.
    return fitted[:1] + [msgspec.structs.replace(n, indicator=False) for n in fitted[1:]]


def _statistics(name: str, part: str | None, values: Floats) -> Number:
    missing = np.isnan(values)
    present = values[~missing].astype(np.float64)
    fill = float(np.float32(np.median(present))) if present.size else 0.0
    filled = np.where(missing, fill, values.astype(np.float64))
    scale = float(np.float32(filled.std()))
    return Number(
        field=name,
        part=part,
        fill=fill,
        center=float(np.float32(filled.mean())),
        scale=scale if scale > 0 else 1.0,
        indicator=bool(missing.any()),
    )


def _standardised(values: Floats, number: Number) -> Floats:
    filled = np.where(np.isnan(values), np.float32(number.fill), values)
    with np.errstate(over="ignore"):  # what overflows is clipped
        scaled = (filled - np.float32(number.center)) / np.float32(number.scale)
    clipped: Floats = np.clip(scaled, np.float32(-CLIP), np.float32(CLIP))
    return clipped


def _kept_levels(values: pl.Series, style: Style) -> tuple[str, ...]:
    """The frequent levels, sorted; all of them (up to the most) where even the commonest is rare."""
    counts = values.filter(values != "").value_counts(name="rows")
    name = values.name
    kept = counts.filter(counts["rows"] >= min(RARE[style], counts["rows"].max() or 0))
    kept = kept.sort(["rows", name], descending=[True, False]).head(MOST_LEVELS[style])
    return tuple(sorted(kept[name].to_list()))


def _fit_means(
    codes: npt.NDArray[np.int32], size: int, targets: npt.NDArray[np.float64], seed: int
) -> tuple[Floats, Floats]:
    """Smoothed means of the targets at each code [size, w], and the same out of fold for each row [n, w]."""
    overall = targets.mean(axis=0)
    rows = np.bincount(codes, minlength=size).astype(np.float64)[:, None]
    sums = np.stack([np.bincount(codes, target, minlength=size) for target in targets.T], axis=1)
    means = (sums + SMOOTHING * overall) / (rows + SMOOTHING)
    fold = np.random.default_rng(seed).permutation(len(codes)) % FOLDS
    out = np.empty_like(targets)
    for k in range(FOLDS):
        held = fold == k
        inside = codes[held]
        fold_rows = np.bincount(inside, minlength=size)[:, None]
        fold_sums = np.stack([np.bincount(inside, target, minlength=size) for target in targets[held].T], axis=1)
        others = (sums - fold_sums + SMOOTHING * overall) / (rows - fold_rows + SMOOTHING)
        out[held] = others[inside]
    return means.astype(np.float32), out.astype(np.float32)
