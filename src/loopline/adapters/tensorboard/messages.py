"""The messages of event files, as protobuf: those fields of TensorFlow's `Event`, `Summary` and `TensorProto` that are used here.

TensorFlow and TensorBoard can be imported beside it (`loopline.protobuf`). Field numbers are those of
tensorflow/core/util/event.proto, framework/summary.proto and framework/tensor.proto,
and of TensorBoard's plugins/hparams/plugin_data.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import struct_pb2

from loopline import protobuf

_MESSAGES: dict[str, tuple[str, ...]] = {
    "Event": (
        "1 wall_time double", "2 step int64", "3 file_version string", "4 graph_def bytes", "5 summary Summary",
        "7 session_log bytes", "8 tagged_run_metadata bytes", "9 meta_graph_def bytes",
    ),
    "Summary": ("1 value *Value",),
    "Value": (
        "1 tag string", "2 simple_value float", "4 image Image", "5 histo bytes", "6 audio bytes", "8 tensor Tensor",
        "9 metadata Metadata",
    ),
    "Image": ("4 encoded_image_string bytes",),
    "Metadata": ("1 plugin_data PluginData",),
    "PluginData": ("1 plugin_name string", "2 content bytes"),
    "Tensor": (
        "1 dtype int32", "4 tensor_content bytes", "5 float_val *float", "6 double_val *double", "7 int_val *int32",
        "8 string_val *bytes", "10 int64_val *int64", "11 bool_val *bool",
    ),
    "HParams": ("3 session_start_info SessionStart", "4 session_end_info SessionEnd"),
    "SessionStart": ("1 hparams *HParam",),
    "HParam": ("1 key string", "2 value .google.protobuf.Value"),
    "SessionEnd": ("1 status int32",),
}  # fmt: skip
"""Parts that are only counted are bytes."""

ONEOF = ("simple_value", "image", "histo", "audio", "tensor")
"""The fields of a Value of which it has one."""

_made = protobuf.classes("loopline.tensorboard", _MESSAGES, syntax="proto2", uses=(struct_pb2.DESCRIPTOR,))
Event: Any = _made["Event"]
HParams: Any = _made["HParams"]
