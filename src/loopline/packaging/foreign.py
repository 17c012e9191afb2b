"""Models that other libraries made, and a user's own code, as bundles that serving can serve alone, signed by who packages them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopline.errors import Invalid, MissingExtra, NotFound
from loopline.features.boundary import Boundary
from loopline.features.infer import described
from loopline.features.labels import infer_task
from loopline.features.records import Field, Kind, Signature, Task
from loopline.features.table import raw_rows
from loopline.hashing import canonical_json
from loopline.packaging.bundle import appearing
from loopline.packaging.forms import FormKind, keep_form, listed
from loopline.packaging.frames import arrays
from loopline.packaging.manifest import CODE, MANIFEST, MODEL, NATIVE, PARITY
from loopline.packaging.parity import TOLERANCE, agreement
from loopline.packaging.quantising import with_int8
from loopline.packaging.records import PROGRAMS, Manifest, Opening, ParityReport, Runtime, Trust
from loopline.packaging.runtime import Session, open_session, predict_rows
from loopline.packaging.signed import sign_bundle
from loopline.packaging.signing import ModelSigner
from loopline.ports.runtime import Floats

if TYPE_CHECKING:
    import polars as pl

_OPERATORS = (
    r"<class '+([\w.]+)'*>",
    r"OpOverload\(op='([\w.:]+)'",
    r"[Oo]perator '?(\w+)",
    r"Tensorflow op \[\w+: (\w+)\]",
)
"""How the converters name what they cannot convert: skl2onnx and onnxmltools, torch, any other, tf2onnx."""


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
    int8: float | None = None,
) -> Manifest:
    """Write a bundle of a model in its library's own form; the folder appears whole or not at all.

    `form` is an `.onnx` graph, LightGBM's `.txt` file, XGBoost's `.ubj` or `.json` file, a `.skops` file, a form of PyTorch (see
    `packaging.pytorch`), the folder of a SavedModel, or a folder of code with `model.py` (see `packaging.code`). `rows` are
    validation rows: the columns that the model takes, in their order, and the label; the first one becomes the example. Their
    numbers decide whether the ONNX graph, where there is one, or the form itself serves; a program (PyTorch, TensorFlow) that ONNX
    serves for is left out of the bundle. With `int8` the graph's 8-bit form serves where it differs by no more than that from the
    form's own answers. What is written is signed. Raises `NotFound`, `Invalid`, `Refused` (types that are not known as safe),
    `MissingExtra`, `Conflict` where the folder exists.
    """
    if int8 is not None and kind == "code":
        raise Invalid(
            "Code has no int8 form.", code="nothing-to-quantise", hint="Package a model that has an ONNX form."
        )
    if not form.exists():
        raise NotFound(f"There is no {form}.", code="no-form", hint="Name what its library wrote: a file or a folder.")
    if form.is_dir() and kind in ("onnx", "lightgbm", "xgboost", "skops"):
        raise Invalid(f"{form} is a folder.", code="bad-model", hint="Name the file in it.")
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
    with appearing(folder) as work:
        manifest = Manifest(
            name=name,
            version=0,
            task=found_task,
            classes=classes,
            threshold=threshold,
            signature=signature,
            runtime=kind,
            numbers=boundary.numbers,
            strings=boundary.strings,
            outputs=("value",) if found_task == "regression" else ("probabilities",),
            example=example,
            golden={},
            digests={},
            created=created,
        )

        def sign(manifest: Manifest) -> Opening:
            (work / MANIFEST).write_bytes(canonical_json(manifest))
            own = sign_bundle(work, signer)  # code runs only where it is signed, here as well
            return msgspec.structs.replace(opening or Opening(), trust=Trust(keys=(own,)))

        parity = ParityReport(runtime=kind, reason="Code has no other form.", n=0, tolerance=TOLERANCE)
        kept = keep_form(form, work, manifest, rows, sign)
        if kept.scores is not None and kept.graph is not None:
            data, parity = _converted(kept.graph, kept.scores, kind, rows, signature, threshold)
            if kind == "onnx":
                parity = msgspec.structs.replace(parity, reason="The form is ONNX itself.")
            if data is not None and int8 is not None:
                data, parity = with_int8(data, parity, arrays(signature, rows), kept.scores, signature, threshold, int8)
            if data is not None:
                (work / MODEL).write_bytes(data)
            if parity.runtime == "onnx" and kind in PROGRAMS:
                for place in (CODE, NATIVE):
                    shutil.rmtree(work / place, ignore_errors=True)
        (work / PARITY).write_bytes(canonical_json(parity))
        manifest = listed(msgspec.structs.replace(manifest, runtime=parity.runtime), work)
        session = Session(work, opening=sign(manifest))
        try:
            golden = predict_rows(session, [example])[0]
        finally:
            session.close()
        manifest = msgspec.structs.replace(manifest, golden=golden)
        sign(manifest)
    return manifest


def _field(column: pl.Series) -> Field:
    kinds: tuple[tuple[bool, Kind], ...] = (
        (column.dtype.is_numeric(), "number"),
        (str(column.dtype) == "Boolean", "boolean"),
        (column.dtype.is_temporal(), "date"),
    )
    kind: Kind = next((kind for holds, kind in kinds if holds), "category")
    return described(column, kind, nullable=column.null_count() > 0)


def _converted(
    graph: Callable[[], Any],
    own: Floats,
    kind: Runtime,
    rows: pl.DataFrame,
    signature: Signature,
    threshold: float | None,
) -> tuple[bytes | None, ParityReport]:
    """The ONNX bytes where there are any, and which of the two forms shall serve."""
    from loopline.packaging.joined import with_two_inputs

    numbers, strings = arrays(signature, rows)
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
        named = next((found for pattern in _OPERATORS if (found := re.search(pattern, said))), None)
        return None, ParityReport(
            runtime=kind,
            reason=f"The conversion failed: {said.splitlines()[0][:300] if said else type(e).__name__}",
            n=0,
            tolerance=TOLERANCE,
            operator=named[1] if named else type(e).__name__,
        )
    report = agreement(own, other, signature, threshold)
    return data, report if report.runtime == "onnx" else msgspec.structs.replace(report, runtime=kind)
