"""The conformance suite of the port of sources (needs pytest).

class TestMine(SourceLaws):
    @pytest.fixture
    def place(self, tmp_path):
        return MyPlace(tmp_path)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import polars as pl
import pytest

from loopline.errors import LooplineError
from loopline.hashing import canonical_json
from loopline.ports.source import Piece, Position, Source

Row = dict[str, Any]


class Place(Protocol):
    """Where a source of the tests reads; a system that is really there."""

    secret: str
    """What opens the place and may be told nowhere; empty where it is open to all."""

    def put(self, rows: Sequence[Row]) -> None:
        """Puts rows there, each with an `id` (an integer) and a `word` (text): behind those that are there."""
        ...

    def open(self) -> Source:
        """A new source that reads there."""
        ...

    def vanish(self) -> None:
        """From now on it cannot be read."""
        ...


class SourceLaws:
    """Every `Source` passes these; a subclass gives the fixture `place`, an empty place that is read."""

    def test_all_that_is_there_is_given_once(self, place: Place) -> None:
        place.put(_rows(0, 5))
        place.put(_rows(5, 12))
        assert _given(_pieces(place)) == _rows(0, 12)

    def test_from_one_position_the_same_comes_again(self, place: Place) -> None:
        place.put(_rows(0, 4))
        place.put(_rows(4, 9))
        first, again = _pieces(place), _pieces(place)
        assert [_rows_of(piece) for piece in first] == [_rows_of(piece) for piece in again]
        assert [(piece.name, piece.position) for piece in first] == [(piece.name, piece.position) for piece in again]

    def test_a_position_goes_on_behind_its_piece(self, place: Place) -> None:
        place.put(_rows(0, 4))
        place.put(_rows(4, 9))
        pieces = _pieces(place)
        if not _grows(place):
            behind = _given(_pieces(place, pieces[-1].position))
            assert behind in ([], _rows(0, 9)), "nothing, or the whole table again"
            return
        for number, piece in enumerate(pieces, 1):
            behind = _given(_pieces(place, piece.position))
            assert behind == _in_order(row for later in pieces[number:] for row in _rows_of(later))

    def test_what_comes_later_is_given_at_the_next_reading(self, place: Place) -> None:
        place.put(_rows(0, 4))
        last = _pieces(place)[-1].position
        place.put(_rows(4, 7))
        found = _given(_pieces(place, last))
        assert found == (_rows(4, 7) if _grows(place) else _rows(0, 7))

    def test_nothing_is_lost_or_given_twice_where_rows_come_while_it_reads(self, place: Place) -> None:
        if not _grows(place):
            return  # the next reading gives the whole table
        place.put(_rows(0, 4))
        place.put(_rows(4, 8))
        found: list[Row] = []
        position: Position | None = None
        with contextlib.closing(place.open()) as source:
            for number, piece in enumerate(source.read(None)):
                if number == 0:
                    place.put(_rows(8, 11))
                found += _rows_of(piece)
                position = piece.position
        found += _given(_pieces(place, position))
        assert _in_order(found) == _rows(0, 11)

    def test_a_reading_that_was_given_up_is_taken_up_where_it_was(self, place: Place) -> None:
        if not _grows(place):
            return  # the next reading gives the whole table
        place.put(_rows(0, 4))
        place.put(_rows(4, 8))
        with contextlib.closing(place.open()) as source:
            reading = source.read(None)  # held on to: a file goes with its reading
            first = next(reading)
            found = _rows_of(first)
            del reading
        assert _in_order([*found, *_given(_pieces(place, first.position))]) == _rows(0, 8)

    def test_positions_are_plain_json_in_any_process(self, place: Place) -> None:
        place.put(_rows(0, 4))
        for piece in _pieces(place):
            assert msgspec.json.decode(canonical_json(piece.position)) == piece.position

    def test_done_may_be_said_again_and_changes_nothing_that_is_behind(self, place: Place) -> None:
        place.put(_rows(0, 4))
        with contextlib.closing(place.open()) as source:
            *_, last = source.read(None)
        place.put(_rows(4, 7))
        for _ in range(2):
            with contextlib.closing(place.open()) as source:
                source.done(last.position)
        found = _given(_pieces(place, last.position))
        assert found == (_rows(4, 7) if _grows(place) else _rows(0, 7))

    def test_what_is_done_is_there_still_unless_the_source_says_otherwise(self, place: Place) -> None:
        place.put(_rows(0, 4))
        with contextlib.closing(place.open()) as source:
            *_, last = source.read(None)
            source.done(last.position)
            if source.once:
                return
        assert _given(_pieces(place)) == _rows(0, 4)

    def test_names_and_positions_hold_no_secret(self, place: Place) -> None:
        if not place.secret:
            return
        place.put(_rows(0, 4))
        with contextlib.closing(place.open()) as source:
            told = [source.name, repr(source), *(repr((p.name, p.position)) for p in source.read(None))]
        assert not [text for text in told if place.secret in text]

    def test_what_cannot_be_read_is_an_error_that_names_it(self, place: Place) -> None:
        place.put(_rows(0, 4))
        place.vanish()
        with pytest.raises(LooplineError) as caught, contextlib.closing(place.open()) as source:
            list(source.read(None))
        said = str(caught.value)
        assert caught.value.hint
        assert not place.secret or place.secret not in said

    def test_close_may_come_twice(self, place: Place) -> None:
        place.put(_rows(0, 1))
        source = place.open()
        list(source.read(None))
        source.close()
        source.close()


def _rows(start: int, stop: int) -> list[Row]:
    return [{"id": n, "word": f"w{n}, “{n}”"} for n in range(start, stop)]


def _grows(place: Place) -> bool:
    with contextlib.closing(place.open()) as source:
        return source.grows


def _pieces(place: Place, after: Position | None = None) -> list[Piece]:
    """All pieces behind a position, their files read while they are there."""
    with contextlib.closing(place.open()) as source:
        found = []
        for piece in source.read(after):
            assert (piece.rows is None) != (piece.file is None) or piece.refused, "rows, a file, or what is refused"
            read = pl.DataFrame(_rows_of(piece)).to_arrow()
            found.append(Piece(name=piece.name, position=piece.position, rows=read, refused=piece.refused))
        return found


def _given(pieces: Iterable[Piece]) -> list[Row]:
    return _in_order(row for piece in pieces for row in _rows_of(piece))


def _in_order(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: int(row["id"]))


def _rows_of(piece: Piece) -> list[Row]:
    """The ids and words of a piece; of a file in whichever format it is."""
    if piece.rows is not None:
        frame = pl.DataFrame(pl.from_arrow(piece.rows))
    elif piece.file is not None:
        frame = _read(piece.file)
    else:
        return []
    return frame.select("id", "word").to_dicts() if frame.height else []


def _read(file: Path) -> pl.DataFrame:
    content = file.read_bytes()
    if content[:4] == b"PAR1":
        return pl.read_parquet(io.BytesIO(content))
    first = content.lstrip()[:1]
    if first == b"{":
        return pl.read_ndjson(io.BytesIO(content))
    return pl.read_json(io.BytesIO(content)) if first == b"[" else pl.read_csv(io.BytesIO(content))
