"""A model version in memory: a bundle's folder, verified, loaded, warmed and held against its golden row."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid, NotFound, Unavailable
from loopline.features.boundary import Boundary
from loopline.hashing import digest_bytes
from loopline.packaging.cleaned import read_cleaning
from loopline.packaging.manifest import MANIFEST, MODEL, read_manifest
from loopline.packaging.records import Manifest, Opening
from loopline.packaging.runtime import in_child, open_session
from loopline.ports.runtime import Floats, ModelDown, ModelSlow, Runtime, Strings

IN_LOOP = 0.002
"""Seconds that one row may take for a model to be run in the event loop itself; a slower one runs in a thread."""


class OnnxRuntime:
    """One onnxruntime session, single-threaded: many small calls beat threads that wait for each other."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        try:
            self._session = open_session((folder / MODEL).read_bytes())
        except Exception as e:  # onnxruntime's errors share no base class
            raise broken(folder, f"{MODEL} cannot be loaded: {e}") from e
        cleaning = read_cleaning(folder, manifest)
        takes = manifest if cleaning is None else cleaning
        given = {i.name for i in self._session.get_inputs()}
        wanted = {n for n, columns in (("numbers", takes.numbers), ("strings", takes.strings)) if columns}
        outputs = [o.name for o in self._session.get_outputs()]
        if given != wanted or not set(manifest.outputs) <= set(outputs):
            raise broken(
                folder, f"the graph has inputs {sorted(given)} and outputs {outputs}, not those of the manifest"
            )
        self._outputs = list(manifest.outputs[:1])

    def run(self, numbers: Floats | None, strings: Strings | None) -> Floats:
        feed: dict[str, Any] = {}
        if numbers is not None:
            feed["numbers"] = numbers
        if strings is not None:
            feed["strings"] = strings
        found: Floats = self._session.run(self._outputs, feed)[0]
        return found

    def close(self) -> None:
        """Nothing: the session goes with its last user."""


class ServedModel:
    """A loaded bundle: `manifest`, `runtime`, and how long one row takes (`cost`, seconds)."""

    def __init__(self, folder: Path, manifest: Manifest, runtime: Runtime) -> None:
        self.folder = folder
        self.manifest = manifest
        self.runtime = runtime
        self._cleaning = read_cleaning(folder, manifest)
        self.width = 1 if manifest.task == "regression" else len(manifest.classes)
        self.cost = 0.0
        self.in_loop = False

    def run(self, rows: list[tuple[Any, ...]], lengths: Sequence[int] = ()) -> Floats:
        """The outputs for rows of values in the order `manifest.numbers`, `manifest.strings`. Raises what the model raises.

        `lengths` says how many rows each request has, where there are several: a model that looks at the rows before a row
        looks at those of its request.
        """
        a = len(self.manifest.numbers)
        if self._cleaning is not None:
            together = np.repeat(np.arange(len(lengths)), lengths) if len(lengths) > 1 else None
            floats, texts = self._cleaning.apply(
                np.array([row[:a] for row in rows], dtype=np.float64).reshape(len(rows), a),
                [row[a:] for row in rows],
                together,
            )
            return self.runtime.run(
                floats if self._cleaning.numbers else None, texts if self._cleaning.strings else None
            )
        numbers = strings = None
        if not self.manifest.strings:
            numbers = np.array(rows, dtype=np.float32)
        else:
            if a:
                numbers = np.array([row[:a] for row in rows], dtype=np.float32)
            strings = np.array([row[a:] for row in rows], dtype=object)
        return self.runtime.run(numbers, strings)

    def check(self, output: Floats, n: int) -> Floats:
        """The output itself, where it has the right shape. Raises ValueError."""
        if output.shape != (n, self.width):
            raise ValueError(f"its output has shape {list(output.shape)}, and {[n, self.width]} is due")
        return output

    def close(self) -> None:
        """Frees the session or ends the child process."""
        self.runtime.close()


def broken(folder: Path, why: str) -> Invalid:
    """The refusal of a bundle."""
    return Invalid(
        f"The bundle {folder} cannot be served: {why}.", code="bad-bundle", hint="Package the model version again."
    )


def bundle_key(folder: Path) -> str:
    """What tells one bundle's content from another: the digest of its manifest (which holds those of its files)."""
    try:
        return f"{folder}#{digest_bytes((folder / MANIFEST).read_bytes())}"
    except OSError as e:
        raise NotFound(f"There is no bundle in {folder}.", code="no-bundle", hint=f"It needs a {MANIFEST}.") from e


def load(folder: Path, opening: Opening | None = None) -> ServedModel:
    """The model of a bundle, ready to answer. Raises `NotFound`, `Invalid` or `Refused`.

    Every file is held against its digest, the golden row against the expected answer; then one row is timed.
    """
    opening = opening or Opening()
    manifest = read_manifest(folder)
    if opening.trust.every:
        from loopline.packaging.signed import check_trusted

        check_trusted(folder, opening.trust, "only such a one is served")
    runtime: Runtime
    if not in_child(folder, manifest):
        runtime = OnnxRuntime(folder, manifest)
    else:
        from loopline.packaging.child import ChildRuntime

        try:
            runtime = ChildRuntime(folder, opening)
        except ModelDown as e:
            raise broken(folder, str(e)) from e
        except ModelSlow as e:
            raise Unavailable(
                f"The bundle {folder} cannot be served: {e}.",
                code="slow-bundle",
                hint="Give it longer: the setting model_start, or LOOPLINE_MODEL_START=600.",
            ) from e
    model = ServedModel(folder, manifest, runtime)
    try:
        _warm(model)
    except BaseException:
        model.close()
        raise
    return model


def _warm(model: ServedModel) -> None:
    manifest = model.manifest
    fields = {f.name: f for f in manifest.signature.inputs}
    try:
        boundary = Boundary((fields[name] for name in (*manifest.numbers, *manifest.strings)), np.float64)
        numbers, strings = boundary.decode([{n: manifest.example.get(n) for n in boundary.numbers + boundary.strings}])
    except (KeyError, Invalid) as e:
        raise broken(model.folder, f"its example does not fit its signature: {e}") from e
    row = (*numbers[0].tolist(), *strings[0].tolist())
    try:
        output = model.check(model.run([row]), 1)
    except Exception as e:
        raise broken(model.folder, f"it fails on its own example: {e}") from e
    _golden(model, [float(v) for v in output[0]])
    costs = []
    for _ in range(5):
        start = time.perf_counter()
        model.run([row])
        costs.append(time.perf_counter() - start)
    model.cost = min(costs)
    model.in_loop = isinstance(model.runtime, OnnxRuntime) and model.cost <= IN_LOOP


def _golden(model: ServedModel, output: list[float]) -> None:
    """Holds the answer for the example against the one that was packaged, within float32's rounding."""
    golden, manifest = model.manifest.golden, model.manifest
    try:
        if manifest.task == "regression":
            expected, got = [golden["value"]], output
        else:
            expected, got = [golden["probabilities"][c] for c in manifest.classes], output
    except (KeyError, TypeError) as e:
        raise broken(model.folder, "its manifest has no golden answer") from e
    if len(expected) != len(got) or not all(
        math.isclose(e, g, rel_tol=1e-4, abs_tol=1e-5) for e, g in zip(expected, got, strict=True)
    ):
        raise broken(model.folder, f"it answers its example with {got}, and {expected} is expected")
