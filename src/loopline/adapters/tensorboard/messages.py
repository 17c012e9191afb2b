"""The messages of event files, as protobuf: those fields of TensorFlow's `Event`, `Summary` and `TensorProto` that are used here.

They stand in a descriptor pool of their own, so that TensorFlow and TensorBoard can be imported beside it. What is not declared is
kept apart by protobuf and ignored. Field numbers are those of tensorflow/core/util/event.proto, framework/summary.proto and
framework/tensor.proto, and of TensorBoard's plugins/hparams/plugin_data.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_PACKAGE = "loopline.tensorboard"
_ONE, _MANY = 1, 3
_KINDS = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}

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
"""Number, name and type of each field; `*`: there may be many. Parts that are only counted are bytes."""

ONEOF = ("simple_value", "image", "histo", "audio", "tensor")
"""The fields of a Value of which it has one."""


def _declared() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="loopline/tensorboard.proto", package=_PACKAGE, syntax="proto2")
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for declared in fields:
            number, field, kind = declared.split()
            many, kind = kind.startswith("*"), kind.lstrip("*")
            added = message.field.add(name=field, number=int(number), label=_MANY if many else _ONE)
            if kind in _KINDS:
                added.type = _KINDS[kind]
            else:
                added.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
                added.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
    return file


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_declared().SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in ("Event", "HParams")
    }


_made = _classes()
Event: Any = _made["Event"]
HParams: Any = _made["HParams"]
