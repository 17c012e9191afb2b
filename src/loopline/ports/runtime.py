"""Runtimes as a port: what computes a model's answers, in this process or in a child of it, and what all of them keep to.

1. `run` takes n rows (n > 0) as two arrays, the numbers (float32, missing: NaN) and the texts (missing: ""), each None where the
   model has no such column, and gives n rows of float32: the probabilities of the classes in their order, or one value.
2. A row's answer is its own: the same alone, among others, in any order, and again.
3. Where it fails it raises. `ModelDown` and `ModelSlow` say that this was no answer at all, so that the caller may come again;
   anything else is what the model itself makes of these rows. Afterwards it answers the next call as if nothing had been.
4. It may be called by several threads at once.
5. `close` gives back all that is held, processes too; it may be called again, and ends a call that is under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Strings = npt.NDArray[np.object_]
Score = Callable[[Floats, Strings], Any]
"""What a form computes within its process: rows, [n, a] and [n, b] -> binary [n] of the positive class or [n, 2], multiclass
[n, k], regression [n]."""


class ModelDown(RuntimeError):
    """What computes the model died, or cannot be started just now."""


class ModelSlow(RuntimeError):
    """The model gave no answer within its time."""


class Runtime(Protocol):
    """A model that computes. See the laws above."""

    def run(self, numbers: Floats | None, strings: Strings | None) -> Floats:
        """Probabilities [n, k] or values [n, 1]. Raises `ModelDown`, `ModelSlow` or anything of the model's own."""
        ...

    def close(self) -> None:
        """Gives back what is held."""
        ...
