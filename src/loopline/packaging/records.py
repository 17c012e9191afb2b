"""What a bundle says about itself, and how well its ONNX form agrees with the native one."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loopline.features.records import Signature, Task

Runtime = Literal["onnx", "native", "lightgbm", "xgboost", "skops", "pytorch", "tensorflow", "ensemble", "code"]
"""What computes a bundle: the ONNX graph in the server's own process, or one of the others in a child process."""

PROGRAMS: frozenset[Runtime] = frozenset({"pytorch", "tensorflow", "code"})
"""The runtimes whose forms are programs: they can do anything, so they are opened only where a trusted key signed them."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """Whose signatures count: public keys as PEM. `every`: a bundle that none of them signed is not loaded at all.

    Whatever `every` says, code of a bundle runs only where one of them signed it.
    """

    keys: tuple[str, ...] = ()
    every: bool = False


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """How bundles are opened: whom to trust, and the bounds of child processes: seconds a batch, bytes of memory (0: any),
    and seconds that one may compute until its model is loaded.

    `vouched` is the digest that the manifest must have of a bundle that is part of another one, which was found to be signed: then
    no signature of its own is asked for.
    """

    trust: Trust = Trust()
    timeout: float = 30.0
    memory: int = 2 << 30
    start: float = 120.0
    vouched: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle's own description, `manifest.json`: all that is needed to serve the folder alone.

    `numbers` and `strings` are the columns of the ONNX inputs of the same names, in order (either may be empty: then the graph
    has no such input). `outputs` names the graph's output: `("probabilities",)` or `("value",)`. `example` is one raw row and
    `golden` the expected answer for it, as `packaging.runtime.predict_rows` gives it. `digests` covers every other file of the
    folder, `blake3:<hex>` by relative path. `created` is in milliseconds since 1970 UTC.
    """

    name: str
    version: int
    task: Task
    classes: tuple[str, ...]
    threshold: float | None
    signature: Signature
    runtime: Runtime
    numbers: tuple[str, ...]
    strings: tuple[str, ...]
    outputs: tuple[str, ...]
    example: dict[str, Any]
    golden: dict[str, Any]
    digests: dict[str, str]
    created: int


class NearThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """A validation row whose label may differ between the forms, since its probability is within tolerance of the threshold."""

    row: int
    native: float
    onnx: float


class QuantisedReport(msgspec.Struct, frozen=True, kw_only=True):
    """The int8 form held against the model's own answers on `n` rows that its scales were not taken from.

    It serves only where it is `accepted`. `tolerance`, `difference` and `disagreeing` are as in the parity report,
    `near_threshold` counts rows whose label may differ; `bytes` and `bytes_before` are the sizes of the two graphs.
    """

    accepted: bool
    reason: str
    tolerance: float
    n: int = 0
    difference: float | None = None
    disagreeing: int = 0
    near_threshold: int = 0
    bytes: int = 0
    bytes_before: int = 0


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The ONNX form held against the native one on `n` validation rows.

    `difference` is the largest absolute one between outputs (None where nothing was converted), `disagreeing` counts rows with
    another label that are not near the threshold. `runtime` is what shall serve, `reason` says why.
    """

    runtime: Runtime
    reason: str
    n: int
    tolerance: float
    difference: float | None = None
    disagreeing: int = 0
    near_threshold: tuple[NearThreshold, ...] = ()
    operator: str | None = None
    int8: QuantisedReport | None = None
    """The int8 form, where one was asked for."""
