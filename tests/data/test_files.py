"""The Parquet files of a version, for programs that read nothing else."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.data.conftest import Place

from loopline.errors import Refused


def test_the_files_of_a_version_hold_its_rows_in_order(place: Place) -> None:
    place.add(50)
    place.add(20)
    for version, rows in ((1, 50), (2, 20)):
        found = place.session.datasets.files("visits", str(version))
        assert (found.ref, found.rows) == (f"data:visits@{version}", rows)
        read = pl.concat([pl.read_parquet(file) for file in found.files])
        assert_frame_equal(read, place.rows(version=version))
    (entry, *_) = place.session.ledger.entries(operation="datasets.files")
    assert entry.inputs == ("data:visits@1",), "that somebody may read them is on record"


def test_files_that_hold_sealed_rows_are_not_handed_out(place: Place) -> None:
    place.add(300)
    sides = place.session.datasets.split("visits", "back")
    for name in ("visits", "visits.test"):
        with pytest.raises(Refused, match="sealed") as caught:
            place.session.datasets.files(name)
        assert caught.value.code == "sealed"
    assert place.session.datasets.files("visits.train").ref == sides.train
