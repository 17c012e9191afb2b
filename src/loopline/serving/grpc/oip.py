"""The Open Inference Protocol over gRPC: `inference.GRPCInferenceService`, with Triton's calls beside it: streams, the repository,
statistics, the model's configuration.

Specification: kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto. Inputs are as over REST
(`loopline.serving.oip`), in `raw_input_contents` or in typed `contents`; the answer's outputs come the way the inputs did.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from google.protobuf.json_format import ParseDict

from loopline.errors import did_you_mean
from loopline.serving import about, oip, repository
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.grpc.caller import Caller, Method, Refusal, Services
from loopline.serving.grpc.messages import OIP
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_TYPES = {"TYPE_BOOL": 1, "TYPE_INT64": 9, "TYPE_FP32": 11, "TYPE_FP64": 12, "TYPE_STRING": 13}
"""Numbers of Triton's DataType."""


class Inference:
    """The codec of one ModelInfer."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of the request's tensors. Raises `Problem`."""
        request = self._request
        raw = list(request.raw_input_contents)
        if raw and len(raw) != len(request.inputs):
            bad_input(
                f"There are {len(request.inputs)} inputs, and raw_input_contents has {len(raw)}.",
                "bad-binary",
                "Give the contents of all inputs there, in their order, or of none.",
            )
        pieces: list[bytes | None] = [*raw] or [None] * len(request.inputs)
        tensors = [oip.Tensor(i.name, [*i.shape], i.datatype, None if raw else _typed(i)) for i in request.inputs]
        columns, rows = oip.columns_of(tensors, pieces, row_limit)
        checked = endpoint.contract.check_columns(columns, rows)
        key = request.parameters["route_key"].string_param if "route_key" in request.parameters else ""
        checked.route_key = key or None
        call.explains |= oip.explains(_parameter(request, "explain"))
        call.columns = msgspec.msgpack.encode(columns)
        return checked

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """A ModelInferResponse. Raises `Problem` for an output that there is not."""
        return self._answer(call).SerializeToString(), ()

    def explain(self, call: Call, found: list[Any] | None, problem: Problem | None) -> tuple[bytes, Headers]:
        """A ModelInferResponse with an output more: a JSON object a row, which explains it."""
        answer = self._answer(call)
        if problem is not None:
            answer.parameters["explanation_error"].string_param = str(problem.error)
        if found is not None:
            _texts(answer, oip.EXPLANATION, [msgspec.json.encode(one) for one in found], raw=self._raw)
        return answer.SerializeToString(), ()

    @property
    def _raw(self) -> bool:
        return bool(self._request.raw_input_contents)

    def _answer(self, call: Call) -> Any:
        assert call.endpoint is not None
        request, outcome = self._request, Outcome(call)
        first = outcome.first
        names = oip.outputs_of(first.task)
        wanted = [o.name for o in request.outputs] or names
        for name in wanted:
            if name not in names:
                bad_input(f"There is no output {name!r}.", "no-output", did_you_mean(name, names), got=name)
        answer = OIP["ModelInferResponse"](model_name=call.endpoint.name, model_version=first.version, id=request.id)
        said = {
            "model": first.model, "model_version": first.version, "variant": first.name,
            "prediction_ids": ",".join(outcome.ids()), **{k: f"{v:g}" for k, v in first.decision.items()},
        } | ({"variants": ",".join(outcome.variants)} if outcome.mixed else {})  # fmt: skip
        for key, value in said.items():
            answer.parameters[key].string_param = value
        for name in wanted:
            if name == "label":
                _texts(answer, name, [label.encode() for label in outcome.labels], raw=self._raw)
            else:
                output = answer.outputs.add(name=name, datatype="FP32", shape=[outcome.count, len(outcome.values[0])])
                if self._raw:
                    answer.raw_output_contents.append(np.array(outcome.values, dtype="<f4").tobytes())
                else:
                    output.contents.fp32_contents.extend(v for row in outcome.values for v in row)
        return answer

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The text of the status."""
        return str(problem.error).encode(), ()


def _parameter(request: Any, name: str) -> Any:
    """The value of a request's parameter; None where it has none."""
    if name not in request.parameters:
        return None
    given = request.parameters[name]
    kind = given.WhichOneof("choice")
    return None if kind is None else getattr(given, kind)


def _texts(answer: Any, name: str, texts: list[bytes], *, raw: bool) -> None:
    """Adds an output of texts, one a row."""
    output = answer.outputs.add(name=name, datatype="BYTES", shape=[len(texts)])
    if raw:
        answer.raw_output_contents.append(oip.packed_texts(texts))
    else:
        output.contents.bytes_contents.extend(texts)


def _typed(tensor: Any) -> list[Any]:
    """The values of a tensor given in its own contents. Raises `Problem`."""
    kind = _CONTENTS.get(tensor.datatype)
    if kind is None:
        if tensor.datatype in oip.DTYPES:
            bad_input(
                f"Input {tensor.name!r}: {tensor.datatype} has no typed contents.",
                "wrong-type",
                "Send it in raw_input_contents.",
                field=tensor.name,
            )
        return []  # the datatype is refused by name
    values = list(getattr(tensor.contents, kind))
    if kind == "bytes_contents":
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as e:
            bad_input(f"Input {tensor.name!r}: the BYTES are not UTF-8: {e}.", "bad-binary", field=tensor.name)
    return [None if v != v else v for v in values] if kind in ("fp32_contents", "fp64_contents") else values


async def infer(caller: Caller, request: Any) -> bytes:
    """ModelInfer."""
    return await caller.infer(request.model_name, request.model_version, Inference(request))


async def stream_infer(caller: Caller, request: Any) -> Any:
    """A request of a ModelStreamInfer (Triton's): its answer or its error; each answer is the last one to its request."""
    answer = OIP["ModelStreamInferResponse"]()
    try:
        answer.infer_response.MergeFromString(await infer(caller, request))
    except (Problem, Refusal) as e:
        answer.error_message = str(e.error) if isinstance(e, Problem) else str(e)
        answer.infer_response.id, answer.infer_response.model_name = request.id, request.model_name
    if _parameter(request, "triton_enable_empty_final_response"):
        answer.infer_response.parameters["triton_final_response"].bool_param = True
    return answer


async def server_live(caller: Caller, request: Any) -> Any:
    """ServerLive."""
    return OIP["ServerLiveResponse"](live=True)


async def server_ready(caller: Caller, request: Any) -> Any:
    """ServerReady."""
    return OIP["ServerReadyResponse"](ready=caller.ready)


async def server_metadata(caller: Caller, request: Any) -> Any:
    """ServerMetadata."""
    return ParseDict(about.server(), OIP["ServerMetadataResponse"]())


async def model_ready(caller: Caller, request: Any) -> Any:
    """ModelReady; a model that is not there is not ready."""
    try:
        ready = bool(_about(caller, request, "ready")["ready"])
    except Problem as problem:
        if problem.status not in (404, 503):
            raise
        ready = False
    return OIP["ModelReadyResponse"](ready=ready)


async def model_metadata(caller: Caller, request: Any) -> Any:
    """ModelMetadata."""
    return ParseDict(_about(caller, request), OIP["ModelMetadataResponse"]())


async def model_statistics(caller: Caller, request: Any) -> Any:
    """ModelStatistics, of all endpoints where none is named."""
    if not request.name:
        found = about.statistics(caller.live, caller.served(), caller.counters())
    else:
        found = _about(caller, request, "stats")
    return ParseDict(found, OIP["ModelStatisticsResponse"](), ignore_unknown_fields=True)


def _about(caller: Caller, request: Any, *what: str) -> dict[str, Any]:
    caller.allow(request.name)
    rest = ["versions", request.version, *what] if request.version else [*what]
    found = about.model(caller.live, request.name, rest, caller.counters())
    assert found is not None
    return found


async def model_config(caller: Caller, request: Any) -> Any:
    """ModelConfig (Triton's)."""
    found = _about(caller, request, "config")
    for tensor in (*found["input"], *found["output"]):
        tensor["data_type"] = _TYPES[tensor["data_type"]]
    return ParseDict({"config": found}, OIP["ModelConfigResponse"]())


async def repository_index(caller: Caller, request: Any) -> Any:
    """RepositoryIndex."""
    body = msgspec.json.encode({"ready": request.ready})
    models = about.index(caller.live, caller.served(failed=True), body)
    return ParseDict({"models": models}, OIP["RepositoryIndexResponse"]())


async def load(caller: Caller, request: Any) -> Any:
    """RepositoryModelLoad; refused where deployment decides."""
    await _change(caller, "load", request)
    return OIP["RepositoryModelLoadResponse"]()


async def unload(caller: Caller, request: Any) -> Any:
    """RepositoryModelUnload; refused where deployment decides."""
    await _change(caller, "unload", request)
    return OIP["RepositoryModelUnloadResponse"]()


async def _change(caller: Caller, action: str, request: Any) -> None:
    if caller.ask is None:
        caller.allow(request.model_name)
        raise about.ruled(action, request.model_name, alone=caller.alone)
    caller.manage()
    body = msgspec.json.encode({"parameters": dict.fromkeys(request.parameters)})
    await repository.change(caller.ask, action, request.model_name, body)


SERVICES: Services = {
    "inference.GRPCInferenceService": {
        name: Method(OIP[f"{name}Request"], function)
        for name, function in (
            ("ModelInfer", infer),
            ("ServerLive", server_live),
            ("ServerReady", server_ready),
            ("ServerMetadata", server_metadata),
            ("ModelReady", model_ready),
            ("ModelMetadata", model_metadata),
            ("ModelConfig", model_config),
            ("ModelStatistics", model_statistics),
            ("RepositoryIndex", repository_index),
            ("RepositoryModelLoad", load),
            ("RepositoryModelUnload", unload),
        )
    }
    | {"ModelStreamInfer": Method(OIP["ModelInferRequest"], stream_infer, streams=True)}
}
