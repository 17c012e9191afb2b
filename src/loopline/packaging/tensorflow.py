"""TensorFlow's SavedModels: scored as they are, and as an ONNX graph. Nothing here is to run in any other than a child process.

A SavedModel is a program (https://www.tensorflow.org/guide/saved_model). Of it the signature `serving_default` is called: with one
matrix of all columns, or with one input a column, of the column's name; it gives one output.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from loopline.errors import Invalid, MissingExtra, NotFound
from loopline.features.boundary import STRING_KINDS
from loopline.packaging.code import copy_file
from loopline.packaging.graph import OPSET
from loopline.packaging.manifest import SAVED, listed_bytes
from loopline.packaging.records import Manifest
from loopline.ports.runtime import Floats, Score, Strings

SIGNATURE = "serving_default"


def keep(form: Path, work: Path) -> None:
    """Copies a SavedModel into a bundle. Raises `NotFound` where there is none, `Invalid` for a file that no bundle holds."""
    if not (form / "saved_model.pb").is_file():
        raise NotFound(
            f"There is no SavedModel in {form}.",
            code="no-form",
            hint="Write one: model.export('folder') of Keras, or tf.saved_model.save(model, 'folder').",
        )
    for path in sorted(form.rglob("*")):
        if not path.is_dir():
            name = path.relative_to(form).as_posix()
            copy_file(path, work / SAVED / name, name)


def open_saved(folder: Path, manifest: Manifest) -> Score:
    """The SavedModel's own scores. Raises `Invalid`, `Refused` where a file changed since it was signed, `MissingExtra`."""
    tf = _library()
    with _copied(folder, manifest) as place:
        loaded = _load(tf, place)
    _, specs = loaded.signatures[SIGNATURE].structured_input_signature
    output = _output(loaded.signatures[SIGNATURE])
    feed = _feeder(tf, specs, manifest)

    def score(numbers: Floats, strings: Strings) -> Any:
        return loaded.signatures[SIGNATURE](**feed(numbers, strings))[output].numpy()  # its variables go with `loaded`

    return score


def graph_of(folder: Path, manifest: Manifest) -> Any:
    """The ONNX graph of the SavedModel, by tf2onnx: `numbers`, or one input a column. Raises whatever the converter does."""
    tf = _library()
    try:
        import tf2onnx
    except ImportError as e:
        raise MissingExtra("tf2onnx is not installed.", extra="tensorflow") from e
    with _copied(folder, manifest) as place:
        loaded = _load(tf, place)  # its variables go with it
        call = loaded.signatures[SIGNATURE]
        _, specs = call.structured_input_signature
        output = _output(call)
        matrix = _is_matrix(specs, manifest)
        names = {"numbers": next(iter(specs))} if matrix else {name: name for name in specs}

        def converted(*values: Any) -> Any:
            return call(**dict(zip(names.values(), values, strict=True)))[output]

        given = [tf.TensorSpec(specs[name].shape, specs[name].dtype, name=as_) for as_, name in names.items()]
        made, _ = tf2onnx.convert.from_function(
            tf.function(converted, input_signature=given), input_signature=given, opset=OPSET
        )
    return made


def _load(tf: Any, place: Path) -> Any:
    try:
        loaded = tf.saved_model.load(str(place))
    except Exception as e:  # what a made-up folder does to TensorFlow's reader can be anything
        raise Invalid(
            f"The SavedModel cannot be read by this TensorFlow: {type(e).__name__}: {str(e)[:300]}.",
            code="bad-model",
            hint="Write it by the version of TensorFlow that is here.",
        ) from e
    if SIGNATURE not in loaded.signatures:
        raise Invalid(
            f"The SavedModel has no signature {SIGNATURE!r}.",
            code="bad-model",
            hint="Write it with one: model.export('folder') of Keras, or tf.saved_model.save(model, 'folder', signatures=...).",
        )
    return loaded


def _output(call: Any) -> str:
    names = sorted(call.structured_outputs)
    if len(names) != 1:
        raise Invalid(
            f"The SavedModel gives {len(names)} outputs: {', '.join(names)[:200]}.",
            code="bad-model",
            hint="Give its signature serving_default one: the probabilities, or the value.",
        )
    return str(names[0])


def _is_matrix(specs: dict[str, Any], manifest: Manifest) -> bool:
    """Whether it takes all columns as one matrix. Raises `Invalid` for columns that are not its own."""
    names = [field.name for field in manifest.signature.inputs]
    if len(specs) == 1 and not manifest.strings:
        (spec,) = specs.values()
        if spec.shape.rank == 2 and spec.shape[1] in (len(names), None):
            return True
    if sorted(specs) != sorted(names):
        wanted = {name: list(spec.shape) for name, spec in specs.items()}
        raise Invalid(
            f"The SavedModel takes {str(wanted)[:300]}, and the rows have {names[:20]}.",
            code="other-columns",
            hint="Give rows of just the columns that it takes and the label; in a matrix they stand in the order of training.",
        )
    return False


def _feeder(tf: Any, specs: dict[str, Any], manifest: Manifest) -> Any:
    """What makes the inputs of the call from the two arrays."""
    if _is_matrix(specs, manifest):
        ((name, spec),) = specs.items()
        return lambda numbers, strings: {name: _column(tf, spec, name, numbers)}
    texts = {field.name for field in manifest.signature.inputs if field.kind in STRING_KINDS}
    for name, spec in specs.items():
        if (spec.dtype == tf.string) != (name in texts):
            raise Invalid(
                f"The SavedModel takes {name!r} as {spec.dtype.name}, and the rows have "
                f"{'text' if name in texts else 'numbers'} there.",
                code="other-columns",
                hint="Give the rows' column the type of training.",
            )

    def feed(numbers: Floats, strings: Strings) -> dict[str, Any]:
        found = {name: _column(tf, specs[name], name, numbers[:, [k]]) for k, name in enumerate(manifest.numbers)}
        for k, name in enumerate(manifest.strings):
            values = strings[:, [k]].astype(object)
            found[name] = tf.constant(values if specs[name].shape.rank == 2 else values[:, 0], tf.string)
        return found

    return feed


def _column(tf: Any, spec: Any, name: str, values: Floats) -> Any:
    if not spec.dtype.is_floating and np.isnan(values).any():
        raise ValueError(f"{name!r} is {spec.dtype.name} to the model, which has no missing values")
    return tf.cast(tf.constant(values if spec.shape.rank == 2 else values[:, 0]), spec.dtype)


@contextmanager
def _copied(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """The SavedModel's files in a folder of this process's own, each as it was signed: TensorFlow reads by name alone."""
    with tempfile.TemporaryDirectory(prefix="loopline-saved-") as own:
        for name in manifest.digests:
            if not name.startswith(f"{SAVED}/"):
                continue
            data = listed_bytes(folder, name, manifest)
            path = Path(own) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        yield Path(own) / SAVED


def _library() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        import tensorflow as tf
    except ImportError as e:
        raise MissingExtra("TensorFlow is not installed.", extra="tensorflow") from e
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf
