"""LightGBM's text form, read strictly before LightGBM itself sees it.

Its reader trusts what it reads: a child or feature out of range makes the process read and write outside of its memory. Only
what this project writes is let through: numeric splits, plain leaves, every array of the length that its tree declares, children
that come after their parents.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid

_PER_SPLIT = ("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child")
_PER_SPLIT_MAYBE = ("internal_value", "internal_weight", "internal_count")
_PER_LEAF_MAYBE = ("leaf_weight", "leaf_count")


def check(text: str) -> None:
    """Raises `Invalid` (code `bad-model`) unless the text is a model that LightGBM can be given."""
    try:
        head, marked, _ = text.partition("\nend of trees")
        if not marked or not text.startswith("tree\n"):
            raise ValueError("it is not in LightGBM's text form")
        header, *trees = head.split("\nTree=")
        facts = _values(header)
        features, each = int(facts["max_feature_idx"]) + 1, int(facts["num_tree_per_iteration"])
        if not 1 <= each <= 1_000 or int(facts["num_class"]) not in (1, each) or len(trees) % each:
            raise ValueError(f"{len(trees)} trees do not make whole rounds of {each}")
        if not 1 <= features <= 1_000_000 or len(facts["feature_names"].split()) != features:
            raise ValueError(f"it does not name its {features} features")
        sizes = [len(f"Tree={tree}\n".encode()) for tree in trees]
        if [int(size) for size in facts["tree_sizes"].split()] != sizes:
            raise ValueError("its trees are not of the sizes that it states")
        for number, tree in enumerate(trees):
            _check_tree(number, _values(tree), features)
    except (KeyError, ValueError, OverflowError) as e:
        said = f"it lacks {e}" if isinstance(e, KeyError) else e
        raise Invalid(
            f"The trees of this model cannot be read: {said}.", code="bad-model", hint="Train the model again."
        ) from e


def _check_tree(number: int, values: dict[str, str], features: int) -> None:
    leaves = int(values["num_leaves"])
    splits = leaves - 1
    if leaves < 1 or values.get("num_cat", "0") != "0" or values.get("is_linear", "0") != "0":
        raise ValueError(f"tree {number} is of a kind that is not written here")
    if len(_numbers(values["leaf_value"])) != leaves:
        raise ValueError(f"tree {number} does not have its {leaves} leaves")
    arrays = {name: _numbers(values[name]) for name in _PER_SPLIT} if splits else {}
    arrays |= {name: _numbers(values[name]) for name in _PER_SPLIT_MAYBE if splits and name in values}
    for name, array in arrays.items():
        if len(array) != splits:
            raise ValueError(f"tree {number} has {len(array)} of {name} for {splits} splits")
    for name in _PER_LEAF_MAYBE:
        if values.get(name, "").strip() and len(_numbers(values[name])) != leaves:
            raise ValueError(f"tree {number} has another number of {name} than leaves")
    if not splits:
        return
    split_feature = arrays["split_feature"]
    if not (_whole(split_feature) and split_feature.min() >= 0 and split_feature.max() < features):
        raise ValueError(f"tree {number} splits by a feature that there is not")
    parents = np.arange(splits)
    for name in ("left_child", "right_child"):
        child = arrays[name]
        inner = child >= 0
        if (
            not _whole(child)
            or child.min() < -leaves
            or (child >= splits).any()
            or (child[inner] <= parents[inner]).any()
        ):
            raise ValueError(f"tree {number} has a {name} out of range")


def _numbers(text: str) -> npt.NDArray[np.float64]:
    return np.array(text.split(), dtype=np.float64)


def _whole(values: npt.NDArray[np.float64]) -> bool:
    return bool((np.isfinite(values) & (values == np.floor(values))).all())


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
