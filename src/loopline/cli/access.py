"""`loopline access`: principals, their roles and tokens, projects."""

from __future__ import annotations

from typing import Any

import click

from loopline.cli import show
from loopline.cli.session import as_json, group, session

_ROLE = click.Choice(["viewer", "data_scientist", "sender", "operator", "approver", "admin", "auditor"])
_INSTANCE = click.option("--instance", is_flag=True, help="In the whole instance (auditor, admin), not in the project.")


@group("access", "Who may what: principals, roles, tokens, projects.")
def access() -> None:
    pass


@access.command()
@as_json
@click.pass_context
def whoami(ctx: click.Context, json: bool) -> None:
    """Who asks, and with which roles."""
    with session(ctx) as s:
        found = s.access.whoami()
    if json:
        show.print_json(found)
        return
    show.facts(
        [
            ("name", found.name),
            ("kind", found.kind),
            ("token", found.token),
            ("in the instance", found.instance),
            *((f"in {project}", roles) for project, roles in found.projects.items()),
        ]
    )


@access.command()
@as_json
@click.pass_context
def principals(ctx: click.Context, json: bool) -> None:
    """All known principals."""
    with session(ctx) as s:
        found = s.access.principals()
    if json:
        show.print_json(found)
        return
    show.table(
        ["principal", "kind", "since", "by"], [(p.name, p.kind, show.when(p.created), p.created_by) for p in found]
    )


@access.command("add-principal")
@click.argument("name")
@click.option("--kind", type=click.Choice(["os", "user", "service", "loop"]), default="user", show_default=True)
@as_json
@click.pass_context
def add_principal(ctx: click.Context, name: str, kind: str, json: bool) -> None:
    """Make a principal known; it may nothing until a role is granted. An operating-system user is named os:USER."""
    with session(ctx) as s:
        found = s.access.add_principal(name, kind=kind)  # type: ignore[arg-type]
    show.done(
        found,
        json,
        f"{found.name} ({found.kind}) is known and may nothing yet: loopline access grant {found.name} ROLE.",
    )


@access.command()
@click.argument("principal")
@click.argument("role", type=_ROLE)
@_INSTANCE
@as_json
@click.pass_context
def grant(ctx: click.Context, principal: str, role: str, instance: bool, json: bool) -> None:
    """Give a principal a role in the project."""
    _check(role, instance)
    with session(ctx) as s:
        give: Any = s.access.appoint if instance else s.access.grant
        found = give(principal, role)
        where = "the whole instance" if instance else f"the project {s.project}"
    show.done(
        found,
        json,
        f"{principal} is {role} in {where}.",
        f"loopline access revoke {principal} {role}{' --instance' if instance else ''}",
    )


@access.command()
@click.argument("principal")
@click.argument("role", type=_ROLE)
@_INSTANCE
@as_json
@click.pass_context
def revoke(ctx: click.Context, principal: str, role: str, instance: bool, json: bool) -> None:
    """Take a role in the project back, effective with the next call."""
    _check(role, instance)
    with session(ctx) as s:
        take: Any = s.access.dismiss if instance else s.access.revoke
        take(principal, role)
        where = "the whole instance" if instance else f"the project {s.project}"
    show.done(
        None,
        json,
        f"{principal} is not {role} in {where} any more.",
        f"loopline access grant {principal} {role}{' --instance' if instance else ''}",
    )


@access.command()
@click.option("--principal", default="", help="Only of this principal.")
@_INSTANCE
@as_json
@click.pass_context
def grants(ctx: click.Context, principal: str, instance: bool, json: bool) -> None:
    """The roles granted in the project."""
    with session(ctx) as s:
        if instance:
            found = [g for g in s.access.appointed() if principal in ("", g.principal)]
        else:
            found = s.access.grants(principal=principal)
    if json:
        show.print_json(found)
        return
    show.table(
        ["principal", "role", "project", "since", "by"],
        [(g.principal, g.role, g.project, show.when(g.created), g.created_by) for g in found],
        empty="No roles granted.",
    )


@access.command("create-token")
@click.option("--principal", default="", help="For whom (default: yourself).")
@click.option("--label", default="", help="What it is for.")
@click.option("--only-project", default="", metavar="NAME", help="It may nothing in other projects.")
@click.option("--role", "roles", multiple=True, type=_ROLE, help="It may only what this role may; repeat for more.")
@click.option("--days", type=int, default=90, show_default=True, help="How long it lives, 1 to 366.")
@as_json
@click.pass_context
def create_token(
    ctx: click.Context, principal: str, label: str, only_project: str, roles: tuple[str, ...], days: int, json: bool
) -> None:
    """Make a token. Its secret is shown this once, on standard output."""
    with session(ctx) as s:
        found = s.access.create_token(
            principal=principal,
            label=label,
            project=only_project,
            roles=list(roles) or None,  # type: ignore[arg-type]
            days=days,
        )
    if json:
        show.print_json(found)
        return
    click.echo(found.secret)
    click.echo(
        f"Token {found.token.id} of {found.token.principal}, until {show.when(found.token.expires)}. "
        "The secret is shown this once: keep it safe.",
        err=True,
    )
    undo = show.here(f"loopline access revoke-token {found.token.id}")
    click.echo(f"  Undo it: {undo}", err=True)


@access.command()
@click.option("--principal", default="", help="Whose (default: your own; * for all).")
@as_json
@click.pass_context
def tokens(ctx: click.Context, principal: str, json: bool) -> None:
    """Tokens, without their secrets."""
    with session(ctx) as s:
        found = s.access.tokens(principal=principal)
    if json:
        show.print_json(found)
        return
    show.table(
        ["token", "principal", "label", "only in", "only as", "expires", "revoked", "last used"],
        [
            (
                t.id,
                t.principal,
                t.label,
                t.project,
                t.roles,
                show.when(t.expires),
                show.when(t.revoked),
                show.when(t.last_used),
            )
            for t in found
        ],
        empty="No tokens.",
    )


@access.command("revoke-token")
@click.argument("token")
@as_json
@click.pass_context
def revoke_token(ctx: click.Context, token: str, json: bool) -> None:
    """End a token at once, for good."""
    with session(ctx) as s:
        found = s.access.revoke_token(token)
    show.done(found, json, f"The token {found.id} of {found.principal} is not good for anything any more.")


@access.command()
@as_json
@click.pass_context
def projects(ctx: click.Context, json: bool) -> None:
    """The projects in which you have a role."""
    with session(ctx) as s:
        found = s.projects.list()
    if json:
        show.print_json(found)
        return
    show.table(
        ["project", "your roles", "since", "by"],
        [(p.name, p.roles, show.when(p.created), p.created_by) for p in found],
    )


@access.command("create-project")
@click.argument("name")
@as_json
@click.pass_context
def create_project(ctx: click.Context, name: str, json: bool) -> None:
    """Make a project. You are data scientist, operator and admin there."""
    with session(ctx) as s:
        found = s.projects.create(name)
    show.done(found, json, f"The project {found.name} is there: loopline --project {found.name} ...")


def _check(role: str, instance: bool) -> None:
    if instance and role not in ("auditor", "admin"):
        raise click.BadParameter(f"In the whole instance there are auditor and admin, not {role}.", param_hint="ROLE")
    if role == "auditor" and not instance:
        raise click.BadParameter("auditor is a role in the whole instance: add --instance.", param_hint="ROLE")
