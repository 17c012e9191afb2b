"""The forms in which other libraries keep a model: each taken into a bundle, asked for its scores, and offered for conversion."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np

from loopline.errors import Invalid
from loopline.features.records import Signature
from loopline.hashing import digest_file
from loopline.packaging.frames import arrays, check_numbers
from loopline.packaging.manifest import CODE, MANIFEST, file_of
from loopline.packaging.native import as_outputs
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.runtime import Session, open_session, run_session
from loopline.ports.runtime import Floats, Strings

if TYPE_CHECKING:
    import polars as pl

FormKind = Literal["onnx", "lightgbm", "xgboost", "skops", "pytorch", "tensorflow", "code"]
Sign = Callable[[Manifest], Opening]
"""Writes a manifest into the bundle, signs it, and gives with what the bundle may be opened."""
_BATCH = 5_000  # rows that a child is asked at once
_ALONE = 3  # rows that are asked alone, too


class Kept(NamedTuple):
    """A form in its bundle: its own answers for the validation rows, and what makes its ONNX graph (None: there is none)."""

    scores: Floats | None
    graph: Callable[[], Any] | None


def keep_form(form: Path, work: Path, manifest: Manifest, rows: pl.DataFrame, sign: Sign) -> Kept:
    """Takes a form into the bundle that is being written in `work`; `manifest.runtime` says of which kind it is.

    A program runs in a child process alone, and only once `sign` has signed it. Raises `NotFound`, `Invalid`, `Refused` or
    `MissingExtra`.
    """
    signature = manifest.signature
    if manifest.runtime == "code":
        from loopline.packaging.code import copy_code

        copy_code(form, work / CODE, ("model.py", "It defines a class Model with load(folder) and predict(rows)."))
        return Kept(None, None)
    if manifest.runtime in ("pytorch", "tensorflow"):
        return _program(form, work, manifest, rows, sign)
    numbers, strings = arrays(signature, rows)
    if manifest.runtime == "onnx":
        return _graph(form, signature, numbers, strings)
    target = work / file_of(manifest.runtime)
    target.parent.mkdir(parents=True)
    if manifest.runtime == "lightgbm":
        from loopline.packaging import lightgbmed

        trees = lightgbmed.read_trees(form)
        lightgbmed.check_trees(trees, signature)
        shutil.copyfile(form, target)
        found = _probabilities(lightgbmed.native(trees)(numbers, strings), rows.height, signature)
        return Kept(found, lambda: lightgbmed.graph_of(trees))
    if manifest.runtime == "xgboost":
        from loopline.packaging import xgboosted

        booster = xgboosted.read_trees(form)
        xgboosted.check_trees(booster, signature)
        target.write_bytes(booster.save_raw("ubj"))
        found = _probabilities(xgboosted.native(booster)(numbers, strings), rows.height, signature)
        return Kept(found, lambda: xgboosted.graph_of(booster))
    from loopline.packaging import pipelines

    estimator = pipelines.read_pipeline(form)
    pipelines.check_columns(estimator, signature)
    shutil.copyfile(form, target)
    scores = pipelines.native(estimator, signature)(numbers, strings)
    return Kept(as_outputs(scores, rows.height, signature), lambda: pipelines.graph_of(estimator, signature))


def _graph(form: Path, signature: Signature, numbers: Floats, strings: Strings) -> Kept:
    """A graph as it is, its answers those of ONNX Runtime."""
    from loopline.packaging import graphs
    from loopline.packaging.joined import with_two_inputs

    model = graphs.read_graph(form, signature)
    given = model.SerializeToString()
    try:
        session = open_session(with_two_inputs(model, signature).SerializeToString())
        together = _probabilities(run_session(session, numbers, strings), len(numbers), signature)
        alone = [run_session(session, numbers[[k]], strings[[k]]) for k in range(min(_ALONE, len(numbers)))]
    except Invalid as e:
        if e.code != "not-convertible":
            raise
        raise graphs.broken(form, e) from e
    except Exception as e:  # onnx's and onnxruntime's errors share no base class
        raise graphs.broken(form, e) from e
    _check_scores(together, np.concatenate(alone), signature)
    return Kept(together, lambda: type(model).FromString(given))


def _probabilities(scores: Any, rows: int, signature: Signature) -> Floats:
    """A library's scores as outputs. Raises `Invalid` where they are not what is served."""
    try:
        found = as_outputs(scores, rows, signature)
    except ValueError as e:
        raise Invalid(
            f"The model's answers do not fit the rows' label: {e}.",
            code="other-classes",
            hint="Of two classes it gives the probability of the second, or of both; of more, those of all: give rows with each.",
        ) from e
    _check_probabilities(found, signature)
    return found


def listed(manifest: Manifest, work: Path) -> Manifest:
    """The manifest with the digests of the files that are there."""
    files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
    inside = [name for name in files if name != MANIFEST and not name.startswith("signatures/")]
    return msgspec.structs.replace(manifest, digests={name: digest_file(work / name) for name in inside})


def _program(form: Path, work: Path, manifest: Manifest, rows: pl.DataFrame, sign: Sign) -> Kept:
    from loopline.packaging.exporting import exported

    if manifest.runtime == "pytorch":
        from loopline.packaging.pytorch import keep

        check_numbers(manifest.signature, "A module of PyTorch")
    else:
        from loopline.packaging.tensorflow import keep

    keep(form, work)
    opening = sign(listed(manifest, work))
    session = Session(work, opening=opening)
    try:
        numbers, strings = arrays(manifest.signature, rows)
        scores = scored(session, numbers, strings)
        alone = [scored(session, numbers[[k]], strings[[k]]) for k in range(min(_ALONE, rows.height))]
    finally:
        session.close()
    _check_scores(scores, np.concatenate(alone), manifest.signature)
    return Kept(scores, lambda: exported(work, opening))


def scored(session: Session, numbers: Floats, strings: Strings) -> Floats:
    """A bundle's answers for rows that are cleaned already. Raises `Invalid` with what the model raises."""
    try:
        return np.concatenate(
            [
                session.score(numbers[at : at + _BATCH], strings[at : at + _BATCH])
                for at in range(0, len(numbers), _BATCH)
            ]
        )
    except RuntimeError as e:
        raise Invalid(
            f"The model fails on {'a row' if len(numbers) == 1 else f'{len(numbers)} rows'}: {' '.join(str(e).split())[:400]}",
            code="fails-on-rows",
            hint="It takes float32 [n, columns] for any number n of rows, and gives [n], [n, 1] or [n, classes]; "
            "an archive of torch.export is written with dynamic_shapes=({0: torch.export.Dim('n')},).",
        ) from e


def _check_scores(together: Floats, alone: Floats, signature: Signature) -> None:
    """Raises `Invalid` where the answers are no probabilities, or depend on what else was asked."""
    _check_probabilities(together, signature)
    if not np.allclose(together[: len(alone)], alone, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise Invalid(
            "The model's answer for a row depends on the other rows of its batch.",
            code="rows-depend",
            hint="Export it as it is in use: model.eval() before torch.export, training=False in Keras.",
        )


def _check_probabilities(together: Floats, signature: Signature) -> None:
    if signature.task != "regression":
        finite = together[np.isfinite(together).all(axis=1)]
        if (finite < 0).any() or (finite > 1).any() or (np.abs(finite.sum(axis=1) - 1) > 1e-3).any():
            raise Invalid(
                "The model gives no probabilities, and they are what is served.",
                code="no-probabilities",
                hint="End it with a sigmoid (of two classes) or a softmax.",
            )
