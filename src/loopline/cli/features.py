"""`loopline features`: features of entities at a moment, defined once, for training and for serving."""

from __future__ import annotations

from pathlib import Path

import click

from loopline.cli import names, show
from loopline.cli.moments import Moment
from loopline.cli.session import as_json, group, session

_FILE = click.Path(exists=True, dir_okay=False)


@group(
    "features",
    "Feature views: what the events of an entity before a moment come to. VIEW is a name, or features:NAME@VERSION.",
)
def features() -> None:
    pass


@features.command()
@click.argument("file", type=_FILE)
@as_json
@click.pass_context
def define(ctx: click.Context, file: str, json: bool) -> None:
    """Put the views on record that the Python file FILE declares (ll.feature_view)."""
    import msgspec

    from loopline.errors import Invalid
    from loopline.features.definitions import FeatureView
    from loopline.loop.files import declared

    views = declared(Path(file), FeatureView)
    if not views:
        raise Invalid(
            f"{file} declares no feature view.",
            code="bad-feature",
            hint="It should say: visits = ll.feature_view(...).",
        )
    with session(ctx, creates=True) as s:
        found = [s.features.define(name, msgspec.to_builtins(view)) for name, view in views.items()]
    if json:
        show.print_json(found)
        return
    for one in found:
        click.echo(f"Defined {one.ref}, {len(one.declaration['features'])} features of {one.declaration['entity']}.")


@features.command()
@as_json
@click.pass_context
def ls(ctx: click.Context, json: bool) -> None:
    """All feature views."""
    with session(ctx) as s:
        found = s.features.list()
    if json:
        show.print_json(found)
        return
    show.table(
        ["view", "source", "entity", "features", "online", "entities"],
        [
            (
                v.ref,
                v.declaration["source"],
                v.declaration["entity"],
                len(v.declaration["features"]),
                show.when(v.online.at) if v.online else "",
                v.online.entities if v.online else "",
            )
            for v in found
        ],
        empty="No feature views yet. Define some: loopline features define FILE.py",
    )


@features.command("show")
@click.argument("view")
@as_json
@click.pass_context
def show_view(ctx: click.Context, view: str, json: bool) -> None:
    """One feature view: its definition, and what is online of it."""
    with session(ctx) as s:
        found = s.features.show(*names.feature_view(s, view))
    if json:
        show.print_json(found)
        return
    said, online = found.declaration, found.online
    show.title(found.ref)
    show.facts(
        [
            ("source", said["source"]),
            ("entity", said["entity"]),
            ("time", said["time"]),
            ("known", said["known"] or ""),
            ("ttl", said["ttl"]),
            ("defined", f"{show.when(found.at)} by {found.by}"),
            (
                "online",
                f"{online.entities:,} entities of {online.source}, made {show.when(online.at)}" if online else "no",
            ),
        ]
    )
    show.table(
        ["feature", "of", "by", "over"],
        [(f["name"], f["of"], f["by"], f["over"] or said["ttl"]) for f in said["features"]],
    )


@features.command()
@click.argument("views", nargs=-1, required=True, metavar="VIEW...")
@click.option("--to", "dataset", required=True, metavar="REF", help="The dataset version whose rows get the features.")
@click.option("--time", required=True, metavar="COLUMN", help="Its column of the moment as of which they are.")
@click.option(
    "--into", required=True, metavar="NAME", help="The dataset that the rows with features become a version of."
)
@click.option(
    "--entity", metavar="COLUMN", help="Its column of the entity, where it is called otherwise than in the view."
)
@as_json
@click.pass_context
def join(
    ctx: click.Context, views: tuple[str, ...], dataset: str, time: str, into: str, entity: str | None, json: bool
) -> None:
    """Add the features of VIEW to rows, as they were at each row's own time."""
    with session(ctx) as s:
        named = [names.feature_view(s, view)[0] for view in views]
        name, version = names.dataset(s, dataset)
        found = s.features.join(
            named[0], f"data:{name}@{version}", time, names.one(s, into, "data"), entity=entity, more=tuple(named[1:])
        )
    if json:
        show.print_json(found)
        return
    click.echo(f"Made {found.ref}: {show.count(found.rows, 'row')} of {show.count(len(found.columns), 'column')}.")


@features.command()
@click.argument("view")
@click.option(
    "--as-of", type=Moment(), metavar="TIME", help="Else as of now, or after all events where time is a number."
)
@as_json
@click.pass_context
def materialize(ctx: click.Context, view: str, as_of: int | None, json: bool) -> None:
    """Make the features of all entities ready for looking up; they take the place of earlier ones at once."""
    with session(ctx) as s:
        found = s.features.materialize(names.feature_view(s, view)[0], as_of=as_of)
    if json:
        show.print_json(found)
        return
    click.echo(f"{found.view} is online for {found.entities:,} entities of {found.source}.")
    if found.sealed:
        left = (
            "is sealed for evaluation and left out" if found.sealed == 1 else "are sealed for evaluation and left out"
        )
        click.echo(f"  {show.count(found.sealed, 'row')} of {found.source} {left}.")


@features.command()
@click.argument("view")
@click.argument("entities", nargs=-1, required=True, metavar="ENTITY...")
@as_json
@click.pass_context
def get(ctx: click.Context, view: str, entities: tuple[str, ...], json: bool) -> None:
    """Look the features of entities up. That you looked is put on the ledger."""
    with session(ctx) as s:
        found = s.features.get(names.feature_view(s, view)[0], entities)
    if json:
        show.print_json(found)
        return
    show.rows([{"entity": entity, **values} for entity, values in zip(entities, found.values, strict=True)], empty="")
    if found.stale:
        click.echo(f"Not the newest: {found.stale}. Anew: loopline features materialize {view}", err=True)
