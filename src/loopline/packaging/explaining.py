"""A child process that explains answers of one bundle: it imports what a worker must not, and may take its time.

    python -m loopline.packaging.explaining FOLDER

One line of JSON each way. In: rows, each a list of values in the order of the manifest's `numbers` and `strings`. Out:
`{"explanations": [...]}`, one a row, or `{"error": text}`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loopline.packaging.cleaned import read_cleaning
from loopline.packaging.manifest import NATIVE, file_of, read_manifest
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Strings
from loopline.training.contributions import Contributions, contributions
from loopline.training.model import Model


class Explainer:
    """A bundle opened for explaining."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder)
        self._cleaning = read_cleaning(folder, self.manifest)
        self._contributions = _opened(folder, self.manifest)

    def explain(self, rows: list[list[Any]]) -> list[dict[str, Any]]:
        """One explanation a row: `base`, `contributions` by column, and the `score` that they sum to.

        Binary: of the log-odds of `class`, the positive one; multiclass: of the score of `class`, the likeliest; regression: of
        the value.
        """
        a, n = len(self.manifest.numbers), len(rows)
        numbers = np.array([row[:a] for row in rows], dtype=np.float64).reshape(n, a)
        texts = [row[a:] for row in rows]
        if self._cleaning is not None:
            floats, strings = self._cleaning.apply(numbers, texts)
        else:
            floats = numbers.astype(np.float32)
            strings = np.array(texts, dtype=object).reshape(n, len(self.manifest.strings))
        found = self._contributions(floats, strings)
        scores, classes = found.scores, self.manifest.classes
        explained: list[dict[str, Any]] = []
        for row in range(n):
            k = int(scores[row].argmax())
            one: dict[str, Any] = {"class": classes[-1] if len(classes) == 2 else classes[k]} if classes else {}
            values = found.values[row, k].tolist()
            one |= {"score": scores[row, k].item(), "base": found.base[row, k].item()}
            explained.append({**one, "contributions": dict(zip(found.columns, values, strict=True))})
        return explained


def _opened(folder: Path, manifest: Manifest) -> Callable[[Floats, Strings], Contributions]:
    """What gives the contributions of rows."""
    contributed: Callable[[Floats], Any]
    if file_of("lightgbm") in manifest.digests:
        from loopline.packaging import lightgbmed

        trees = lightgbmed.read_trees(folder / file_of("lightgbm"))
        contributed = partial(lightgbmed.contributions, trees)
    elif file_of("xgboost") in manifest.digests:
        from loopline.packaging import xgboosted

        booster = xgboosted.read_trees(folder / file_of("xgboost"))
        contributed = partial(xgboosted.contributions, booster)
    else:
        return partial(contributions, Model.load(folder / NATIVE))

    def explained(numbers: Floats, strings: Strings) -> Contributions:
        width = len(manifest.numbers) + 1
        parts = np.asarray(contributed(numbers), dtype=np.float64).reshape(len(numbers), -1, width)
        return Contributions(manifest.numbers, parts[:, :, -1], parts[:, :, :-1])

    return explained


def main(folder: Path) -> None:
    """The child: explains until its input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the lines
    explainer = Explainer(folder)
    for line in sys.stdin.buffer:
        answer: dict[str, Any]
        try:
            answer = {"explanations": explainer.explain(msgspec.json.decode(line))}
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        out.write(msgspec.json.encode(answer) + b"\n")
        out.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
