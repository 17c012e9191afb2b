"""Names as people type them: refs (`model:readmission@3`), short refs (`readmission@champion`) and bare names."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.deployment.records import Rollout
    from loopline.refs import Ref
    from loopline.tracking.records import Lifecycle, RunGroup


_NAMED = 3  # runs in a hint


def dataset(session: Session, text: str) -> tuple[str, str]:
    """Name and version of a dataset; the newest version where none is given."""
    ref = _of(session, text, "data")
    return ref.name, ref.version or "latest"


def feature_view(session: Session, text: str) -> tuple[str, str]:
    """Name and version of a feature view; the newest version where none is given."""
    ref = _of(session, text, "features")
    return ref.name, ref.version or "latest"


def model(session: Session, text: str) -> tuple[str, str]:
    """Name and version (number or alias) of a model; where none is given: the champion, or else the newest."""
    ref = _of(session, text, "model")
    if ref.version:
        return ref.name, ref.version.removeprefix("@")
    known = next((m for m in session.models.list() if m.name == ref.name), None)
    return ref.name, "champion" if known and "champion" in known.aliases else "latest"


def model_number(session: Session, text: str) -> tuple[str, int]:
    """Name and number of a model version, an alias looked up."""
    from loopline.refs import version_number

    name, version = model(session, text)
    number = version_number(version)
    return name, session.models.show(name, version).version if number is None else number


def one(session: Session, text: str, kind: str) -> str:
    """The name or id of a thing that has no versions (a run, an alert, an endpoint), out of its ref or as it is."""
    if kind == "run":
        _check_no_title(session, text)
    return _of(session, text, kind).name


def _check_no_title(session: Session, text: str) -> None:
    """Raises `Invalid` where a text is what runs are called, since several may be called so; it tells their ids."""
    from loopline.errors import Invalid
    from loopline.tracking.ids import ID

    if text.startswith("run:") or ID.fullmatch(text):
        return
    if found := session.runs.list(name=text, limit=_NAMED + 1).runs:
        ids = ", ".join(run.id for run in found[:_NAMED])
        raise Invalid(
            f"{text!r} is what runs are called, and a run is named by its ID.",
            code="bad-ref",
            hint=f"The newest of that name: {ids}{' and more' if found[_NAMED:] else ''}.",
        )


def group(session: Session, text: str, lifecycle: Lifecycle = "live") -> RunGroup:
    """A group of runs by its number, its ref (`group:3`) or its name; of several deleted ones the last."""
    from loopline.errors import NotFound, did_you_mean

    number = text.removeprefix("group:")
    if number.isdecimal() and len(number) < 10:
        return session.groups.show(int(number))
    found = session.groups.list(name=text, lifecycle=lifecycle, limit=1000).groups
    if not found:
        known = [each.name for each in session.groups.list(lifecycle=lifecycle, limit=1000).groups]
        raise NotFound(
            f"There is no group {text!r} in project {session.project!r}.",
            code="no-group",
            hint=did_you_mean(text, known),
        )
    return max(found, key=lambda each: (each.deleted is None, each.number))


def tags(given: Sequence[str]) -> dict[str, str | None]:
    """Tags out of KEY=TEXT; those without a text are to be removed."""
    found: dict[str, str | None] = {}
    for each in given:
        key, sign, text = each.partition("=")
        if not sign:
            raise click.UsageError(f"{each!r} is not KEY=TEXT; KEY= removes a tag.")
        found[key] = text or None
    return found


def untagged(given: Iterable[str], before: Mapping[str, str]) -> str:
    """The words of a command that put the tags of these keys back to what they were."""
    return " ".join(shlex.quote(f"{key}={before.get(key, '')}") for key in given)


def evaluation(session: Session, text: str) -> str:
    """The id of an evaluation: its own, or the newest of a model version that is named (`readmission@3`)."""
    if not (text.startswith("model:") or "@" in text):
        return one(session, text, "evaluation")
    from loopline.errors import NotFound

    name, version = model(session, text)
    found = session.evaluations.list(model=session.models.show(name, version).ref, limit=1)
    if not found:
        raise NotFound(
            f"{text} was never evaluated.", code="no-evaluation", hint="`loopline evaluations ls` lists them."
        )
    return found[0].id


def rollout(session: Session, text: str, *, running: bool = False) -> Rollout:
    """A rollout by its id or ref, or the newest of an endpoint; `running`: the endpoint's one under way."""
    from loopline.errors import NotFound

    endpoints = {endpoint.name for endpoint in session.endpoints.list()}
    kind = "endpoint" if text.startswith("endpoint:") else "rollout"
    name = one(session, text, kind)
    if kind == "rollout" and name not in endpoints:
        return session.rollouts.show(name)
    found = session.rollouts.list(endpoint=name, status="running" if running else None, limit=1)
    if not found:
        raise NotFound(
            f"{name} has no rollout{' under way' if running else ''}.",
            code="no-rollout",
            hint=f"Start one: loopline rollout start {name} MODEL@VERSION.",
        )
    return found[0]


def approval(session: Session, text: str) -> str:
    """The id of a request for approval: its own, or the open one of a model version that is named (`readmission@3`)."""
    if not (text.startswith("model:") or "@" in text):
        return text
    from loopline.errors import NotFound

    name, number = model_number(session, text)
    found = [a for a in session.models.approvals(name=name, decision="open") if a.version == number]
    if not found:
        raise NotFound(
            f"Nobody asked for approval of {text}.", code="no-approval", hint="`loopline models approvals` lists them."
        )
    return found[0].id


def any_ref(session: Session, text: str) -> str:
    """A full ref of any kind as the ledger has it: aliases and missing versions looked up; a bare name is a model's, or else
    a dataset's."""
    from loopline.refs import parse

    kind = text.partition(":")[0] if ":" in text else ""
    if not kind:
        name = text.partition("@")[0]
        kind = "model" if any(m.name == name for m in session.models.list()) else "data"
    if kind == "model":
        return session.models.show(*model(session, f"{kind}:{text.removeprefix('model:')}")).ref
    if kind == "data":
        return session.datasets.show(*dataset(session, f"{kind}:{text.removeprefix('data:')}")).ref
    return str(parse(text, project=session.project))


def _of(session: Session, text: str, kind: str) -> Ref:
    from loopline.errors import Invalid
    from loopline.refs import parse

    try:
        ref = parse(text, kind, session.project)
    except Invalid as e:
        named = (
            [one.name for one in session.models.list() if one.title == text.partition("@")[0]]
            if kind == "model"
            else []
        )
        if not named:
            raise
        raise Invalid(
            str(e.message), code=e.code, hint=f"The model of that title has the name {named[0]}: use that."
        ) from e
    if ref.project != session.project:
        raise Invalid(
            f"{text} is of the project {ref.project!r}, and this is {session.project!r}.",
            code="other-project",
            hint=f"Name the project in front: loopline --project {ref.project} ...",
        )
    return ref
