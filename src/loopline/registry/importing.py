"""Registered models of other systems, taken in through the verbs: each version once, under a title that is nobody else's.

A version that was imported says so in its facts. It holds files or says where they are, and no bundle: no endpoint takes it. One
whose run or logged model was refused waits for that: what was taken without its files would stay so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, Protocol

import msgspec

from loopline.errors import Invalid, LooplineError, NotFound, Unavailable
from loopline.ports.foreign_runs import ForeignModel, ForeignVersion, ModelSource, Unread
from loopline.registry.records import RUN_FACT, SOURCE_FACT
from loopline.registry.verbs import ModelsVerbs
from loopline.tracking.exchange.importing import SOURCE
from loopline.tracking.records import Run
from loopline.tracking.verbs import RunsVerbs


class Sink(Protocol):
    """What takes the models: a session."""

    @property
    def runs(self) -> RunsVerbs: ...
    @property
    def models(self) -> ModelsVerbs: ...


class ModelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a registered model or of one of its versions; `ref` is what it is here, `left_out` what has no place here."""

    source: str
    state: Literal["imported", "there already", "refused"]
    ref: str = ""
    why: str = ""
    left_out: tuple[str, ...] = ()


def bring_models(sink: Sink, source: ModelSource, refused: Collection[str] = ()) -> Iterator[ModelOutcome]:
    """Imports all registered models of a source, after its runs; gives what came of each version as it is done.

    `refused`: the sources of the runs that were just refused, as their outcomes have them. What cannot be taken is refused and
    the others follow. Raises what the platform raises where it does not answer.
    """
    for one in source.models():
        if isinstance(one, Unread):
            yield ModelOutcome(source=f"{source.system}:{one.name}", state="refused", why=one.why)
            continue
        told = f"{source.system}:models/{one.name}"
        try:
            yield from _model(sink, source.system, one, told, refused)
        except Unavailable:  # it is not the model's fault
            raise
        except LooplineError as e:
            yield ModelOutcome(source=told, state="refused", why=str(e))


def _model(sink: Sink, system: str, one: ForeignModel, told: str, refused: Collection[str]) -> Iterator[ModelOutcome]:
    there = next(iter(sink.models.list(title=one.name)), None)
    state: Literal["imported", "there already"] = "imported" if there is None else "there already"
    if there is None:
        there = sink.models.create(title=one.name, description=one.description, tags={**one.tags, SOURCE: told})
    elif there.tags.get(SOURCE) != told:
        why = (
            f"A model of this title is here already, {there.ref}, and is another one. Rename it: loopline models rename"
        )
        yield ModelOutcome(source=told, state="refused", why=why)
        return
    known = {version.facts.get(SOURCE, ""): version for version in sink.models.versions(there.name, lifecycle="all")}
    numbers: dict[int, int] = {}
    for version in sorted(one.versions, key=lambda version: version.number):
        said = f"{told}/{version.number}"
        if said in known:
            numbers[version.number] = known[said].version
            yield ModelOutcome(source=said, state="there already", ref=known[said].ref)
            continue
        if missing := _missing(sink, system, version, refused):
            why = (
                f"{missing}, which it is of, was refused. Mend that, and import again: it is taken with its files then"
            )
            yield ModelOutcome(source=said, state="refused", why=why)
            continue
        made = _added(sink, system, there.name, version, said)
        numbers[version.number] = int(made.ref.rpartition("@")[2])
        yield made
    lost = _named(sink, there.name, there.aliases, one, numbers)
    yield ModelOutcome(source=told, state=state, ref=there.ref, left_out=tuple(lost))


def _missing(sink: Sink, system: str, one: ForeignVersion, refused: Collection[str]) -> str | None:
    """The run or logged model of a version that was refused now and is not whole here; None where there is none such."""
    for source in dict.fromkeys((one.run, *(one.files or ())[:1])):
        told = f"{system}:{source}"
        if told in refused:
            here = _run(sink, system, source)
            if here is None or here.status == "running":  # it broke off among its files
                return told
    return None


def _added(sink: Sink, system: str, name: str, one: ForeignVersion, said: str) -> ModelOutcome:
    """A version with its files, where the run that has them is here."""
    run = _run(sink, system, one.run)
    made_by = run.ref if run else None
    facts = {SOURCE: said, SOURCE_FACT: one.origin, RUN_FACT: "" if run else one.run}
    facts = {key: text for key, text in facts.items() if text}
    holder = _run(sink, system, one.files[0]) if one.files else None
    if one.files is not None and holder is not None:
        try:
            made = sink.models.add(
                name, holder.ref, one.files[1], run=made_by, facts=facts, description=one.description, tags=one.tags
            )
            return ModelOutcome(source=said, state="imported", ref=made.ref)
        except NotFound:  # the run has no such files
            pass
    made = sink.models.add(name, run=made_by, facts=facts, description=one.description, tags=one.tags)
    lost = (f"its files, which are at {one.origin or 'no place that is known'}",)
    return ModelOutcome(source=said, state="imported", ref=made.ref, left_out=lost)


def _named(
    sink: Sink, name: str, here: Mapping[str, int], one: ForeignModel, numbers: Mapping[int, int]
) -> Iterator[str]:
    """Points the aliases that nobody has pointed here yet; gives those that have no place here."""
    for alias, number in sorted(one.aliases.items()):
        if alias in here:
            continue
        if number not in numbers:
            yield f"the alias {alias!r}, which names no version that is here"
            continue
        try:
            sink.models.set_alias(name, alias, numbers[number], reason="imported")
        except Invalid as e:
            yield f"the alias {alias!r}: {e.message}"


def _run(sink: Sink, system: str, source: str) -> Run | None:
    """The run of a source, where it is here."""
    told = f"{system}:{source}".replace("'", "''")
    found = sink.runs.search(f"tags.`{SOURCE}` = '{told}'", limit=1).runs if source else ()
    return found[0] if found else None
