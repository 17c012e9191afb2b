"""The profile of a frame, of parts of it, and of rows as they are served.

`profile(frame)` summarises a table; `.freeze()` makes the summary a reference; `profile(frame, reference=...)` and
`ProfileBuilder(reference)` summarise other rows on the reference's edges, so that the two can be compared. This file
imports neither polars nor pandas until a frame is profiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopline.quality.profile_builder import ProfileBuilder
from loopline.quality.profile_column import ColumnProfile
from loopline.quality.profile_records import Profile
from loopline.quality.profile_warnings import ProfileWarning

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ColumnProfile", "Profile", "ProfileBuilder", "ProfileWarning", "profile"]


def profile(
    frame: pl.DataFrame,
    *,
    label: str | None = None,
    reference: Profile | None = None,
    groups: str | None = None,
    blocks: int | None = None,
    full: bool = False,
) -> Profile:
    """The profile of a frame's columns.

    `label` names the column to predict: every other column then carries how much it tells of it. `reference`: a frozen
    profile whose edges and levels are used, for those of its columns that the frame has. `groups` names a column whose rows
    belong together (a patient), `blocks` says how many neighbouring rows do (an hour of traffic): either makes each column
    carry its design effect, by which comparisons allow for rows that are not independent.

    `full` looks for more, in about ten times the time: which columns go together, rows that nearly repeat, how texts are
    spelled and, with a label, whether that a value is missing or where a row stands gives it away.

    Invalid where a column is not of the reference's kind or the reference is not frozen; NotFound where the label or the
    groups' column is not in the frame.
    """
    from loopline.quality.profile_frame import profile_frame

    return profile_frame(frame, label=label, reference=reference, groups=groups, blocks=blocks, full=full)
