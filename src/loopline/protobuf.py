"""Protobuf messages declared as tables, in a descriptor pool of their own.

So another library's generated code for the very same messages can be imported beside them. Fields that are not declared are kept
apart by protobuf and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Syntax = Literal["proto2", "proto3"]
_ONE, _MANY = 1, 3
_KINDS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12, "uint32": 13,
}  # fmt: skip


def classes(
    package: str, messages: Mapping[str, Sequence[str]], *, syntax: Syntax, uses: Sequence[Any] = ()
) -> dict[str, Any]:
    """The classes of messages by name; each field is declared as `NUMBER NAME TYPE`.

    A type is a scalar's name, another message of the table, or `.package.Message` of a file descriptor in `uses`. `*TYPE`: there
    may be many; `%TYPE`: a map from string; `|TYPE`: one of those so marked is set.
    """
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax=syntax)
    pool = descriptor_pool.DescriptorPool()
    for used in uses:
        pool.AddSerializedFile(used.serialized_pb)
        file.dependency.append(used.name)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for declared in fields:
            number, field, kind = declared.split()
            mark, plain = (kind[0], kind[1:]) if kind[0] in "*%|" else ("", kind)
            added = message.field.add(name=field, number=int(number), label=_MANY if mark in ("*", "%") else _ONE)
            if mark == "%":
                entry = message.nested_type.add(name=f"{field.title().replace('_', '')}Entry")
                entry.options.map_entry = True
                _type(entry.field.add(name="key", number=1, label=_ONE), "string", package)
                _type(entry.field.add(name="value", number=2, label=_ONE), plain, package)
                plain = f"{name}.{entry.name}"
            elif mark == "|":
                if not message.oneof_decl:
                    message.oneof_decl.add(name="choice")
                added.oneof_index = 0
            _type(added, plain, package)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _type(field: Any, kind: str, package: str) -> None:
    if kind in _KINDS:
        field.type = _KINDS[kind]
    else:
        field.type = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{package}.{kind}"
