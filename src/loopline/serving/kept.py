"""What models that are served alone have answered, read from the log in their server's folder, while it serves or afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from loopline.errors import NotFound, did_you_mean
from loopline.operations import Bytes, check_limit
from loopline.outcomes import answers, frames
from loopline.outcomes.records import Prediction, Traffic
from loopline.serving.door import read_state
from loopline.serving.log import read_on, read_segment, segments

_AT_ONCE = 8 << 20


class Kept:
    """What `outcomes.verbs.PredictionsVerbs` reads, read from a folder. Labels are joined in a workspace: there are none here."""

    def __init__(self, folder: Path) -> None:
        """`folder` is that of `loopline serve`. Raises `NotFound` where no server has kept anything there."""
        if not (folder / "log").is_dir():
            raise NotFound(
                f"There is no prediction log in {folder}.", code="no-log", hint="Name the --folder of `loopline serve`."
            )
        self._folder = folder

    def list(
        self, endpoint: str, since: int = 0, limit: int = 100, variant: str | None = None, labelled: bool = False
    ) -> list[Prediction]:
        """The newest predictions of an endpoint."""
        check_limit(limit, "predictions", 100_000)
        parts: list[pl.DataFrame] = []
        found, oldest = 0, 0
        for path in reversed(segments(self._folder / "log")):
            if found >= limit and _until(path) < oldest:
                break  # the answers that are wanted are newer than any of this segment
            part = answers.answered(self._part(path, endpoint, since, None), variant=variant, labelled=labelled)
            parts.append(part)
            found += part.height
            if found >= limit:
                times = pl.concat([one["at"] for one in parts]).sort(descending=True)
                oldest = times[limit - 1]
        self._check(endpoint, bool(found))
        return answers.newest(_joined(parts, None), endpoint, limit)

    def read(self, endpoint: str, since: int = 0, labelled: bool = False) -> Bytes:
        """All answers of an endpoint since a time, as an Arrow IPC stream."""
        return answers.stream(answers.answered(self._frame(endpoint, since, None), labelled=labelled))

    def show(self, endpoint: str, prediction: str) -> Prediction:
        """One prediction."""
        for path in reversed(segments(self._folder / "log")):
            frame = self._part(path, endpoint, 0, None).filter((pl.col("id") == prediction) & (pl.col("status") < 400))
            if not frame.is_empty():
                return answers.newest(frame, endpoint, 1)[0]
        self._check(endpoint, False)
        raise NotFound(
            f"There is no prediction {prediction!r} of {endpoint} in {self._folder}.",
            code="no-prediction",
            hint=f"`loopline predictions ls {endpoint} --folder {self._folder}` lists the newest.",
        )

    def traffic(self, endpoint: str, since: int = 0) -> Traffic:
        """What an endpoint answered, by variant."""
        return answers.traffic(self._frame(endpoint, since, answers.COUNTED), endpoint, since)

    def _frame(self, endpoint: str, since: int, columns: Sequence[str] | None) -> pl.DataFrame:
        parts = [self._part(path, endpoint, since, columns) for path in segments(self._folder / "log")]
        frame = _joined(parts, columns)
        self._check(endpoint, not frame.is_empty())
        return frame

    def _part(self, path: Path, endpoint: str, since: int, columns: Sequence[str] | None) -> pl.DataFrame:
        if _until(path) < since:
            return _joined([], columns)
        found = [frame.filter(pl.col("at") >= since) for frame in _frames(path, endpoint, columns)]
        return _joined(found, columns)

    def _check(self, endpoint: str, found: bool) -> None:
        """Raises `NotFound` for an endpoint that neither is served nor has answered."""
        if found:
            return
        state = read_state(self._folder / "routes.json")
        known = {*state.table.endpoints, *state.table.idle} if state is not None else set()
        for _, _, records in read_on(self._folder / "log", {}):  # what was served here once, too
            known |= {record.endpoint for record in records if record.endpoint}
        if endpoint not in known:
            raise NotFound(
                f"There are no answers of {endpoint!r} in {self._folder}.",
                code="no-endpoint",
                hint=did_you_mean(endpoint, known),
            )


def _until(path: Path) -> float:
    """When a segment was written to last, in milliseconds since 1970 UTC; 0 where it is gone."""
    try:
        return path.stat().st_mtime_ns / 1e6 + 1
    except FileNotFoundError:
        return 0.0


def _frames(path: Path, endpoint: str, columns: Sequence[str] | None) -> Iterator[pl.DataFrame]:
    """An endpoint's records of a segment, a piece at a time, so that as much memory is taken as the columns wanted need."""
    offset = 0
    while True:
        try:
            records, offset = read_segment(path, offset, _AT_ONCE)
        except NotFound:  # its time was over
            return
        if not records:
            return
        chosen: list[Any] = [record for record in records if record.endpoint == endpoint]
        frame = frames.of_log(chosen)
        yield frame if columns is None else frame.select(columns)


def _joined(parts: Sequence[pl.DataFrame], columns: Sequence[str] | None) -> pl.DataFrame:
    """Pieces as one frame in the order of time, with the labels that no answer here has."""
    schema = {name: kind for name, kind in frames.SCHEMA.items() if columns is None or name in columns}
    of_labels = {"truth": pl.String, "truth_at": pl.Int64}
    plain = [part.select(list(schema)) for part in parts]
    frame = pl.concat([pl.DataFrame(schema=schema), *plain]).sort("at", maintain_order=True)
    return frame.with_columns(pl.lit(None, kind).alias(name) for name, kind in of_labels.items())
