"""LightGBM's text form from outside: what it writes passes, what could make it leave its memory does not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from loopline.errors import Invalid
from loopline.training import tree_text
from loopline.training.threads import lightgbm


def text_of(objective: str, classes: int = 1) -> str:
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 4))
    labels = random.integers(0, max(2, classes), 400) if objective != "regression" else features[:, 0]
    options = {"objective": objective, "num_leaves": 5, "verbosity": -1, "num_threads": 1}
    if classes > 1:
        options["num_class"] = classes
    text: str = lightgbm.train(options, lightgbm.Dataset(features, labels), 4).model_to_string()
    return text


@pytest.mark.parametrize(("objective", "classes"), [("binary", 1), ("regression", 1), ("multiclass", 3)])
def test_what_lightgbm_writes_passes(objective: str, classes: int) -> None:
    tree_text.check(text_of(objective, classes))


def test_a_model_of_leaves_alone_passes() -> None:
    constant = lightgbm.Dataset(np.zeros((50, 2)), np.arange(50.0), params={"verbosity": -1})
    options = {"objective": "regression", "verbosity": -1, "num_threads": 1}
    tree_text.check(lightgbm.train(options, constant, 2).model_to_string())


def resized(text: str) -> str:
    """The text with tree sizes that fit it, as a careful forger would leave them."""
    head = text.partition("\nend of trees")[0]
    sizes = [str(len(f"Tree={tree}\n".encode())) for tree in head.split("\nTree=")[1:]]
    return re.sub(r"tree_sizes=.*", "tree_sizes=" + " ".join(sizes), text, count=1)


@pytest.mark.parametrize(
    ("pattern", "forged"),
    [
        (r"left_child=\S+", "left_child=1000000"),
        (r"right_child=\S+", "right_child=-99"),
        (r"left_child=\S+", "left_child=0"),
        (r"split_feature=\S+", "split_feature=4"),
        (r"split_feature=\S+", "split_feature=-1"),
        (r"split_feature=\S+", "split_feature=nan"),
        (r"threshold=\S+ ", "threshold="),
        (r"leaf_value=\S+ ", "leaf_value="),
        (r"num_leaves=\d+", "num_leaves=500"),
        (r"num_cat=0", "num_cat=3"),
        (r"is_linear=0", "is_linear=1"),
        (r"max_feature_idx=3", "max_feature_idx=2000000000"),
        (r"num_tree_per_iteration=1", "num_tree_per_iteration=3"),
        (r"num_leaves=\d+\n", ""),
    ],
)
def test_what_leaves_its_ranges_is_refused(pattern: str, forged: str) -> None:
    text = resized(re.sub(pattern, forged, text_of("binary"), count=1))
    with pytest.raises(Invalid) as caught:
        tree_text.check(text)
    assert caught.value.code == "bad-model"


def test_sizes_that_do_not_fit_and_texts_that_are_none_are_refused() -> None:
    text = text_of("binary")
    for forged in (text.replace("tree_sizes=", "tree_sizes=9", 1), "tree\n", "", text.partition("end of trees")[0]):
        with pytest.raises(Invalid):
            tree_text.check(forged)
