"""Models that other libraries made, and a user's own code, as bundles that serving can serve alone, signed by who packages them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopline.errors import Invalid, MissingExtra, NotFound
from loopline.features.boundary import Boundary
from loopline.features.infer import described
from loopline.features.labels import infer_task
from loopline.features.records import Field, Kind, Signature, Task
from loopline.features.table import raw_rows
from loopline.hashing import canonical_json, digest_file
from loopline.packaging.bundle import appearing
from loopline.packaging.frames import arrays
from loopline.packaging.manifest import CODE, MANIFEST, MODEL, PARITY, file_of
from loopline.packaging.native import as_outputs
from loopline.packaging.parity import TOLERANCE, agreement
from loopline.packaging.records import Manifest, Opening, ParityReport, Runtime, Trust
from loopline.packaging.runtime import Session, open_session, predict_rows
from loopline.packaging.signed import sign_bundle
from loopline.packaging.signing import ModelSigner
from loopline.ports.runtime import Floats, Score
from loopline.registry.formats import check_file

if TYPE_CHECKING:
    import polars as pl

FormKind = Literal["xgboost", "skops", "code"]


def package(
    form: Path,
    folder: Path,
    *,
    kind: FormKind,
    name: str,
    rows: pl.DataFrame,
    label: str,
    signer: ModelSigner,
    created: int,
    task: Task | None = None,
    threshold: float | None = None,
    opening: Opening | None = None,
) -> Manifest:
    """Write a bundle of a model in its library's own form; the folder appears whole or not at all.

    `form` is XGBoost's `.ubj` or `.json` file, a `.skops` file, or a folder of code with `model.py` (see `packaging.code`). `rows`
    are validation rows: the columns that the model takes, in their order, and the label; the first one becomes the example. Their
    numbers decide whether the ONNX graph, where there is one, or the form itself serves. What is written is signed. Raises
    `Invalid`, `Refused` (types that are not known as safe), `MissingExtra`, `Conflict` where the folder exists.
    """
    if not rows.height:
        raise Invalid("There are no rows to compare on.", code="no-rows", hint="Give validation rows with their label.")
    found_task, classes = infer_task(rows, label, task)
    signature = Signature(
        inputs=tuple(_field(rows[column]) for column in rows.columns if column != label),
        task=found_task,
        classes=classes,
    )
    boundary = Boundary(signature.inputs)
    example = raw_rows(rows[:1], signature.inputs)[0]
    trusted = opening or Opening()
    with appearing(folder) as work:
        target = work / file_of(kind)
        data, parity = None, ParityReport(runtime=kind, reason="Code has no other form.", n=0, tolerance=TOLERANCE)
        if kind == "code":
            _copy_code(form, work / CODE)
        else:
            target.parent.mkdir(parents=True)
            scores, graph = _opened(form, target, kind, signature)
            data, parity = _converted(graph, scores, kind, rows, signature, threshold)
        if data is not None:
            (work / MODEL).write_bytes(data)
        (work / PARITY).write_bytes(canonical_json(parity))
        files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
        manifest = Manifest(
            name=name,
            version=0,
            task=found_task,
            classes=classes,
            threshold=threshold,
            signature=signature,
            runtime=parity.runtime,
            numbers=boundary.numbers,
            strings=boundary.strings,
            outputs=("value",) if found_task == "regression" else ("probabilities",),
            example=example,
            golden={},
            digests={file: digest_file(work / file) for file in files},
            created=created,
        )
        (work / MANIFEST).write_bytes(canonical_json(manifest))
        own = sign_bundle(work, signer)  # code runs only where it is signed, here as well
        session = Session(work, opening=msgspec.structs.replace(trusted, trust=Trust(keys=(own,))))
        try:
            golden = predict_rows(session, [example])[0]
        finally:
            session.close()
        (work / MANIFEST).write_bytes(canonical_json(msgspec.structs.replace(manifest, golden=golden)))
        sign_bundle(work, signer)
    return msgspec.structs.replace(manifest, golden=golden)


def _field(column: pl.Series) -> Field:
    kinds: tuple[tuple[bool, Kind], ...] = (
        (column.dtype.is_numeric(), "number"),
        (str(column.dtype) == "Boolean", "boolean"),
        (column.dtype.is_temporal(), "date"),
    )
    kind: Kind = next((kind for holds, kind in kinds if holds), "category")
    return described(column, kind, nullable=column.null_count() > 0)


def _copy_code(form: Path, into: Path) -> None:
    if not (form / "model.py").is_file():
        raise NotFound(
            f"There is no model.py in {form}.",
            code="no-code",
            hint="It defines a class Model with load(folder) and predict(rows).",
        )
    for path in sorted(form.rglob("*")):
        name = path.relative_to(form).as_posix()
        if "__pycache__" in path.parts or path.is_dir():
            continue
        if path.is_symlink():
            raise Invalid(
                f"{path} is a link, and a bundle holds files.", code="bundle-path", hint="Copy what it names."
            )
        check_file(path, name)
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, into / name)


def _opened(form: Path, target: Path, kind: FormKind, signature: Signature) -> tuple[Score, Callable[[], Any]]:
    """The scores of the form, kept in the bundle, and what makes its ONNX graph."""
    if kind == "xgboost":
        from loopline.packaging import xgboosted

        booster = xgboosted.read_trees(form)
        xgboosted.check_trees(booster, signature)
        target.write_bytes(booster.save_raw("ubj"))
        return xgboosted.native(booster), lambda: xgboosted.graph_of(booster)
    from loopline.packaging import pipelines

    estimator = pipelines.read_pipeline(form)
    pipelines.check_columns(estimator, signature)
    shutil.copyfile(form, target)
    return pipelines.native(estimator, signature), lambda: pipelines.graph_of(estimator, signature)


def _converted(
    graph: Callable[[], Any],
    native: Score,
    kind: Runtime,
    rows: pl.DataFrame,
    signature: Signature,
    threshold: float | None,
) -> tuple[bytes | None, ParityReport]:
    """The ONNX bytes where there are any, and which of the two forms shall serve."""
    from loopline.packaging.joined import with_two_inputs

    numbers, strings = arrays(signature, rows)
    own = as_outputs(native(numbers, strings), rows.height, signature)
    try:
        data: bytes = with_two_inputs(graph(), signature).SerializeToString(deterministic=True)
        session = open_session(data)
        feed = {
            n: a for n, a in (("numbers", numbers), ("strings", strings)) if n in {i.name for i in session.get_inputs()}
        }
        other: Floats = session.run(None, feed)[0]
    except MissingExtra:
        raise
    except Exception as e:  # converters and runtimes raise anything; none of it may stop a model from being served
        said = str(e).strip()
        named = re.search(r"<class '+([\w.]+)'*>", said) or re.search(r"[Oo]perator '?(\w+)", said)
        return None, ParityReport(
            runtime=kind,
            reason=f"The conversion failed: {said.splitlines()[0][:300] if said else type(e).__name__}",
            n=0,
            tolerance=TOLERANCE,
            operator=named[1] if named else type(e).__name__,
        )
    report = agreement(own, other, signature, threshold)
    return data, report if report.runtime == "onnx" else msgspec.structs.replace(report, runtime=kind)
