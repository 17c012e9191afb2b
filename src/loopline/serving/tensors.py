"""The Open Inference Protocol's answer to one call over REST."""

from __future__ import annotations

import numpy as np

from loopline.serving import oip
from loopline.serving.call import Call, Headers
from loopline.serving.outcome import Outcome


def tensors(call: Call) -> tuple[bytes, Headers]:
    """The body of the answer, and its headers. Raises `Problem` for an output that there is not."""
    assert call.endpoint is not None
    assert call.asked is not None
    outcome = Outcome(call)
    first = outcome.first
    parameters = {
        "model": first.model,
        "model_version": first.version,
        "variant": first.name,
        "prediction_ids": ",".join(outcome.ids()),
    }
    if outcome.mixed:
        parameters["variants"] = ",".join(outcome.variants)
    values = np.array(outcome.values, dtype=np.float32)
    body, length = oip.encode(
        call.asked, call.endpoint.name, first.version, first.signature, values, outcome.labels, parameters
    )
    if length is None:
        return body, ()
    return body, (
        (b"content-type", b"application/octet-stream"),
        (b"inference-header-content-length", str(length).encode()),
    )
