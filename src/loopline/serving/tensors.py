"""The Open Inference Protocol's answer to one call, put together from what its variants said."""

from __future__ import annotations

from typing import Any

import numpy as np

from loopline.serving import oip
from loopline.serving.call import Call, Headers


def tensors(call: Call) -> tuple[bytes, Headers]:
    """The body of the answer, and its headers. Raises `Problem`."""
    assert call.rows is not None
    assert call.endpoint is not None
    assert call.asked is not None
    shares, count = call.shares, len(call.rows.rows)
    first = shares[0].variant
    prefix = call.request[:-8]
    parameters: dict[str, Any] = {
        "model": first.model,
        "model_version": first.version,
        "variant": first.name,
        "prediction_ids": ",".join(f"{prefix}{n:08x}" for n in range(call.first, call.first + count)),
    }
    values = np.empty((count, first.served.width), dtype=np.float32)
    labels = [""] * count
    names = [""] * count
    for share in shares:
        variant = share.variant
        order = None if variant.labels == first.labels else [variant.labels.index(c) for c in first.labels]
        for n, output in zip(share.at if share.at is not None else range(count), share.output, strict=True):
            values[n] = output if order is None else [output[i] for i in order]
            labels[n], names[n] = variant.label(output), variant.name
    if len(shares) > 1:
        parameters["variants"] = ",".join(names)
    body, length = oip.encode(
        call.asked, call.endpoint.name, first.version, first.signature, values, labels, parameters
    )
    if length is None:
        return body, ()
    return body, (
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(length).encode()),
    )
