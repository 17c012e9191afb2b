"""A TableTransform as ONNX nodes: the same features, from `numbers` and `strings`, inside the graph.

All category columns share one dictionary of strings: a text becomes a place, and a flat table holds for each column what stands
at that place. So thirty categories cost three nodes, not thirty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from loopline.features import dates
from loopline.features.transform import CLIP, Category, Number, TableTransform
from loopline.packaging.graph import ML, Graph

_TABLE_CELLS = 1_000_000  # of one shared table; more columns get another


def numeric_features(graph: Graph, transform: TableTransform) -> str | None:
    """The numeric features in the transform's order: the name of a float matrix, or None where there are none."""
    place = {f.name: i for i, f in enumerate(transform.number_fields)}
    pieces: list[str] = []
    spread: dict[str, str] = {}
    plain: list[int] = []
    for number in transform.plan.numbers:
        if number.part is None:
            plain.append(place[number.field])
            continue
        if plain:
            pieces.append(graph.take("numbers", plain))
            plain = []
        if number.field not in spread:
            spread[number.field] = _date_parts(graph, graph.take("numbers", [place[number.field]]))
        pieces.append(graph.take(spread[number.field], [dates.PARTS.index(number.part)]))
    if plain:
        pieces.append(graph.take("numbers", plain))
    if not pieces:
        return None
    raw = graph.join(pieces)
    return raw if transform.plan.style == "boosted" else _standardised(graph, raw, transform.plan.numbers)


def category_means(graph: Graph, transform: TableTransform) -> str | None:
    """The features of the categories of a boosted transform: a float matrix, or None where there are none."""
    width = len(transform.plan.suffixes)
    pieces = []
    for first, block in _blocks(transform.plan.categories):
        places, dictionary = _places(graph, first, block)
        table = np.concatenate([_spread(c, dictionary, np.asarray(c.means, dtype=np.float32)) for c in block])
        taken = graph.add("Gather", [graph.constant(table), places], axis=0)
        flat = graph.constant([-1, len(block) * width], np.int64)
        pieces.append(graph.add("Reshape", [taken, flat]))
    return graph.join(pieces) if pieces else None


def category_scores(graph: Graph, transform: TableTransform, weights: np.ndarray) -> str | None:
    """What the one-hot features of a linear transform add to the scores: a float matrix [n, k].

    `weights` [features of categories, k] are looked up and summed; the one-hot matrix is never made.
    """
    pieces, start = [], 0
    for first, block in _blocks(transform.plan.categories):
        places, dictionary = _places(graph, first, block)
        rows = []
        for category in block:
            size = len(category.levels) + 2
            rows.append(_spread(category, dictionary, weights[start : start + size]))
            start += size
        taken = graph.add("Gather", [graph.constant(np.concatenate(rows)), places], axis=0)
        pieces.append(graph.add("ReduceSum", [taken, graph.constant([1], np.int64)], keepdims=0))
    if not pieces:
        return None
    total = pieces[0]
    for piece in pieces[1:]:
        total = graph.add("Add", [total, piece])
    return total


def _blocks(categories: Sequence[Category]) -> list[tuple[int, list[Category]]]:
    """Runs of categories that share one dictionary, each with the place of its first column."""
    blocks: list[tuple[int, list[Category]]] = []
    known: set[str] = set()
    for place, category in enumerate(categories):
        together = known | set(category.levels)
        if not blocks or (len(together) + 2) * (len(blocks[-1][1]) + 1) > _TABLE_CELLS:
            blocks.append((place, []))
            together = set(category.levels)
        blocks[-1][1].append(category)
        known = together
    return blocks


def _places(graph: Graph, first: int, block: list[Category]) -> tuple[str, list[str]]:
    """The row of a block's flat table for each of its strings [n, columns], and the dictionary that the rows follow."""
    dictionary = sorted({level for category in block for level in category.levels})
    columns = graph.take("strings", range(first, first + len(block)))
    coded = graph.add(
        "LabelEncoder",
        [columns],
        domain=ML,
        keys_strings=[*dictionary, ""],
        values_int64s=list(range(len(dictionary) + 1)),
        default_int64=len(dictionary) + 1,
    )
    offsets = np.arange(len(block)) * (len(dictionary) + 2)
    return graph.add("Add", [coded, graph.constant(offsets[None, :], np.int64)]), dictionary


def _spread(category: Category, dictionary: list[str], values: np.ndarray) -> np.ndarray:
    """A category's values laid out along the shared dictionary: strings that are no level of it stand as unknown."""
    levels = {level: place for place, level in enumerate(category.levels)}
    unknown = len(levels) + 1
    return np.asarray(values)[[levels.get(text, unknown) for text in dictionary] + [len(levels), unknown]]


def _standardised(graph: Graph, raw: str, numbers: Sequence[Number]) -> str:
    missing = graph.add("IsNaN", [raw])
    filled = graph.add("Where", [missing, graph.constant([[n.fill for n in numbers]]), raw])
    centered = graph.add("Sub", [filled, graph.constant([[n.center for n in numbers]])])
    scaled = graph.add("Div", [centered, graph.constant([[n.scale for n in numbers]])])
    clipped = graph.add("Clip", [scaled, graph.constant(-CLIP), graph.constant(CLIP)])
    flagged = [place for place, number in enumerate(numbers) if number.indicator]
    if not flagged:
        return clipped
    return graph.join([clipped, graph.take(graph.cast(missing, TensorProto.FLOAT), flagged)])


def _date_parts(graph: Graph, days: str) -> str:
    """`features.dates.parts` of one column [n, 1], in the same integers: [n, 5]."""

    def whole(operator: str, left: str, right: int | str) -> str:
        return graph.add(operator, [left, graph.constant(right, np.int64) if isinstance(right, int) else right])

    missing = graph.add("IsNaN", [days])
    present = graph.add("Where", [missing, graph.constant(0.0), days])
    filled = graph.add("Clip", [present, graph.constant(dates.EARLIEST), graph.constant(dates.LATEST)])
    floor = graph.add("Floor", [filled])
    shifted = whole("Add", graph.cast(floor, TensorProto.INT64), 719_468)
    era = whole("Mul", whole("Div", shifted, 146_097), 146_097)
    era_day = whole("Sub", shifted, era)
    year = whole("Sub", era_day, whole("Div", era_day, 1_460))
    year = whole("Add", year, whole("Div", era_day, 36_524))
    year = whole("Div", whole("Sub", year, whole("Div", era_day, 146_096)), 365)
    before = whole("Add", whole("Mul", year, 365), whole("Div", year, 4))
    before = whole("Sub", before, whole("Div", year, 100))
    year_day = whole("Sub", era_day, before)
    shifted_month = whole("Div", whole("Add", whole("Mul", year_day, 5), 2), 153)
    month_start = whole("Div", whole("Add", whole("Mul", shifted_month, 153), 2), 5)
    day = whole("Add", whole("Sub", year_day, month_start), 1)
    wrap = whole("Mul", whole("Div", shifted_month, 10), 12)
    month = whole("Sub", whole("Add", shifted_month, 3), wrap)
    weekday = whole("Mod", whole("Add", shifted, 2), 7)
    fraction = graph.add("Mul", [graph.add("Sub", [filled, floor]), graph.constant(24.0)])
    hour = graph.add("Floor", [graph.add("Add", [fraction, graph.constant(dates.HOUR_SLACK)])])
    calendar = [graph.cast(part, TensorProto.FLOAT) for part in (month, day, weekday)]
    return graph.add("Where", [missing, graph.constant(np.nan), graph.join([filled, *calendar, hour])])
