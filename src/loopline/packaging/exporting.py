"""The program that makes the ONNX graph of a model that is a program itself: its code runs here, and not where it is packaged.

python -m loopline.packaging.exporting FOLDER     (trusted keys come on its input)

One frame out: what went wrong (an error as `errors.to_dict` gives it, or a text), and the graph's bytes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from loopline.errors import LooplineError, from_dict
from loopline.packaging.child import environment, frame, read
from loopline.packaging.manifest import read_manifest
from loopline.packaging.records import Opening
from loopline.packaging.signed import check_trusted

PATIENCE = 600
"""Seconds that a conversion may take."""


def exported(folder: Path, opening: Opening) -> Any:
    """The ONNX graph (a ModelProto) of a signed bundle's program, made in a child process.

    Raises the `LooplineError` that came up there, or RuntimeError with what its converter said.
    """
    import onnx

    try:
        done = subprocess.run(
            [sys.executable, "-m", "loopline.packaging.exporting", str(folder)],
            input=frame(opening),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # converters say a great deal; what went wrong comes as an answer
            env=environment(),
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"it took more than {PATIENCE} s") from None
    if done.returncode:
        raise RuntimeError(f"its process ended with exit status {done.returncode}")
    error, data = msgspec.msgpack.decode(done.stdout[4:])
    if isinstance(error, dict):
        raise from_dict(error)
    if error:
        raise RuntimeError(error)
    return onnx.load_model_from_string(data)


def main(folder: Path) -> None:
    """The child: converts, and says how it went."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get before the frame
    opening = msgspec.msgpack.decode(read(0), type=Opening)
    signal.alarm(PATIENCE + 5)  # whoever started it may be gone
    error: dict[str, Any] | str | None = None
    data = b""
    try:
        manifest = read_manifest(folder)
        check_trusted(folder, opening.trust, "it holds code")
        if manifest.runtime == "pytorch":
            from loopline.packaging.pytorch import graph_of
        else:
            from loopline.packaging.tensorflow import graph_of
        made = graph_of(folder, manifest)
        without_traces(made)
        data = made.SerializeToString(deterministic=True)
    except LooplineError as e:
        error = e.to_dict()
    except Exception as e:  # converters raise anything
        error = _root(e)
    out.write(frame((error, data)))
    out.flush()


def without_traces(model: Any) -> None:
    """Takes out what converters note of the program and the machine that a graph came from: it is nobody's business who gets it."""
    del model.metadata_props[:]
    for graph in (model.graph, *model.functions):
        graph.ClearField("doc_string")
        graph.ClearField("metadata_props")
        for part in (*graph.node, *graph.value_info):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")


def _root(e: BaseException) -> str:
    """What the first of a chain of errors said: exporters wrap it in pages of advice."""
    while e.__cause__ is not None:
        e = e.__cause__
    return f"{type(e).__name__}: {' '.join(str(e).split())}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
