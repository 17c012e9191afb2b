"""Writes event files with TensorBoard's own writer: `python tensorboard_events.py FOLDER`.

The files in tests/adapters/tensorboard/golden are of it.
"""

import struct
import sys
import zlib

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.histogram import metadata as histogram
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.scalar import metadata as scalar
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util

Value = summary_pb2.Summary.Value


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height):
    rows = b"".join(b"\0" + b"\x10\x80\xf0" * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tensor(tag, value, metadata):
    return Value(tag=tag, tensor=tensor_util.make_tensor_proto(value), metadata=metadata)


def told(tag, **part):
    content = plugin_data_pb2.HParamsPluginData(**part)
    return Value(tag=tag, metadata=hparams.create_summary_metadata(content), tensor=hparams.NULL_TENSOR)


def write(name, values):
    writer = EventFileWriter(f"{sys.argv[1]}/{name}")
    for step, value in values:
        summary = summary_pb2.Summary(value=[value])
        writer.add_event(event_pb2.Event(wall_time=1_700_000_000 + step, step=step, summary=summary))
    writer.close()


about = scalar.create_summary_metadata("accuracy", "")
picture = summary_pb2.Summary.Image(height=2, width=2, colorspace=3, encoded_image_string=png(2, 2))
values = [(n, Value(tag="loss", simple_value=1 / (1 + n))) for n in range(20)]
values += [(n, tensor("accuracy", np.float32(n / 20), about)) for n in range(20)]
values += [(0, tensor("note", "*hello*", text.create_summary_metadata("note", "")))]
values += [(3, Value(tag="picture/0", image=picture))]
values += [(3, tensor("weights", np.zeros((3, 3)), histogram.create_summary_metadata("weights", "")))]
values += [(1, Value(tag="odd", simple_value=float("nan"))), (2, Value(tag="odd", simple_value=float("inf")))]
write("train", values)

begun = plugin_data_pb2.SessionStartInfo(start_time_secs=1_700_000_000)
begun.hparams["rate"].number_value = 0.1
begun.hparams["leaves"].number_value = 31
begun.hparams["kind"].string_value = "gbm"
begun.hparams["bagging"].bool_value = True
ended = plugin_data_pb2.SessionEndInfo(status=2, end_time_secs=1_700_000_009)  # STATUS_FAILURE
first = told(hparams.SESSION_START_INFO_TAG, session_start_info=begun)
last = told(hparams.SESSION_END_INFO_TAG, session_end_info=ended)
write("tune/1", [(0, first), (1, Value(tag="auc", simple_value=0.5)), (2, last)])
