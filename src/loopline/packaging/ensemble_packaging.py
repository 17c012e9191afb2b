"""A declared ensemble as a bundle: members fetched, rows described, merged into one ONNX graph where that agrees, signed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx

from loopline.errors import Invalid
from loopline.features.boundary import STRING_KINDS, Boundary
from loopline.features.labels import infer_task
from loopline.features.raw import raw_signature
from loopline.features.records import Field, Kind, Signature, Task
from loopline.features.table import raw_rows
from loopline.hashing import canonical_json
from loopline.packaging.bundle import appearing
from loopline.packaging.cleaned import Cleaned, read_cleaning
from loopline.packaging.ensemble import Ensemble, Member, refused
from loopline.packaging.ensemble_merging import merged
from loopline.packaging.ensemble_running import NODES, Columns, Shape, Source, shapes
from loopline.packaging.forms import listed, scored
from loopline.packaging.frames import arrays
from loopline.packaging.manifest import CLEANING, DECLARED, MANIFEST, MODEL, PARITY, SIGNATURES, read_manifest
from loopline.packaging.parity import TOLERANCE, agreement
from loopline.packaging.quantising import with_int8
from loopline.packaging.records import PROGRAMS, Manifest, Opening, ParityReport, Trust
from loopline.packaging.runtime import Session, open_session, predict_rows, run_session
from loopline.packaging.signed import check_trusted, sign_bundle
from loopline.packaging.signing import ModelSigner
from loopline.ports.runtime import Floats
from loopline.quality.cleaning import Cleaning
from loopline.quality.cleaning_rows import RowCleaning

if TYPE_CHECKING:
    import polars as pl

Fetch = Callable[[str, Path], str]
"""Puts the bundle of a registry's version (`name@version`) into a new folder; gives its ref."""


def package_ensemble(
    ensemble: Ensemble,
    folder: Path,
    *,
    fetch: Fetch,
    rows: pl.DataFrame,
    label: str,
    signer: ModelSigner,
    created: int,
    train: pl.DataFrame | None = None,
    threshold: float | None = None,
    opening: Opening | None = None,
    int8: float | None = None,
) -> Manifest:
    """Write the bundle of an ensemble; the folder appears whole or not at all.

    A member that is a folder is copied, any other `fetch`ed. `rows` are raw validation rows with the label: on them the one graph
    is held against the members asked each by itself; where it agrees it serves and nothing else is in the bundle, else the members
    are, each in its own form. `train` teaches the declared steps, where there are some. What is written is signed. Raises `Invalid`
    for members that do not fit together or with the rows, `Refused` for a member that is a program and not signed by a key of
    `opening`, `Conflict` where the folder exists.
    """
    if not rows.height:
        raise Invalid("There are no rows to compare on.", code="no-rows", hint="Give validation rows with their label.")
    opening = opening or Opening()
    with appearing(folder) as work:
        manifests, refs = _members(ensemble, work, fetch, opening)
        answer = shapes(ensemble, manifests)[ensemble.answer]
        task = _task(ensemble, answer, rows, label)
        cleanings = _Cleanings(ensemble, work, manifests)
        signature = Signature(inputs=cleanings.fields, task=task, classes=answer.classes)
        rows_cleaning = cleanings.shared
        if ensemble.steps:
            signature, rows_cleaning = _taught(ensemble, signature, train, label)
        boundary = Boundary(signature.inputs)
        takes = Columns(boundary.numbers, boundary.strings)
        if rows_cleaning is not None:
            takes = cleanings.columns
            cleaned = Cleaned(cleaning=rows_cleaning, numbers=takes.numbers, strings=takes.strings)
            (work / CLEANING).write_bytes(canonical_json(cleaned))
        said = {"ensemble": ensemble.to_dict(), "members": refs}
        (work / DECLARED).write_bytes(canonical_json(said))
        manifest = Manifest(
            name=ensemble.name,
            version=0,
            task=task,
            classes=answer.classes,
            threshold=threshold if task == "binary" else None,
            signature=signature,
            runtime="ensemble",
            numbers=boundary.numbers,
            strings=boundary.strings,
            outputs=("probabilities",) if answer.classes else ("value",),
            example=raw_rows(rows[:1], signature.inputs)[0],
            golden={},
            digests={},
            created=created,
        )

        def sign(manifest: Manifest) -> Opening:
            (work / MANIFEST).write_bytes(canonical_json(manifest))
            own = sign_bundle(work, signer)
            return msgspec.structs.replace(opening, trust=Trust(keys=(own,)))

        manifest = listed(manifest, work)
        given, own = _scored(work, sign(manifest), manifest, rows)
        data, parity = _merged(ensemble, manifests, work / NODES, takes, given, own, signature, manifest.threshold)
        if data is not None and int8 is not None:
            data, parity = with_int8(data, parity, given, own, signature, manifest.threshold, int8)
        if data is not None and parity.runtime == "onnx":
            (work / MODEL).write_bytes(data)
            shutil.rmtree(work / NODES)
        (work / PARITY).write_bytes(canonical_json(parity))
        manifest = listed(msgspec.structs.replace(manifest, runtime=parity.runtime), work)
        session = Session(work, opening=sign(manifest))
        try:
            golden = predict_rows(session, [manifest.example])[0]
        finally:
            session.close()
        manifest = msgspec.structs.replace(manifest, golden=golden)
        sign(manifest)
    return manifest


def _members(
    ensemble: Ensemble, work: Path, fetch: Fetch, opening: Opening
) -> tuple[dict[str, Manifest], dict[str, Source]]:
    """The members' bundles, put into the folder: their manifests, and what is kept of where they are from."""
    manifests: dict[str, Manifest] = {}
    refs: dict[str, Source] = {}
    for name, one in ensemble.nodes.items():
        if not isinstance(one, Member):
            continue
        place, ref = work / NODES / name, ""
        place.parent.mkdir(exist_ok=True)
        if "@" in one.model or one.model.startswith("model:"):
            ref = fetch(one.model, place)
        else:
            read_manifest(Path(one.model))
            shutil.copytree(one.model, place)
        manifests[name] = read_manifest(place)
        if _runs_programs(place, manifests[name]):
            # To sign what holds it is to vouch for it.
            check_trusted(place, opening.trust, f"the member {name!r} is a program")
        said = manifests[name]
        refs[name] = Source(ref=ref or f"model:{said.name}@{said.version}", registry=bool(ref))
    return manifests, refs


def _runs_programs(folder: Path, manifest: Manifest) -> bool:
    if manifest.runtime != "ensemble":
        return manifest.runtime in PROGRAMS
    inside = [path.parent for path in (folder / NODES).glob(f"*/{MANIFEST}")]
    return any(_runs_programs(one, read_manifest(one)) for one in inside)


def _task(ensemble: Ensemble, answer: Shape, rows: pl.DataFrame, label: str) -> Task:
    if not answer.classes:
        return "regression"
    _, classes = infer_task(rows, label, None)
    if set(classes) - set(answer.classes):
        raise Invalid(
            f"The ensemble answers with {list(answer.classes)[:20]}, and the rows' label has {list(classes)[:20]}.",
            code="other-classes",
            hint="Give rows labelled with the members' classes.",
        )
    return "binary" if len(answer.classes) == 2 else "multiclass"


class _Cleanings:
    """The columns that the members read between them, and the cleaning that they share, where there is one."""

    def __init__(self, ensemble: Ensemble, work: Path, manifests: dict[str, Manifest]) -> None:
        self.shared: RowCleaning | None = None
        known: dict[str, Cleaned] = {}
        for name, manifest in manifests.items():
            if CLEANING in manifest.digests:
                read_cleaning(work / NODES / name, manifest)
                known[name] = msgspec.json.decode((work / NODES / name / CLEANING).read_bytes(), type=Cleaned)
        first = next(iter(known.values()), None)
        fed = {name: set(one.takes) for name, one in ensemble.nodes.items() if isinstance(one, Member)}
        same = (
            first is not None
            and not ensemble.steps
            and all(
                (known[name].cleaning == first.cleaning)
                if name in known
                else fed[name] >= {*manifest.numbers, *manifest.strings}
                for name, manifest in manifests.items()
            )
            and all(not fed[name] for name in known)
        )
        fields: dict[str, Field] = {}
        for name, manifest in manifests.items():
            for field in manifest.signature.inputs:
                if field.name not in fed[name]:
                    fields[field.name] = _either(ensemble, fields.get(field.name), field)
        self.fields = tuple(fields.values())
        boundary = Boundary(self.fields)
        self.columns = Columns(boundary.numbers, boundary.strings)
        if first is not None and same:
            self.shared = first.cleaning
            self.columns = Columns(
                tuple(dict.fromkeys(column for one in known.values() for column in one.numbers)),
                tuple(dict.fromkeys(column for one in known.values() for column in one.strings)),
            )
            for name in known:
                manifests[name] = _without_cleaning(work / NODES / name, manifests[name], known[name])
        elif late := [name for name, one in known.items() if one.cleaning.history is not None]:
            raise refused(
                ensemble.name,
                f"the cleaning of {late[0]!r} looks at the rows before a row, and the members' cleanings differ",
                "Take members of one run of a loop, whose cleaning is one.",
            )


def _without_cleaning(place: Path, manifest: Manifest, cleaned: Cleaned) -> Manifest:
    """Makes a member take what the shared cleaning gives."""
    numbers = [Field(name=column, kind="number", nullable=True) for column in cleaned.numbers]
    strings = [Field(name=column, kind="text", nullable=True) for column in cleaned.strings]
    (place / CLEANING).unlink()
    shutil.rmtree(place / SIGNATURES, ignore_errors=True)  # they are of another manifest
    changed = msgspec.structs.replace(
        manifest,
        signature=msgspec.structs.replace(manifest.signature, inputs=(*numbers, *strings)),
        numbers=cleaned.numbers,
        strings=cleaned.strings,
        digests={file: digest for file, digest in manifest.digests.items() if file != CLEANING},
    )
    (place / MANIFEST).write_bytes(canonical_json(changed))
    return changed


def _either(ensemble: Ensemble, known: Field | None, other: Field) -> Field:
    """A column as two members read it. Raises `Invalid` where they read different things."""
    if known is None:
        return other
    kinds = {known.kind, other.kind}
    both: Kind = "number" if kinds <= {"number", "integer"} else "text" if kinds <= STRING_KINDS else other.kind
    if known.kind != other.kind and both not in ("number", "text"):
        raise refused(
            ensemble.name,
            f"its members read {known.name!r} as {known.kind} and as {other.kind}",
            "Train them on one table.",
        )
    same = known.kind == other.kind
    ends = ((known.minimum, other.minimum, min), (known.maximum, other.maximum, max))
    low, high = (None if a is None or b is None else of(a, b) for a, b, of in ends)
    return Field(
        name=known.name,
        kind=known.kind if same else both,
        nullable=known.nullable and other.nullable,
        categories=tuple(sorted({*known.categories, *other.categories})) if same and known.kind == "category" else (),
        minimum=low,
        maximum=high,
    )


def _taught(
    ensemble: Ensemble, signature: Signature, train: pl.DataFrame | None, label: str
) -> tuple[Signature, RowCleaning]:
    """What raw rows hold, and the declared steps as the training rows taught them."""
    if train is None:
        raise refused(
            ensemble.name, "it has steps, and no rows to learn them from", "Give training rows: --train FILE."
        )
    fitted = Cleaning.fit(train, ensemble.steps, hidden=(label,))
    names = [field.name for field in signature.inputs]
    cleaning = fitted.rows.reads(names)
    made = {name for step in cleaning.steps for name in step.makes}
    if missing := [name for name in names if name not in made and name not in train.columns]:
        raise refused(
            ensemble.name,
            f"the training rows have no {missing[0]!r}, and no step makes it",
            "A member reads that column.",
        )
    return raw_signature(train, signature, cleaning), cleaning


def _scored(work: Path, opening: Opening, manifest: Manifest, rows: pl.DataFrame) -> tuple[tuple[Any, Any], Floats]:
    """The validation rows as the members take them, and the answers of the members asked each by itself."""
    session = Session(
        work, opening=opening, within=True
    )  # a member that is a program has a process of its own all the same
    try:
        precision = np.float32 if session.cleaning is None else np.float64
        numbers, strings = arrays(manifest, rows, precision)
        if session.cleaning is not None:
            numbers, strings = session.cleaning.apply(np.ascontiguousarray(numbers), strings.tolist())
        return (numbers, strings), scored(session, numbers, strings)
    finally:
        session.close()


def _merged(
    ensemble: Ensemble,
    manifests: Mapping[str, Manifest],
    folder: Path,
    takes: Columns,
    given: tuple[Any, Any],
    own: Floats,
    signature: Signature,
    threshold: float | None,
) -> tuple[bytes | None, ParityReport]:
    """The one graph where there is one, and whether it or the members shall serve."""
    apart = ParityReport(runtime="ensemble", reason="", n=0, tolerance=TOLERANCE)
    for name, said in manifests.items():
        if said.runtime != "onnx":
            why = f"{name!r} is computed by {said.runtime}, so the members are asked each by itself."
            return None, msgspec.structs.replace(apart, reason=why)
        if CLEANING in said.digests:
            why = f"{name!r} cleans its rows in a way of its own, so the members are asked each by itself."
            return None, msgspec.structs.replace(apart, reason=why)
    try:
        graphs = {name: onnx.load_model_from_string((folder / name / MODEL).read_bytes()) for name in manifests}
        data: bytes = merged(ensemble, manifests, graphs, takes).SerializeToString(deterministic=True)
        found = run_session(open_session(data), *given)
    except Exception as e:  # converters and runtimes raise anything; none of it may stop an ensemble from being served
        operator = e.details.get("operator") if isinstance(e, Invalid) else None
        said_ = str(e).strip().partition("\n")[0][:300] or type(e).__name__
        why = f"The conversion failed: {said_}"
        return None, msgspec.structs.replace(apart, reason=why, operator=str(operator or type(e).__name__))
    report = agreement(own, found, signature, threshold)
    return data, report if report.runtime == "onnx" else msgspec.structs.replace(report, runtime="ensemble")
