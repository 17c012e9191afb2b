"""The dictionary of keys: each key of a param, tag or metric is one row for good, and a small number everywhere else."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from loopline.database import Tx
from loopline.tracking.tables import words


class Words:
    """The dictionary of one database, with what of it this process has seen: rows never change, so none of that grows old."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._words: dict[int, str] = {}

    def numbers(self, tx: Tx, wanted: Iterable[str]) -> dict[str, int]:
        """The number of each word; a new one is added, in the transaction."""
        found = {word: self._numbers.get(word) for word in wanted}
        missing = sorted(word for word, number in found.items() if number is None)
        if missing:  # added in order, so that no two writers wait in a ring
            tx.upsert(words, ("word",), [{"word": word} for word in missing])
            new = {row.word: row.id for row in tx.rows_among(_ALL, words.c.word, missing)}
            found.update(new)
            # Remembered only then: a transaction that is rolled back takes its numbers with it.
            tx.after_commit.append(lambda: self._remember(new))
        return {word: number for word, number in found.items() if number is not None}

    def known(self, tx: Tx, word: str) -> int | None:
        """The number of a word, or None where nothing was ever called so."""
        return self._numbers.get(word) or tx.scalar(_KNOWN, {"word": word})

    def spelled(self, tx: Tx, numbers: Iterable[int]) -> dict[int, str]:
        """The word of each number."""
        wanted = set(numbers)
        missing = [number for number in wanted if number not in self._words]
        if not missing:
            return {number: self._words[number] for number in wanted}
        # Read outside of a write these are committed; within one they might be its own, and are looked up again next time.
        read = {row.id: row.word for row in tx.rows_among(_ALL, words.c.id, missing)}
        if not tx.wrote:
            self._words.update(read)
        return {number: read.get(number) or self._words[number] for number in wanted}

    def _remember(self, new: dict[str, int]) -> None:
        self._numbers.update(new)
        self._words.update({number: word for word, number in new.items()})


_ALL = sa.select(words)
_KNOWN = sa.select(words.c.id).where(words.c.word == sa.bindparam("word"))
