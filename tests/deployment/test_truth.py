"""Labels, held against the endpoint that they name and the classes that it serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from loopline.app import Platform
from loopline.catalog import Session
from loopline.errors import Invalid, NotFound
from loopline.loop.table import Table, linear
from loopline.operations import Body
from loopline.outcomes.records import Label
from loopline.outcomes.tables import labels
from loopline.packaging.bundle import write_bundle
from loopline.registry.bundle_tar import pack
from loopline.serving.log import Frame, Part, PredictionLog, encode
from loopline.testing.clock import FakeClock


def kept(platform: Platform) -> int:
    with platform.database.snapshot() as connection:
        return len(connection.execute(labels.select()).all())


def test_a_mistyped_endpoint_takes_no_label(platform: Platform, session: Session) -> None:
    session.endpoints.create("risk", "risk@1")
    with pytest.raises(NotFound) as e:
        session.labels.add("rist", [Label(prediction="p", value="yes")])
    assert (e.value.code, e.value.hint) == ("no-endpoint", "Did you mean 'risk'?")
    assert kept(platform) == 0
    assert session.labels.add("risk", [Label(prediction="p", value="yes")]).waiting == 1


def test_a_value_that_is_no_class_refuses_the_whole_batch(platform: Platform, session: Session) -> None:
    session.endpoints.create("risk", "risk@1")
    for value in ("YES", True, 1, ""):
        with pytest.raises(Invalid) as e:
            session.labels.add("risk", [Label(prediction="p", value="no"), Label(prediction="q", value=value)])
        assert e.value.code == "bad-label"
        assert "The label of q is" in e.value.message
        assert e.value.hint == "Its classes are 'no', 'yes'."
    assert kept(platform) == 0


def test_an_endpoint_that_was_removed_takes_the_labels_of_its_answers(
    platform: Platform, session: Session, clock: FakeClock
) -> None:
    session.endpoints.create("risk", "risk@1")
    log = PredictionLog(
        platform.settings.workspace / "serving" / "log", 0, segment_bytes=1 << 20, segment_age_ms=1 << 40, now=0
    )
    answer = Frame(
        time_ms=clock.now(), request="r1", endpoint="risk", parts=[Part("model:risk@1", "champion", "live", 1.0)],
        status=200, latency_us=1, form="list", sent=b'[{"x":1}]', answered=b'[{"id":"p1","probability":0.5,"label":"no"}]',
    )  # fmt: skip
    log.append([encode(answer)], clock.now())
    session.predictions.collect()
    session.endpoints.remove("risk")
    assert session.labels.add("risk", [Label(prediction="p1", value="no")]).joined == 1


def test_an_endpoint_of_numbers_takes_numbers(tmp_path: Path, platform: Platform, session: Session) -> None:
    x = np.random.default_rng(2).normal(size=200)
    frame = pl.DataFrame({"x": x, "y": 3 * x})
    model = linear(Table(frame[:150], frame[150:], label="y"))
    write_bundle(
        model, tmp_path / "b", name="days", version=1, example={"x": 0.5}, validation_frame=frame[150:], created=1
    )
    session.models.draft("days", Body(pack(tmp_path / "b"), name="bundle.tar"))
    session.models.register("days", 1)
    session.endpoints.create("days", "days@1")
    for value in ("long", True, "nan", ""):
        with pytest.raises(Invalid, match="days predicts numbers"):
            session.labels.add("days", [Label(prediction="p", value=2), Label(prediction="q", value=value)])
    assert kept(platform) == 0
    given = [Label(prediction=f"p{n}", value=value) for n, value in enumerate((2, -0.5, "7.25"))]
    assert session.labels.add("days", given).taken == 3
