"""`loopline models`: model versions, the aliases that name them, their cards and approvals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from loopline.cli import models_ensemble, models_packaged, models_said, names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session

if TYPE_CHECKING:
    from loopline.tracking.records import Lifecycle


@group(
    "models",
    "Models and their versions. REF is model:NAME@VERSION, NAME@champion or NAME (the champion, or the newest).",
)
def models() -> None:
    pass


for command in (*models_said.COMMANDS, *models_packaged.COMMANDS, models_ensemble.ensemble):
    models.add_command(command)


@models.command()
@click.argument("name", required=False)
@click.option("--deleted", is_flag=True, help="The deleted ones instead.")
@as_json
@click.pass_context
def ls(ctx: click.Context, name: str | None, deleted: bool, json: bool) -> None:
    """All models; with NAME, its versions, newest first."""
    lifecycle: Lifecycle = "deleted" if deleted else "live"
    with session(ctx) as s:
        if name is not None:
            versions = s.models.versions(names.one(s, name, "model"), lifecycle=lifecycle)
            if json:
                show.print_json(versions)
                return
            show.table(
                ["version", "status", "aliases", "task", "by", "at"],
                [(v.ref, v.status, v.aliases, v.task, v.creator, show.when(v.created)) for v in versions],
            )
            return
        found = s.models.list(lifecycle=lifecycle)
    if json:
        show.print_json(found)
        return
    show.table(
        ["model", "title", "versions", "newest", "aliases"],
        [(m.name, m.title, m.versions, f"{m.ref}@{m.latest}" if m.latest else "", m.aliases) for m in found],
        empty="No deleted models." if deleted else "No models yet. A loop makes one: loopline run NAME",
    )


@models.command("show")
@click.argument("ref")
@as_json
@click.pass_context
def show_version(ctx: click.Context, ref: str, json: bool) -> None:
    """One version: state, metrics, what it learnt from, its files."""
    with session(ctx) as s:
        found = s.models.show(*names.model(s, ref))
        bad = s.datasets.unsound((found.ref,)).get(found.ref)
    if json:
        show.print_json(found)
        return
    show.title(found.ref)
    show.facts(
        [
            ("status", f"{found.status}{': ' + found.reason if found.reason else ''}"),
            ("unsound", f"it learnt from {bad}, which is withdrawn" if bad else ""),
            ("aliases", found.aliases),
            ("task", found.task),
            ("metrics", [show.interval(n, m["value"], m["low"], m["high"]) for n, m in found.metrics.items()]),
            ("learnt from", found.inputs),
            ("made by", found.run),
            ("served by", models_packaged.served_by(found.parity)),
            ("bundle", found.bundle),
            ("size", show.size(found.size)),
            ("signed by key", found.signature),
            ("facts", found.facts),
            ("tags", found.tags),
            ("description", found.description),
            ("drafted", f"{show.when(found.created)} by {found.creator}"),
            ("registered", show.when(found.registered)),
        ]
    )
    show.table(["file", "digest"], sorted(found.forms.items()))


@models.command()
@click.argument("ref")
@click.option("--form", type=click.Choice(["markdown", "json", "html"]), default="markdown", show_default=True)
@click.option("-o", "--out", metavar="FILE", help="Where to write it (else standard output).")
@click.pass_context
def card(ctx: click.Context, ref: str, form: str, out: str | None) -> None:
    """The model card, written from what is on record."""
    with session(ctx) as s:
        show.save(s.models.card(*names.model(s, ref), form=form), out, f"the card of {ref}")  # type: ignore[arg-type]


@models.command()
@click.argument("ref")
@click.argument("kind", type=click.Choice(["evaluation", "verdicts", "parity", "training"]))
@click.pass_context
def document(ctx: click.Context, ref: str, kind: str) -> None:
    """A document of a version, as JSON: evaluation, verdicts, parity or training."""
    with session(ctx) as s:
        show.print_json(s.models.document(*names.model(s, ref), kind=kind))  # type: ignore[arg-type]


@models.command()
@click.argument("ref")
@as_json
@click.pass_context
def verify(ctx: click.Context, ref: str, json: bool) -> None:
    """Hash a version's files again and check its signature. Exit code 3 where something does not hold."""
    with session(ctx) as s:
        found = s.models.verify(*names.model(s, ref))
    if json:
        show.print_json(found)
    elif found.ok:
        signed = f"signed by key {found.key}" if found.signed else "a draft, not signed"
        click.echo(f"{found.ref} holds: {found.forms} files are what they were, {signed}.")
    else:
        click.echo(f"{found.ref} does not hold:")
        for problem in found.problems:
            click.echo(f"  {problem}")
    if not found.ok:
        ctx.exit(3)


@models.command()
@click.argument("ref")
@as_json
@click.pass_context
def register(ctx: click.Context, ref: str, json: bool) -> None:
    """Sign a draft and make it a registered version, without the gates of a loop."""
    with session(ctx) as s:
        found = s.models.register(*names.model_number(s, ref))
    show.done(
        found,
        json,
        f"{found.ref} is registered, signed by key {found.signature}.",
        f"loopline models withdraw {found.ref} --reason ...",
    )


@models.command()
@click.argument("name")
@click.argument("run")
@click.argument("path", default="")
@click.option("--description", default="", help="What it is (Markdown).")
@click.option("--tag", "tags", multiple=True, metavar="KEY=TEXT", help="A tag of the version (repeats).")
@as_json
@click.pass_context
def add(
    ctx: click.Context, name: str, run: str, path: str, description: str, tags: tuple[str, ...], json: bool
) -> None:
    """Add a version of the files of RUN, or of its folder PATH, as they are: registered and signed at once, and never run."""
    given = {key: text for key, text in names.tags(tags).items() if text is not None}
    with session(ctx) as s:
        name, run = names.one(s, name, "model"), names.one(s, run, "run")
        found = s.models.add(name, f"run:{run}", path.rstrip("/"), run, description=description, tags=given)
    show.done(
        found,
        json,
        f"{found.ref} holds {show.count(len(found.forms), 'file')} ({show.size(found.size)}), signed by key {found.signature}.",
        f"loopline models delete {found.ref}",
    )


@models.command()
@click.argument("ref")
@click.argument("alias")
@click.option("--reason", default="", help="Why; it is kept in the alias's history.")
@as_json
@click.pass_context
def alias(ctx: click.Context, ref: str, alias: str, reason: str, json: bool) -> None:
    """Point ALIAS to a registered version. What an endpoint serves is not changed by it: see `loopline deploy`."""
    with session(ctx) as s:
        name, number = names.model_number(s, ref)
        named = {one.alias for one in s.models.aliases(name)}
        found = s.models.set_alias(name, alias.removeprefix("@"), number, reason=reason)
    undo = f"loopline models {'roll-back' if found.alias in named else 'remove-alias'} {name} {found.alias}"
    show.done(found, json, f"{name}@{found.alias} is now {name}@{found.version}.", undo)


@models.command()
@click.argument("name")
@click.argument("alias")
@as_json
@click.pass_context
def history(ctx: click.Context, name: str, alias: str, json: bool) -> None:
    """All moves of an alias, oldest first."""
    with session(ctx) as s:
        found = s.models.alias_history(names.model(s, name)[0], alias.removeprefix("@"))
    if json:
        show.print_json(found)
        return
    show.table(
        ["move", "from", "to", "how", "reason", "by", "at"],
        [(m.number, m.previous, m.version, m.how.replace("_", " "), m.reason, m.by, show.when(m.at)) for m in found],
    )


@models.command("as-of")
@click.argument("name")
@click.argument("alias")
@click.option(
    "--at",
    type=Moment(),
    metavar="TIME",
    help='When: "2026-01-31T08:30", "1 March at noon", "yesterday", "3 hours ago"; default: now.',
)
@as_json
@click.pass_context
def as_of(ctx: click.Context, name: str, alias: str, at: int | None, json: bool) -> None:
    """Where an alias pointed at a time."""
    with session(ctx) as s:
        found = s.models.as_of(names.model(s, name)[0], alias.removeprefix("@"), at=at)
    if json:
        show.print_json(found)
    else:
        reason = f": {found.reason}" if found.reason else ""
        click.echo(
            f"{found.name}@{found.alias} was {found.name}@{found.version}, "
            f"since {show.when(found.since)} by {found.by}{reason}."
        )


@models.command("remove-alias")
@click.argument("name")
@click.argument("alias")
@click.option("--reason", default="", help="Why; it is kept in the alias's history.")
@as_json
@click.pass_context
def remove_alias(ctx: click.Context, name: str, alias: str, reason: str, json: bool) -> None:
    """Take an alias away. Its history stays; what an endpoint serves is not changed by it."""
    with session(ctx) as s:
        found = s.models.remove_alias(names.model(s, name)[0], alias.removeprefix("@"), reason=reason)
    show.done(
        found,
        json,
        f"{found.name}@{found.alias} points nowhere now (it was @{found.previous}).",
        f"loopline models roll-back {found.name} {found.alias}",
    )


@models.command("roll-back")
@click.argument("name")
@click.argument("alias")
@click.option("--reason", default="", help="Why; it is kept in the alias's history.")
@as_json
@click.pass_context
def roll_back(ctx: click.Context, name: str, alias: str, reason: str, json: bool) -> None:
    """Point an alias back to the version that it named before."""
    with session(ctx) as s:
        name, alias = names.model(s, name)[0], alias.removeprefix("@")
        before = s.models.alias_history(name, alias)[-1].version
        found = s.models.roll_back(name, alias, reason=reason)
    again = f"alias {name}@{before} {alias}" if before is not None else f"remove-alias {name} {alias}"
    show.done(
        found,
        json,
        f"{name}@{alias} is {name}@{found.version} again (it {'was removed' if before is None else f'was @{before}'}).",
        f"loopline models {again}",
    )


@models.command()
@click.argument("ref")
@click.option("--reason", required=True, help="Why; it stays on record.")
@as_json
@click.pass_context
def withdraw(ctx: click.Context, ref: str, reason: str, json: bool) -> None:
    """Withdraw a version that no alias names. It stays on record and is never served again; this cannot be undone."""
    with session(ctx) as s:
        found = s.models.withdraw(*names.model_number(s, ref), reason=reason)
        serving = [one.name for one in s.endpoints.list() if found.ref in (one.champion, one.challenger)]
    show.done(found, json, f"{found.ref} is withdrawn: {found.reason}")
    for name in serving:
        click.echo(
            f"WARNING: {name} still answers by it. Roll another version out: loopline rollout start {name} REF",
            err=True,
        )


@models.command()
@click.argument("name", required=False)
@click.option("--decision", type=click.Choice(["open", "approved", "rejected"]), help="Only these.")
@as_json
@click.pass_context
def approvals(ctx: click.Context, name: str | None, decision: str | None, json: bool) -> None:
    """Requests for approval, newest first."""
    with session(ctx) as s:
        found = s.models.approvals(
            name=names.model(s, name)[0] if name else None,
            decision=decision,  # type: ignore[arg-type]  # click.Choice holds it to these words
        )
    if json:
        show.print_json(found)
        return
    show.table(
        ["request", "version", "decision", "asked by", "asked", "decided by", "comment"],
        [(a.id, a.ref, a.decision, a.requester, show.when(a.requested), a.decider, a.comment) for a in found],
        empty="No requests.",
    )


@models.command()
@click.argument("ref")
@as_json
@click.pass_context
def request(ctx: click.Context, ref: str, json: bool) -> None:
    """Ask for somebody else's approval of a registered version."""
    with session(ctx) as s:
        found = s.models.request_approval(*names.model_number(s, ref))
    show.done(found, json, f"Asked for approval of {found.ref}: an approver runs `loopline models approve {found.id}`.")


@models.command()
@click.argument("request")
@click.option("--comment", default="", help="Kept with the decision.")
@as_json
@click.pass_context
def approve(ctx: click.Context, request: str, comment: str, json: bool) -> None:
    """Approve a REQUEST of somebody else (its id, or the model version)."""
    with session(ctx) as s:
        found = s.models.approve(names.approval(s, request), comment=comment)
    show.done(found, json, f"{found.ref} is approved. Go on with its run: loopline run {found.name}")


@models.command()
@click.argument("request")
@click.option("--comment", default="", help="Kept with the decision.")
@as_json
@click.pass_context
def reject(ctx: click.Context, request: str, comment: str, json: bool) -> None:
    """Reject a REQUEST of somebody else (its id, or the model version)."""
    with session(ctx) as s:
        found = s.models.reject(names.approval(s, request), comment=comment)
    show.done(found, json, f"{found.ref} is rejected. A decision stays; a new request may be made.")
