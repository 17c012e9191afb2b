"""Models of TensorFlow and Keras, written into a folder with what they answer themselves. Run in their own environment."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import tensorflow as tf

FOLDER = Path(sys.argv[1])
ROWS = np.loadtxt(FOLDER / "rows.csv", delimiter=",", skiprows=1, usecols=(0, 1, 2), dtype=np.float32)
WARDS = np.loadtxt(FOLDER / "rows.csv", delimiter=",", skiprows=1, usecols=(3,), dtype=str)
answers: dict[str, list[object]] = {}
keras.utils.set_random_seed(3)


def net(out: int, end: str | None) -> keras.Model:
    inputs = keras.Input((3,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(16, "relu")(inputs))
    made = keras.Model(inputs, keras.layers.Dense(out, end)(hidden))
    made(ROWS, training=True)
    return made


for name, out, end in (
    ("binary", 1, "sigmoid"),
    ("multiclass", 3, "softmax"),
    ("regression", 1, None),
    ("logits", 1, None),
):
    model = net(out, end)
    model.export(FOLDER / name, verbose=False)
    answers[name] = model(ROWS).numpy().tolist()
    if name == "binary":
        model.save(FOLDER / "binary.keras")


class Columns(tf.Module):
    """One input a column, one of them text, which no converter takes."""

    def __init__(self) -> None:
        super().__init__()
        keys, values = tf.constant(["east", "north", "west"]), tf.constant([0.25, 0.5, -0.75])
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -0.125)
        self.weight = tf.Variable(1.5)

    def call(self, x: tf.Tensor, y: tf.Tensor, z: tf.Tensor, ward: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"p": tf.sigmoid(x[:, 0] * self.weight - y + tf.cast(z, tf.float32) / 3 + self.table.lookup(ward)[:, 0])}


columns = Columns()
given = {
    "x": tf.TensorSpec([None, 1], tf.float32), "y": tf.TensorSpec([None], tf.float32),
    "z": tf.TensorSpec([None], tf.int64), "ward": tf.TensorSpec([None, 1], tf.string),
}  # fmt: skip
call = tf.function(columns.call, input_signature=[given[name] for name in ("x", "y", "z", "ward")])
tf.saved_model.save(columns, FOLDER / "columns", signatures={"serving_default": call})
answers["columns"] = call(
    tf.constant(ROWS[:, :1]), tf.constant(ROWS[:, 1]), tf.cast(ROWS[:, 2], tf.int64), tf.constant(WARDS[:, None])
)["p"].numpy().tolist()  # fmt: skip


class Numbers(tf.Module):
    def call(self, x: tf.Tensor, y: tf.Tensor, z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"v": x * 2 - y + tf.cast(z, tf.float32)}


numbers = Numbers()
shape = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.int32)]
plain = tf.function(numbers.call, input_signature=shape)
tf.saved_model.save(numbers, FOLDER / "numbers", signatures={"serving_default": plain})
answers["numbers"] = plain(ROWS[:, 0], ROWS[:, 1], ROWS[:, 2].astype(np.int32))["v"].numpy().tolist()

several = tf.function(
    lambda rows: {"a": rows[:, 0], "b": rows[:, 1]}, input_signature=[tf.TensorSpec([None, 3], tf.float32)]
)
tf.saved_model.save(tf.Module(), FOLDER / "several", signatures={"serving_default": several})
tf.saved_model.save(tf.Module(), FOLDER / "silent")
(FOLDER / "answers.json").write_text(json.dumps(answers))
