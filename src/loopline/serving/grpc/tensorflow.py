"""TensorFlow Serving over gRPC: PredictionService's Predict and GetModelMetadata, ModelService's GetModelStatus.

One input tensor per raw column, of shape [N] or [N, 1], in `tensor_content` or in the typed values. Source: tensorflow/serving,
apis/prediction_service.proto and model_service.proto; tensorflow/core/framework/tensor.proto.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from loopline.errors import did_you_mean
from loopline.serving import oip
from loopline.serving.call import Call, Headers
from loopline.serving.contract import Rows
from loopline.serving.foreign.tensorflow import SIGNATURE, metadata, no_signature, variant_of
from loopline.serving.grpc.caller import Caller, Method, Services
from loopline.serving.grpc.messages import TENSORFLOW
from loopline.serving.live import LiveEndpoint
from loopline.serving.outcome import Outcome
from loopline.serving.problems import Problem, bad_input

_TYPES = {
    1: ("FP32", "float_val"), 2: ("FP64", "double_val"), 3: ("INT32", "int_val"), 4: ("UINT8", "int_val"),
    5: ("INT16", "int_val"), 6: ("INT8", "int_val"), 7: ("BYTES", "string_val"), 9: ("INT64", "int64_val"),
    10: ("BOOL", "bool_val"), 17: ("UINT16", "int_val"), 19: ("FP16", "half_val"), 22: ("UINT32", "uint32_val"),
    23: ("UINT64", "uint64_val"),
}  # fmt: skip
"""TensorFlow's number of a type: the Open Inference Protocol's name, and the field of its values."""
_NUMBERS = {"DT_FLOAT": 1, "DT_DOUBLE": 2, "DT_STRING": 7, "DT_INT64": 9, "DT_BOOL": 10}
AVAILABLE = 30
"""ModelVersionStatus.State"""


class Prediction:
    """The codec of one Predict."""

    def __init__(self, request: Any) -> None:
        self._request = request

    def read(self, call: Call, endpoint: LiveEndpoint, row_limit: int) -> Rows:
        """The rows of the request's tensors. Raises `Problem`."""
        if (signature := self._request.model_spec.signature_name) not in ("", SIGNATURE):
            raise no_signature(signature)
        tensors, pieces = [], []
        for name, proto in sorted(self._request.inputs.items()):
            datatype, field = _TYPES.get(proto.dtype, (f"type {proto.dtype}", ""))
            shape = [d.size for d in proto.tensor_shape.dim]
            raw = bool(proto.tensor_content) and datatype != "BYTES"
            pieces.append(proto.tensor_content if raw else None)
            data = None if raw else _values(name, proto, field, shape, row_limit)
            tensors.append(oip.Tensor(name, shape, datatype, data))
        columns, rows = oip.columns_of(tensors, pieces, row_limit)
        call.columns = msgspec.msgpack.encode(columns)
        return endpoint.contract.check_columns(columns, rows)

    def write(self, call: Call) -> tuple[bytes, Headers]:
        """A PredictResponse. Raises `Problem` for an output that there is not."""
        assert call.endpoint is not None
        outcome = Outcome(call)
        names = oip.outputs_of(outcome.first.task)
        answer = TENSORFLOW["PredictResponse"]()
        answer.model_spec.name = call.endpoint.name
        answer.model_spec.version.value = int(outcome.first.version)
        answer.model_spec.signature_name = SIGNATURE
        for name in self._request.output_filter or names:
            if name not in names:
                bad_input(f"There is no output {name!r}.", "no-output", did_you_mean(name, names), got=name)
            tensor = answer.outputs[name]
            tensor.tensor_shape.dim.add(size=outcome.count)
            if name == "label":
                tensor.dtype = 7
                tensor.string_val.extend(label.encode() for label in outcome.labels)
            else:
                tensor.dtype = 1
                if name == "probabilities":
                    tensor.tensor_shape.dim.add(size=len(outcome.values[0]))
                tensor.float_val.extend(v for row in outcome.values for v in row)
        return answer.SerializeToString(), ()

    def refuse(self, problem: Problem) -> tuple[bytes, Headers]:
        """The text of the status."""
        return str(problem.error).encode(), ()


def _values(name: str, proto: Any, field: str, shape: list[int], row_limit: int) -> list[Any]:
    """The typed values of a tensor; where there are fewer than its shape says, the last one stands for the rest."""
    values: list[Any] = list(getattr(proto, field)) if field else []
    if field == "string_val":
        try:
            values = [value.decode() for value in values]
        except UnicodeDecodeError as e:
            bad_input(f"Input {name!r}: the texts are not UTF-8: {e}.", "bad-binary", field=name)
    elif field == "half_val":
        values = np.array([v & 0xFFFF for v in values], dtype=np.uint16).view(np.float16).tolist()
    if field in ("float_val", "double_val", "half_val"):
        values = [None if v != v else v for v in values]
    if values and shape and len(values) < shape[0] <= row_limit:
        values += values[-1:] * (shape[0] - len(values))
    return values


def _version(caller: Caller, spec: Any) -> str:
    """The version that a ModelSpec asks for; "": none. Raises `Problem`."""
    caller.allow(spec.name)
    endpoint = caller.live.endpoint(spec.name)
    match spec.WhichOneof("choice"):
        case "version":
            return variant_of(endpoint, "versions", str(spec.version.value)).version
        case "version_label":
            return variant_of(endpoint, "labels", spec.version_label).version
    return ""


async def predict(caller: Caller, request: Any) -> bytes:
    """Predict."""
    spec, codec = request.model_spec, Prediction(request)
    return await caller.infer(spec.name, _version(caller, spec), codec)


async def model_status(caller: Caller, request: Any) -> Any:
    """GetModelStatus."""
    version = _version(caller, request.model_spec)
    answer = TENSORFLOW["GetModelStatusResponse"]()
    for known in [version] if version else caller.live.endpoint(request.model_spec.name).versions():
        status = answer.model_version_status.add(version=int(known), state=AVAILABLE)
        status.status.error_code = 0
    return answer


async def model_metadata(caller: Caller, request: Any) -> Any:
    """GetModelMetadata; its one field is `signature_def`."""
    for field in request.metadata_field:
        if field != "signature_def":
            bad_input(f"Metadata field {field[:100]!r} is not supported.", "no-metadata", "Ask for signature_def.")
    if not request.metadata_field:
        bad_input("No metadata field is asked for.", "no-metadata", "Ask for signature_def.")
    spec = request.model_spec
    version = _version(caller, spec)
    endpoint = caller.live.endpoint(spec.name)
    variant = variant_of(endpoint, "versions", version) if version else endpoint.variants[0]
    told = metadata(endpoint, variant)["metadata"]["signature_def"]["signature_def"][SIGNATURE]
    definitions = TENSORFLOW["SignatureDefMap"]()
    definition = definitions.signature_def[SIGNATURE]
    definition.method_name = told["method_name"]
    for side in ("inputs", "outputs"):
        for name, tensor in told[side].items():
            info = getattr(definition, side)[name]
            info.name, info.dtype = tensor["name"], _NUMBERS[tensor["dtype"]]
            for dim in tensor["tensor_shape"]["dim"]:
                info.tensor_shape.dim.add(size=int(dim["size"]))
    answer = TENSORFLOW["GetModelMetadataResponse"]()
    answer.model_spec.name = spec.name
    answer.model_spec.version.value = int(variant.version)
    packed = answer.metadata["signature_def"]
    packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    packed.value = definitions.SerializeToString()
    return answer


SERVICES: Services = {
    "tensorflow.serving.PredictionService": {
        "Predict": Method(TENSORFLOW["PredictRequest"], predict),
        "GetModelMetadata": Method(TENSORFLOW["GetModelMetadataRequest"], model_metadata),
    },
    "tensorflow.serving.ModelService": {"GetModelStatus": Method(TENSORFLOW["GetModelStatusRequest"], model_status)},
}
