"""The messages of the gRPC calls that are answered, by the names that they have in their own packages.

Field numbers are those of the Open Inference Protocol (grpc_predict_v2.proto, with Triton's streams, statistics and model
configuration), of TorchServe (inference.proto) and of TensorFlow Serving (predict.proto, get_model_status.proto,
get_model_metadata.proto, tensor.proto). Only fields that are read or written stand here; `Version` and `Packed` are
google.protobuf's Int64Value and Any, `Status` is google.rpc's.
"""

from __future__ import annotations

from loopline.protobuf import classes

_TENSOR = (
    "1 name string",
    "2 datatype string",
    "3 shape *int64",
    "4 parameters %InferParameter",
    "5 contents InferTensorContents",
)

OIP = classes(
    "loopline.oip",
    {
        "ServerLiveRequest": (),
        "ServerLiveResponse": ("1 live bool",),
        "ServerReadyRequest": (),
        "ServerReadyResponse": ("1 ready bool",),
        "ServerMetadataRequest": (),
        "ServerMetadataResponse": ("1 name string", "2 version string", "3 extensions *string"),
        "ModelReadyRequest": ("1 name string", "2 version string"),
        "ModelReadyResponse": ("1 ready bool",),
        "ModelMetadataRequest": ("1 name string", "2 version string"),
        "TensorMetadata": ("1 name string", "2 datatype string", "3 shape *int64"),
        "ModelMetadataResponse": (
            "1 name string", "2 versions *string", "3 platform string", "4 inputs *TensorMetadata", "5 outputs *TensorMetadata",
        ),
        "InferParameter": (
            "1 bool_param |bool", "2 int64_param |int64", "3 string_param |string", "4 double_param |double",
            "5 uint64_param |uint64",
        ),
        "InferTensorContents": (
            "1 bool_contents *bool", "2 int_contents *int32", "3 int64_contents *int64", "4 uint_contents *uint32",
            "5 uint64_contents *uint64", "6 fp32_contents *float", "7 fp64_contents *double", "8 bytes_contents *bytes",
        ),
        "InferInputTensor": _TENSOR,
        "InferRequestedOutputTensor": ("1 name string", "2 parameters %InferParameter"),
        "ModelInferRequest": (
            "1 model_name string", "2 model_version string", "3 id string", "4 parameters %InferParameter",
            "5 inputs *InferInputTensor", "6 outputs *InferRequestedOutputTensor", "7 raw_input_contents *bytes",
        ),
        "InferOutputTensor": _TENSOR,
        "ModelInferResponse": (
            "1 model_name string", "2 model_version string", "3 id string", "4 parameters %InferParameter",
            "5 outputs *InferOutputTensor", "6 raw_output_contents *bytes",
        ),
        "ModelStreamInferResponse": ("1 error_message string", "2 infer_response ModelInferResponse"),
        "ModelConfigRequest": ("1 name string", "2 version string"),
        "ModelInput": ("1 name string", "2 data_type int32", "4 dims *int64"),
        "ModelOutput": ("1 name string", "2 data_type int32", "3 dims *int64"),
        "ModelConfig": (
            "1 name string", "2 platform string", "4 max_batch_size int32", "5 input *ModelInput", "6 output *ModelOutput",
            "17 backend string",
        ),
        "ModelConfigResponse": ("1 config ModelConfig",),
        "RepositoryIndexRequest": ("1 repository_name string", "2 ready bool"),
        "ModelIndex": ("1 name string", "2 version string", "3 state string", "4 reason string"),
        "RepositoryIndexResponse": ("1 models *ModelIndex",),
        "ModelRepositoryParameter": (
            "1 bool_param |bool", "2 int64_param |int64", "3 string_param |string", "4 bytes_param |bytes",
        ),
        "RepositoryModelLoadRequest": (
            "1 repository_name string", "2 model_name string", "3 parameters %ModelRepositoryParameter",
        ),
        "RepositoryModelLoadResponse": (),
        "RepositoryModelUnloadRequest": (
            "1 repository_name string", "2 model_name string", "3 parameters %ModelRepositoryParameter",
        ),
        "RepositoryModelUnloadResponse": (),
        "ModelStatisticsRequest": ("1 name string", "2 version string"),
        "StatisticDuration": ("1 count uint64", "2 ns uint64"),
        "InferStatistics": (
            "1 success StatisticDuration", "2 fail StatisticDuration", "3 queue StatisticDuration",
            "4 compute_input StatisticDuration", "5 compute_infer StatisticDuration", "6 compute_output StatisticDuration",
            "7 cache_hit StatisticDuration", "8 cache_miss StatisticDuration",
        ),
        "ModelStatistics": (
            "1 name string", "2 version string", "3 last_inference uint64", "4 inference_count uint64",
            "5 execution_count uint64", "6 inference_stats InferStatistics",
        ),
        "ModelStatisticsResponse": ("1 model_stats *ModelStatistics",),
    },
    syntax="proto3",
)  # fmt: skip

TORCHSERVE = classes(
    "loopline.torchserve",
    {
        "Empty": (),
        "TorchServeHealthResponse": ("1 health string",),
        "PredictionsRequest": (
            "1 model_name string", "2 model_version string", "3 input %bytes", "4 sequence_id |string",
        ),
        "Status": ("1 code int32", "2 message string"),
        "PredictionResponse": ("1 prediction bytes", "2 sequence_id |string", "3 status Status"),
    },
    syntax="proto3",
)  # fmt: skip

TENSORFLOW = classes(
    "loopline.tensorflow",
    {
        "Version": ("1 value int64",),
        "Packed": ("1 type_url string", "2 value bytes"),
        "Dim": ("1 size int64", "2 name string"),
        "TensorShapeProto": ("2 dim *Dim", "3 unknown_rank bool"),
        "TensorProto": (
            "1 dtype int32", "2 tensor_shape TensorShapeProto", "4 tensor_content bytes", "5 float_val *float",
            "6 double_val *double", "7 int_val *int32", "8 string_val *bytes", "10 int64_val *int64", "11 bool_val *bool",
            "13 half_val *int32", "16 uint32_val *uint32", "17 uint64_val *uint64",
        ),
        "ModelSpec": ("1 name string", "2 version |Version", "3 signature_name string", "4 version_label |string"),
        "PredictRequest": ("1 model_spec ModelSpec", "2 inputs %TensorProto", "3 output_filter *string"),
        "PredictResponse": ("1 outputs %TensorProto", "2 model_spec ModelSpec"),
        "GetModelStatusRequest": ("1 model_spec ModelSpec",),
        "StatusProto": ("1 error_code int32", "2 error_message string"),
        "ModelVersionStatus": ("1 version int64", "2 state int32", "3 status StatusProto"),
        "GetModelStatusResponse": ("1 model_version_status *ModelVersionStatus",),
        "TensorInfo": ("1 name string", "2 dtype int32", "3 tensor_shape TensorShapeProto"),
        "SignatureDef": ("1 inputs %TensorInfo", "2 outputs %TensorInfo", "3 method_name string"),
        "SignatureDefMap": ("1 signature_def %SignatureDef",),
        "GetModelMetadataRequest": ("1 model_spec ModelSpec", "2 metadata_field *string"),
        "GetModelMetadataResponse": ("1 model_spec ModelSpec", "2 metadata %Packed"),
    },
    syntax="proto3",
)  # fmt: skip
