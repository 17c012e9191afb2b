"""Score raw rows with a bundle: the reference that serving and the tests share.

Needs onnxruntime, numpy and msgspec alone; a bundle that another runtime serves needs that one's library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loopline.errors import Invalid, Refused
from loopline.features.boundary import Boundary
from loopline.hashing import digest_bytes
from loopline.packaging.cleaned import read_cleaning
from loopline.packaging.external import may_not_end
from loopline.packaging.manifest import MANIFEST, MODEL, read_manifest
from loopline.packaging.native import as_outputs, open_native
from loopline.packaging.records import PROGRAMS, Manifest, Opening
from loopline.ports.runtime import Score

Floats = npt.NDArray[np.float32]
Strings = npt.NDArray[np.object_]


def open_session(data: bytes) -> Any:
    """An onnxruntime session of one thread, from the model's bytes (never from a path, so that nothing beside it is read)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def in_child(folder: Path, manifest: Manifest) -> bool:
    """Whether a model is computed in a process of its own alone: one that is no ONNX, and one that may never come to an end."""
    return manifest.runtime != "onnx" or may_not_end((folder / MODEL).read_bytes())


def run_session(session: Any, numbers: Floats, strings: Strings) -> Floats:
    """The graph's one output for decoded rows."""
    feed: dict[str, Any] = {}
    if numbers.shape[1]:
        feed["numbers"] = numbers
    if strings.shape[1]:
        feed["strings"] = strings
    return np.asarray(session.run(None, feed)[0])


class Session:
    """A bundle opened for scoring: `decode`, `run` and `encode` in turn, or `predict_rows` for all three."""

    def __init__(
        self, folder: Path, *, verify: bool = True, opening: Opening | None = None, within: bool = False
    ) -> None:
        """`within` says that this is a child process already, where anything may run; else what needs one is given one."""
        opening = opening or Opening()
        self.manifest: Manifest = read_manifest(folder, verify=verify)
        if opening.vouched:
            if digest_bytes((folder / MANIFEST).read_bytes()) != opening.vouched:
                raise Refused(f"The manifest of {folder} was changed since it was signed.", code="bundle-changed")
        elif opening.trust.every or self.manifest.runtime in PROGRAMS:
            from loopline.packaging.signed import check_trusted

            every = "only such a one is opened" if opening.trust.every else "it holds code"
            check_trusted(folder, opening.trust, every)
        self.cleaning = read_cleaning(folder, self.manifest)
        precision = np.float32 if self.cleaning is None else np.float64
        self.boundary = Boundary(self.manifest.signature.inputs, precision)
        self._session: Any = None
        self._child: Any = None
        self._native: Score | None = None
        if self.manifest.runtime == "onnx" and (within or not in_child(folder, self.manifest)):
            self._session = open_session((folder / MODEL).read_bytes())
        elif within and self.manifest.runtime == "ensemble":
            from loopline.packaging.ensemble_running import Columns, open_ensemble

            takes = self.cleaning or self.manifest
            self._native = open_ensemble(
                folder,
                self.manifest,
                Columns(takes.numbers, takes.strings),
                opening,
                lambda member, how: Session(member, opening=how),
            )
        elif within or self.manifest.runtime == "native":
            self._native = open_native(folder, self.manifest)
        else:
            from loopline.packaging.child import ChildRuntime

            self._child = ChildRuntime(folder, opening)

    def decode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[Any, Strings]:
        """Raw rows as arrays; numbers are float64 where they are cleaned before the model takes them.

        Raises `Invalid` naming row and column.
        """
        return self.boundary.decode(rows)

    def run(self, numbers: Any, strings: Strings) -> Floats:
        """float32: binary [n, 2] and multiclass [n, k] probabilities in the order of the classes; regression [n, 1]."""
        if self.cleaning is not None:
            numbers, strings = self.cleaning.apply(numbers, strings.tolist())
        return self.score(numbers, strings)

    def score(self, numbers: Floats, strings: Strings) -> Floats:
        """As `run`, for rows that are cleaned already."""
        if self._session is not None:
            return run_session(self._session, numbers, strings)
        if self._child is not None:
            child: Floats = self._child.run(
                numbers if numbers.shape[1] else None, strings if strings.shape[1] else None
            )
            return child
        assert self._native is not None
        return as_outputs(self._native(numbers, strings), len(numbers), self.manifest)

    def close(self) -> None:
        """Ends the child process, where the model has one."""
        if self._child is not None:
            self._child.close()

    def encode(self, outputs: Floats) -> list[dict[str, Any]]:
        """One answer a row, as JSON values; see `encode`."""
        return encode(outputs, self.manifest)


def encode(outputs: Floats, manifest: Manifest) -> list[dict[str, Any]]:
    """One answer a row, as JSON values.

    Classes: `{"probability": of the label, "label": class, "probabilities": {class: p}}`. With two of them the label is the
    positive one (the last) from the threshold on, 0.5 where there is none; with more, the likeliest. Regression: `{"value": v}`.
    """
    if manifest.task == "regression":
        return [{"value": value} for value in outputs[:, 0].tolist()]
    classes = manifest.classes
    if manifest.task == "binary":
        threshold = 0.5 if manifest.threshold is None else manifest.threshold
        best = (outputs[:, 1].astype(np.float64) >= threshold).astype(int).tolist()
    else:
        best = outputs.argmax(axis=1).tolist()
    return [
        {"probability": row[k], "label": classes[k], "probabilities": dict(zip(classes, row, strict=True))}
        for row, k in zip(outputs.tolist(), best, strict=True)
    ]


def predict_rows(bundle: Path | Session, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers of a bundle (its folder, or a session of it) for raw rows. Raises `Invalid`."""
    session = bundle if isinstance(bundle, Session) else Session(Path(bundle))
    answers = session.encode(session.run(*session.decode(rows)))
    if any(value != value for a in answers for value in (a.get("probability"), a.get("value"))):
        raise Invalid(
            "The model gave no number for a row.", code="no-number", hint="Its training data may hold extremes."
        )
    return answers
