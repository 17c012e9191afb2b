"""Loopline's model server with one worker; the log, routing, validation and metrics are on, as ever.

    python serve_loopline.py BUNDLE PORT FOLDER

The bundle is one of `write_bundle`, or any other.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from models import NAMES, WIDTH, fitted


def write_bundle(folder: Path, kind: str) -> None:
    """A model as a bundle: its graph, made by skl2onnx, and its manifest."""
    import msgspec
    import numpy as np
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    from loopline.features.records import Field, Signature
    from loopline.hashing import digest_file
    from loopline.packaging.records import Manifest
    from loopline.packaging.runtime import encode, open_session

    model = fitted(kind)
    graph = to_onnx(
        model, initial_types=[("numbers", FloatTensorType([None, WIDTH]))], options={id(model): {"zipmap": False}}
    )
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    manifest = Manifest(
        name="bench", version=1, task="binary", classes=("0", "1"), threshold=0.5,
        signature=Signature(
            inputs=tuple(Field(name=n, kind="number", nullable=True) for n in NAMES), task="binary", classes=("0", "1")
        ),
        runtime="onnx", numbers=tuple(NAMES), strings=(), outputs=("probabilities",),
        example=dict.fromkeys(NAMES, 0.5), golden={}, digests={"model.onnx": digest_file(folder / "model.onnx")}, created=0,
    )  # fmt: skip
    session = open_session((folder / "model.onnx").read_bytes())
    output = session.run(["probabilities"], {"numbers": np.full((1, WIDTH), 0.5, np.float32)})[0]
    golden = encode(output, manifest)[0]
    (folder / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, golden=golden)))


def main() -> None:
    from loopline.serving.records import Endpoint, RouteTable, Variant
    from loopline.serving.supervisor import Supervisor

    bundle, folder = Path(sys.argv[1]), Path(sys.argv[3])
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server = Supervisor(folder / "s", log=folder / "log", port=int(sys.argv[2]))
    variant = Variant(name="champion", bundle=str(bundle), model="model:bench@1", weight=10_000)
    server.start(RouteTable(epoch=1, endpoints={"bench": Endpoint(name="bench", variants=(variant,))}))
    signal.sigwait([signal.SIGTERM])
    server.stop()


if __name__ == "__main__":
    main()
