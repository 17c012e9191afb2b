"""A fitted model as a whole: what it takes, how it makes features of it, how it scores them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid, NotFound
from loopline.features.records import Signature, Task
from loopline.features.transform import TableTransform
from loopline.hashing import canonical_json
from loopline.training.estimators import FAMILIES, Doubles, Estimator, Linear

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
_SLICE = 20_000


class _Description(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    family: str
    signature: Signature
    threshold: float | None


@dataclass(frozen=True)
class Model:
    """Signature, fitted transform, fitted estimator and, for binary, the threshold from which on a row is positive."""

    signature: Signature
    transform: TableTransform
    estimator: Estimator
    threshold: float | None = None

    @property
    def task(self) -> Task:
        return self.signature.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.signature.classes

    @property
    def family(self) -> str:
        """ "linear" or "boosted"."""
        return "linear" if isinstance(self.estimator, Linear) else "boosted"

    @property
    def called(self) -> str:
        """What people call it: its family, or "constant" where it answers the same to every row."""
        if isinstance(self.estimator, Linear) and not self.estimator.coefficients.any():
            return "constant"
        return self.family

    def predict(self, frame: pl.DataFrame) -> Doubles:
        """Binary: [n] probabilities of the positive class; multiclass: [n, k] probabilities; regression: [n] values."""
        # In slices: the one-hot features of a linear model are many times as large as the frame.
        slices = [frame] if frame.height <= _SLICE else list(frame.iter_slices(_SLICE))
        return np.concatenate([self.estimator.score(self.transform.apply(part), self.task) for part in slices])

    def predict_arrays(self, numbers: npt.NDArray[np.float32], strings: npt.NDArray[np.object_]) -> Doubles:
        """The same for rows decoded by `features.boundary.Boundary`; needs no polars."""
        return self.estimator.score(self.transform.apply_arrays(numbers, strings), self.task)

    def with_threshold(self, threshold: float) -> Model:
        """The same model that calls a row positive from this probability on (rounded to a 32-bit float, as it is served)."""
        if self.task != "binary" or not 0 <= threshold <= 1:
            raise Invalid(f"{threshold} is no threshold for a {self.task} model.", code="bad-threshold")
        return replace(self, threshold=float(np.float32(threshold)))

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write the native form as text and JSON files; their names. The same model gives the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        described = _Description(format=FORMAT, family=self.family, signature=self.signature, threshold=self.threshold)
        texts = {
            "model.json": canonical_json(described),
            "transform.json": canonical_json(self.transform.to_dict()),
            self.estimator.file: self.estimator.to_text().encode(),
        }
        for name, text in texts.items():
            (folder / name).write_bytes(text)
        return tuple(sorted(texts))

    @classmethod
    def load(cls, folder: Path) -> Model:
        """The model that `save` wrote. Raises `NotFound`, and `Invalid` where the files are of another form."""
        described = _decoded(folder / "model.json", _Description)
        if described.format != FORMAT or described.family not in FAMILIES:
            raise Invalid(
                f"The model in {folder} has form {described.format} {described.family!r}, which this version does not read.",
                code="bad-model",
                hint="Use the version of loopline that wrote it, or train again.",
            )
        family = FAMILIES[described.family]
        try:
            estimator = family.from_text(_bytes(folder / family.file).decode())
            transform = TableTransform.from_dict(_decoded(folder / "transform.json", dict))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(f"The model in {folder} is damaged: {error}.", code="bad-model") from error
        return cls(described.signature, transform, estimator, described.threshold)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path} is missing: there is no whole model in this folder.", code="no-model") from None


def _decoded(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(_bytes(path), type=kind)
    except msgspec.MsgspecError as error:
        raise Invalid(f"{path} is damaged: {error}.", code="bad-model") from error
