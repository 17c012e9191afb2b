"""TorchServe over gRPC: `org.pytorch.serve.grpc.inference.InferenceAPIsService`.

Rows are in the input `data` (or `body`) as JSON, in the forms that POST /predictions/NAME takes, and are answered alike. A model
here says nothing before it has its answer, so StreamPredictions answers with one message. Errors are statuses; in
StreamPredictions2, which goes on after one, they stand in the answer. Source: TorchServe 0.12, proto/inference.proto, grpc_api.md.
"""

from __future__ import annotations

from typing import Any

import grpc

from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign import torchserve
from loopline.serving.grpc.caller import STATUS, Caller, Method, Refusal, Services
from loopline.serving.grpc.messages import TORCHSERVE
from loopline.serving.live import LiveEndpoint
from loopline.serving.problems import Problem, busy


class Prediction(torchserve.Prediction):
    """The codec of one Predictions."""

    def __init__(self, given: dict[str, bytes]) -> None:
        super().__init__({})
        self._given = given

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of the input. Raises `Problem`."""
        _, call.body = torchserve.field([(name, "", content) for name, content in self._given.items()])
        return super().read(call, endpoint, row_limit)

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The text of the status."""
        return str(problem.error).encode(), ()


async def ping(caller: Caller, request: Any) -> Any:
    """Ping. Raises the `Problem` of a worker that is not ready."""
    if not caller.ready:
        raise busy("This worker is not ready for requests.", "not-ready")
    return TORCHSERVE["TorchServeHealthResponse"](health='{"status": "Healthy"}')


async def predict(caller: Caller, request: Any) -> Any:
    """Predictions, and StreamPredictions."""
    body = await caller.infer(request.model_name, request.model_version, Prediction(dict(request.input)))
    return TORCHSERVE["PredictionResponse"](prediction=body)


async def converse(caller: Caller, request: Any) -> Any:
    """A request of a StreamPredictions2."""
    try:
        answer = await predict(caller, request)
    except (Problem, Refusal) as e:
        answer = TORCHSERVE["PredictionResponse"]()
        answer.status.code, _ = STATUS.get(e.status, grpc.StatusCode.INTERNAL).value
        answer.status.message = str(e.error) if isinstance(e, Problem) else str(e)
    if request.HasField("sequence_id"):
        answer.sequence_id = request.sequence_id
    return answer


SERVICES: Services = {
    "org.pytorch.serve.grpc.inference.InferenceAPIsService": {
        "Ping": Method(TORCHSERVE["Empty"], ping),
        "Predictions": Method(TORCHSERVE["PredictionsRequest"], predict),
        "StreamPredictions": Method(TORCHSERVE["PredictionsRequest"], predict, tells=True),
        "StreamPredictions2": Method(TORCHSERVE["PredictionsRequest"], converse, streams=True),
    }
}
