"""The conformance suite of the port of runtimes (needs pytest).

class TestMine(RuntimeLaws):
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return Subject(runtime=MyRuntime(...), numbers=..., strings=..., width=2)
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest

from loopline.ports.runtime import Floats, Runtime, Strings


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A runtime with rows that it can answer, eight or more, no two alike; `width` is that of its answer."""

    runtime: Runtime
    numbers: Floats | None
    strings: Strings | None
    width: int

    def run(self, places: list[int]) -> Floats:
        """The answers for some of the rows."""
        return self.runtime.run(
            None if self.numbers is None else self.numbers[places],
            None if self.strings is None else self.strings[places],
        )

    @property
    def places(self) -> list[int]:
        """All rows."""
        return list(range(len(self.numbers if self.numbers is not None else self.strings or ())))


class RuntimeLaws:
    """Every `Runtime` passes these; a subclass gives the fixture `model`, whose last test closes it."""

    def test_a_row_in_is_a_row_out(self, model: Subject) -> None:
        for places in (model.places, model.places[:1], model.places * 50):
            found = model.run(places)
            assert found.dtype == np.float32
            assert found.shape == (len(places), model.width)
            assert np.isfinite(found).all()

    def test_the_rows_are_told_apart(self, model: Subject) -> None:
        assert len(np.unique(model.run(model.places), axis=0)) > 1

    def test_probabilities_are_some(self, model: Subject) -> None:
        found = model.run(model.places)
        if model.width > 1:
            assert (found >= 0).all()
            np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)

    def test_a_row_s_answer_is_its_own(self, model: Subject) -> None:
        together = model.run(model.places)
        alone = np.concatenate([model.run([place]) for place in model.places])
        np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)
        turned = model.places[::-1]
        np.testing.assert_allclose(model.run(turned), together[::-1], rtol=1e-5, atol=1e-6)

    def test_the_same_again(self, model: Subject) -> None:
        np.testing.assert_array_equal(model.run(model.places), model.run(model.places))

    def test_after_a_failure_it_answers(self, model: Subject) -> None:
        before = model.run(model.places)
        wrong = np.zeros((3, 200), np.float32)
        with pytest.raises(Exception):  # noqa: B017, PT011 (what it raises is its own)
            model.runtime.run(wrong, None)
        np.testing.assert_array_equal(model.run(model.places), before)

    def test_threads_get_each_their_own(self, model: Subject) -> None:
        wanted = model.run(model.places)
        right: dict[int, bool] = {}

        def ask(place: int) -> None:
            found = [model.run([place]) for _ in range(20)]
            right[place] = all(np.allclose(one, wanted[[place]], rtol=1e-5, atol=1e-6) for one in found)

        threads = [threading.Thread(target=ask, args=(place,)) for place in model.places[:4]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(right) == len(threads)
        assert all(right.values())

    def test_it_may_be_closed_twice(self, model: Subject) -> None:
        model.run(model.places[:1])
        model.runtime.close()
        model.runtime.close()
