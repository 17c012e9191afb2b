"""In an environment of its own, with TensorFlow Serving's stubs: `python tfs_client.py PORT` prints what it was answered.

The stubs of ModelService want a file that tensorflow-protobuf leaves out; its messages are in test_grpc.py.
"""

import json
import sys

import grpc
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}")
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
request = predict_pb2.PredictRequest()
request.model_spec.name = "risk"
for name, dtype, field, values in (
    ("age", types_pb2.DT_DOUBLE, "double_val", [61.5, 3.25]),
    ("visits", types_pb2.DT_INT64, "int64_val", [2, 7]),
    ("insured", types_pb2.DT_BOOL, "bool_val", [True, False]),
    ("admitted", types_pb2.DT_STRING, "string_val", [b"2024-05-31", b"1969-12-31"]),
    ("ward", types_pb2.DT_STRING, "string_val", [b"north", b"west"]),
):
    tensor = request.inputs[name]
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=2)
    getattr(tensor, field).extend(values)
answer = prediction.Predict(request, timeout=20)
about = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
about.model_spec.name = "risk"
definitions = get_model_metadata_pb2.SignatureDefMap()
prediction.GetModelMetadata(about, timeout=20).metadata["signature_def"].Unpack(definitions)
signature = definitions.signature_def["serving_default"]
try:
    request.model_spec.name = "rusk"
    prediction.Predict(request, timeout=20)
    error = ""
except grpc.RpcError as e:
    error = f"{e.code().name}: {e.details()}"
print(
    json.dumps(
        {
            "yes": list(answer.outputs["probabilities"].float_val)[1::2],
            "labels": [v.decode() for v in answer.outputs["label"].string_val],
            "dtype": types_pb2.DataType.Name(answer.outputs["probabilities"].dtype),
            "version": answer.model_spec.version.value,
            "inputs": {name: types_pb2.DataType.Name(i.dtype) for name, i in signature.inputs.items()},
            "error": error,
        }
    )
)
