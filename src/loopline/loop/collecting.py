"""Datasets that are collected by themselves: what is due is read, in its turn."""

from __future__ import annotations

import logging

from loopline.data.verbs_sources import SourcesVerbs
from loopline.errors import LooplineError

log = logging.getLogger("loopline.controller")


def collect_due(sources: SourcesVerbs, now: int) -> None:
    """Reads each dataset whose schedule says so. One that fails keeps no other from its turn, and is due later each time."""
    for one in sources.list():
        if one.schedule is None or one.due is None or one.due > now:
            continue
        problem = ""
        try:
            found = sources.sync(one.name, waiting=one.schedule.waiting or 1)
            if found.new:
                log.info("%s: %s rows were read", found.version.ref, f"{found.read:,}")
        except LooplineError as e:
            problem = str(e)
            log.warning("%s was not read: %s", one.name, problem)
        except Exception as e:
            problem = f"an error of its source's own: {type(e).__name__}"  # whose text may tell anything
            log.exception("%s was not read", one.name)
        sources.turn(one.name, problem)
