"""Event files that TensorBoard's own writer wrote come over as runs, and what is damaged is said to the byte."""

from __future__ import annotations

import math
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.adapters.tensorboard.messages import Event
from loopline.adapters.tensorboard.records import Damage, crc32c, frame, masked, read
from loopline.app import Platform
from loopline.errors import Invalid
from loopline.foreign import run_source
from loopline.ports.foreign_runs import ForeignRun, Unread
from loopline.tracking.exchange.importing import bring

GOLDEN = Path(__file__).parent / "golden"


def scalar(tag: str, value: float, step: int, time: float = 1_700_000_000.0) -> bytes:
    event = Event(wall_time=time, step=step)
    event.summary.value.add(tag=tag, simple_value=value)
    return frame(event.SerializeToString())


def events(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.out.tfevents.1.host").write_bytes(content)
    return folder


def one(folder: Path) -> Any:
    (found,) = run_source("tensorboard", str(folder)).runs()
    return found


def test_the_crc_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of the catalogue of CRCs
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*tfevents*")), ids=lambda path: path.parent.name)
def test_frames_are_written_as_tensorboard_writes_them(path: Path) -> None:
    found = [record for record in read(path) if isinstance(record, bytes)]
    assert b"".join(map(frame, found)) == path.read_bytes()


def test_runs_come_over_as_they_are(either: Platform) -> None:
    session = either.session()
    found = list(bring(session, run_source("tensorboard", str(GOLDEN))))
    assert [o.state for o in found] == ["imported"] * 2
    assert found[0].left_out == ("1 of histograms",)
    runs = {run.name: run for run in session.runs.list().runs}
    assert runs.keys() == {"train", "tune/1"}
    train, tune = runs["train"], runs["tune/1"]
    loss = session.runs.history(train.id, "loss")
    assert [(p.step, p.value) for p in loss] == [
        (n, struct.unpack("<f", struct.pack("<f", 1 / (1 + n)))[0]) for n in range(20)
    ]
    assert [p.time for p in loss][:2] == [1_700_000_000_000, 1_700_000_001_000]
    tensors = session.runs.history(train.id, "accuracy")
    assert [p.value for p in tensors] == [struct.unpack("<f", struct.pack("<f", n / 20))[0] for n in range(20)]
    assert [p.value for p in session.runs.history(train.id, "odd")] == ["NaN", "Infinity"]
    files = {file.path: session.runs.artifact(train.id, file.path).read() for file in session.runs.artifacts(train.id)}
    assert files["text/note/0.md"] == b"*hello*"
    assert files["images/picture/0/3.png"].startswith(b"\x89PNG")
    assert tune.params == {"rate": 0.1, "leaves": 31, "kind": "gbm", "bagging": True}
    assert (train.status, tune.status, train.created) == ("finished", "failed", 1_700_000_000_000)
    again = list(bring(session, run_source("tensorboard", str(GOLDEN))))
    assert [o.state for o in again] == ["there already"] * 2
    assert len(session.runs.list().runs) == 2


def test_another_folder_of_the_same_name_is_another_run(platform: Platform, tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number) / "logs" / "run"
        folder.mkdir(parents=True)
        (folder / f"events.out.tfevents.{number}.host").write_bytes(scalar("loss", number, 0))
        (found,) = bring(platform.session(), run_source("tensorboard", str(folder.parent)))
        assert found.state == "imported"


def test_a_tail_that_was_cut_is_tolerated_and_said(tmp_path: Path) -> None:
    whole = b"".join(scalar("loss", n, n) for n in range(10))
    length = len(whole) // 10
    for cut in range(1, length):
        found = one(events(tmp_path / str(cut), whole[:-cut]))
        assert [p.step for p in found.points()] == list(range(9))
        assert found.left_out == (f"events.out.tfevents.1.host from byte {length * 9} on: it is cut off",)


def test_what_lies_behind_damage_is_not_guessed_at(tmp_path: Path) -> None:
    parts = [scalar("loss", n, n) for n in range(4)]
    at = sum(map(len, parts[:2]))
    for place in range(len(parts[2])):
        damaged = bytearray(b"".join(parts))
        damaged[at + place] ^= 0x40
        found = one(events(tmp_path / str(place), bytes(damaged)))
        assert [p.step for p in found.points()] == [0, 1]
        assert f"from byte {at} on" in found.left_out[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no events"),
        (b"%PDF-1.7 " * 10, "no record"),
        (struct.pack("<Q", 10 << 30) + struct.pack("<I", masked(struct.pack("<Q", 10 << 30))), "10,737,418,240"),
        (struct.pack("<Q", 1000) + struct.pack("<I", masked(struct.pack("<Q", 1000))) + b"x", "cut off"),
        (frame(b"\xff" * 20), "no event"),
    ],
)  # fmt: skip
def test_what_is_no_event_file_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    found = one(events(tmp_path / "logs", content))
    assert isinstance(found, Unread)
    assert why in found.why


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "x.tfevents"
    for given_ in (content, frame(content), frame(content) + content):
        path.write_bytes(given_)
        list(read(path))
        for found in run_source("tensorboard", str(path.parent)).runs():
            if isinstance(found, ForeignRun):
                list(found.points())
                list(found.files())


def test_tags_stay_below_their_run(platform: Platform, tmp_path: Path) -> None:
    event = Event(wall_time=1_700_000_000, step=1)
    for tag in ("../../up", "/etc/passwd", "a\\b:c", "..", "C:/x", "dot./x"):
        event.summary.value.add(tag=tag).image.encoded_image_string = b"\x89PNG"
    folder = events(tmp_path / "logs", frame(event.SerializeToString()) + scalar("a", 1.0, 0))
    (found,) = bring(platform.session(), run_source("tensorboard", str(folder)))
    assert found.state == "imported", found.why
    assert len(platform.session().runs.artifacts(found.run)) == 6


def test_a_tag_that_no_metric_can_have_is_refused_with_its_run(platform: Platform, tmp_path: Path) -> None:
    folder = events(tmp_path / "logs", scalar("a/../b", 1.0, 0))
    (found,) = bring(platform.session(), run_source("tensorboard", str(folder)))
    assert (found.state, "a/../b" in found.why) == ("refused", True)
    assert platform.session().runs.list().runs == ()


def test_odd_times_and_steps(platform: Platform, tmp_path: Path) -> None:
    content = b"".join(
        scalar("loss", n, step, time)
        for n, (step, time) in enumerate([(-(2**63), 1.0), (2**63 - 1, math.inf), (0, math.nan), (1, -5.0), (2, 1e300)])
    )
    (found,) = bring(platform.session(), run_source("tensorboard", str(events(tmp_path / "logs", content))))
    assert found.state == "imported", found.why
    assert len(platform.session().runs.history(found.run, "loss")) == 5


def test_links_are_not_followed(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "elsewhere")
    folder = events(tmp_path / "logs", scalar("a", 1.0, 0))
    os.symlink(tmp_path / "elsewhere", folder / "more")
    os.symlink(next((tmp_path / "elsewhere" / "train").iterdir()), folder / "events.out.tfevents.2.host")
    assert [p.key for p in one(folder).points()] == ["a"]
    with pytest.raises(Invalid):
        run_source("tensorboard", str(tmp_path / "nowhere"))


def test_damage_is_a_place_and_a_reason(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"short")
    assert list(read(tmp_path / "x")) == [Damage(0, "it is cut off")]
