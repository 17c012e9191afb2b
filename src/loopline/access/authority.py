"""The authority: who is calling, and whether they may. Asked inside the transaction of the call itself.

What is not there and what one may not see look alike: without any role in a project its name gives `NotFound`, the same as a
project that does not exist. Who has some role there, but not the one needed, is `Refused` and told which.
"""

from __future__ import annotations

import hashlib
import os
import pwd
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from loopline.access import policy
from loopline.access.records import Kind, Principal
from loopline.access.tables import INSTANCE, grants, principals, projects, tokens
from loopline.database import Tx
from loopline.errors import Invalid, NotFound, Refused, did_you_mean
from loopline.operations import Action
from loopline.prepared import Prepared
from loopline.refs import DEFAULT_PROJECT, Ref, check_name, parse

PREFIX = "ll_"
"""What every token begins with, so that scanners for leaked secrets know one."""

_MINUTE = 60_000
_HOW = "Send `Authorization: Bearer ll_...`; `loopline access create-token` makes one."

_NOTHING = sa.literal("")
_KNOWN = Prepared(
    sa.union_all(
        sa.select(
            sa.literal("principal").label("what"), principals.c.name.label("first"), _NOTHING.label("second")
        ).where(principals.c.name == sa.bindparam("who")),
        sa.select(sa.literal("grant"), grants.c.project, grants.c.role).where(
            grants.c.principal == sa.bindparam("who")
        ),
        sa.select(sa.literal("project"), projects.c.name, _NOTHING).where(projects.c.name == sa.bindparam("place")),
    )
)
"""All that a decision rests on in one query: every call asks it."""

_BY_DIGEST = Prepared(sa.select(tokens).where(tokens.c.digest == sa.bindparam("digest")))
_BY_ID = Prepared(sa.select(tokens).where(tokens.c.id == sa.bindparam("id")))
_KIND = Prepared(sa.select(principals.c.kind).where(principals.c.name == sa.bindparam("name")))

_callers: WeakKeyDictionary[Tx, Principal] = WeakKeyDictionary()


def authenticate(tx: Tx, token: str) -> Principal:
    """The principal whose token this is. Raises `Refused` (code "unauthenticated").

    The time of use is kept to the minute: a write for every request would cost more than it tells.
    """
    if not token:
        raise _unauthenticated("This needs a token, and none came.")
    row = tx.first(_BY_DIGEST, {"digest": digest(token)})
    if row is None:
        raise _unauthenticated("The token is not known here.")
    _check_life(tx, row)
    if row.last_used is None or row.last_used < tx.now - _MINUTE:
        tx.execute(tokens.update().where(tokens.c.id == row.id).values(last_used=tx.now))
    kind: Kind = tx.scalar(_KIND, {"name": row.principal})
    return Principal(
        name=row.principal,
        kind=kind,
        token=row.id,
        project=row.project,
        roles=tuple(filter(None, row.roles.split(","))),
    )


def authorise(tx: Tx, principal: Principal, action: Action, project: str | None) -> None:
    """Lets the call go on, or raises `Refused` (code "forbidden" or "unauthenticated") or `NotFound` (the project).

    `project` is None for what concerns the whole instance. The token is looked at anew, so one revoked since it was shown
    is refused. "any" asks only that the principal is known, and in a project that it has some role there.
    """
    _callers[tx] = principal
    if principal.token:
        row = tx.first(_BY_ID, {"id": principal.token})
        if row is None:
            raise _unauthenticated("The token is not known here.")
        _check_life(tx, row)
    known = tx.rows(_KNOWN, {"who": principal.name, "place": project or INSTANCE})
    if not principal.token and not any(row.what == "principal" for row in known):
        raise _unauthenticated(
            f"{principal.name} is not known here.", f"An admin adds it: loopline access add-principal {principal.name}"
        )
    held = _within_bounds(principal, [(row.first, row.second) for row in known if row.what == "grant"])
    instance = held.get(INSTANCE, ())
    if project is None:
        if not policy.allows(action, (), instance):
            raise _forbidden(principal, action, None)
        return
    if not (held.get(project) or instance) or not any(row.what == "project" for row in known):
        raise NotFound(
            f"There is no project {project!r} that {principal.name} can see.",
            code="no-project",
            hint=did_you_mean(project, visible(tx, held)),
        )
    if not policy.allows(action, held.get(project, ()), instance):
        raise _forbidden(principal, action, project)


def roles_of(tx: Tx, principal: Principal) -> dict[str, tuple[str, ...]]:
    """The roles by project ("*": the instance) that the principal has now, within the bounds of its token."""
    query = sa.select(grants.c.project, grants.c.role).where(grants.c.principal == principal.name)
    return _within_bounds(principal, [(row.project, row.role) for row in tx.rows(query)])


def visible(tx: Tx, held: dict[str, tuple[str, ...]]) -> list[str]:
    """The names of the projects that one with these roles can see."""
    names = [row.name for row in tx.rows(sa.select(projects.c.name).order_by(projects.c.name))]
    return names if INSTANCE in held else [name for name in names if name in held]


def digests_for(tx: Tx, action: Action) -> dict[str, tuple[str, ...]]:
    """The digests of the living tokens that allow an action, by project: for processes that have no database to ask."""
    found: dict[str, list[str]] = {}
    living = sa.select(tokens).where(tokens.c.revoked.is_(None), tokens.c.expires > tx.now).order_by(tokens.c.id)
    for row in tx.rows(living):
        bounds = tuple(filter(None, row.roles.split(",")))
        holder = Principal(name=row.principal, token=row.id, project=row.project, roles=bounds)
        for project, roles in roles_of(tx, holder).items():
            if project != INSTANCE and policy.allows(action, roles, ()):
                found.setdefault(project, []).append(row.digest)
    return {project: tuple(digests) for project, digests in found.items()}


def living_digests(tx: Tx) -> tuple[str, ...]:
    """The digests of all living tokens, whatever they allow."""
    living = sa.select(tokens.c.digest).where(tokens.c.revoked.is_(None), tokens.c.expires > tx.now)
    return tuple(row.digest for row in tx.rows(living.order_by(tokens.c.id)))


def caller(tx: Tx) -> Principal:
    """Who was let into this transaction, with the bounds of the token they came by."""
    return _callers.get(tx) or Principal(name=tx.principal)


def readable(tx: Tx, refs: Iterable[str]) -> list[str]:
    """The refs as they are printed in full. Raises `NotFound` where one is of a project that the caller cannot read."""
    found = [parse(given, project=tx.project) for given in refs]
    for project in {one.project for one in found} - {tx.project}:
        authorise(tx, caller(tx), "read", project)
    return [str(one) for one in found]


def not_requester(tx: Tx, requester: str) -> None:
    """Raises `Refused` (code "own-request") where who approves in this transaction is who asked.

    Nor may the requester approve by another's hand: a living token of the approver that the requester made also refuses.
    """
    if tx.principal == requester:
        raise Refused(
            f"{requester} asked for this and so cannot approve it.", code="own-request", hint="Another approver has to."
        )
    made = tx.first(
        sa.select(tokens.c.id).where(
            tokens.c.principal == tx.principal,
            tokens.c.issuer == requester,
            tokens.c.revoked.is_(None),
            tokens.c.expires > tx.now,
        )
    )
    if made is not None:
        raise Refused(
            f"{requester} asked for this and holds the making of a token of {tx.principal}, who so cannot approve it.",
            code="own-request",
            hint=f"Another approver has to, or end that token first: loopline access revoke-token {made.id}",
        )


def local_principal(tx: Tx, *, owner_uid: int) -> Principal:
    """The principal of the operating-system user of this process.

    In a workspace without any project the owner of its folder is made known, with project "default" (data scientist, operator
    and admin there) and the instance (auditor and admin): one person alone can do everything but approve.
    """
    if tx.first(sa.select(projects.c.name)) is None:
        tx.write()
        if tx.first(sa.select(projects.c.name)) is None:
            _found(tx, os_name(owner_uid))
    return Principal(name=os_name(os.getuid()), kind="os")


def os_name(uid: int) -> str:
    """The principal's name of an operating-system user: `os:alice`, or `os:1001` where the user has no plain name."""
    try:
        name = check_name(pwd.getpwuid(uid).pw_name)
    except (KeyError, Invalid):
        return f"os:{uid}"
    # A name of digits alone would be mistaken for the number of somebody without a name.
    return f"os:{uid}" if name.isdecimal() else f"os:{name}"


def ref(principal: str, role: str | None = None, project: str = DEFAULT_PROJECT) -> str:
    """The printed name of a principal, or of its role in a project: `principal:clinic/os.alice@approver`.

    The colon of an operating-system user becomes a dot, as refs have one colon only.
    """
    return str(Ref("principal", principal.replace(":", "."), role, project))


def digest(token: str) -> str:
    """What is stored of a token. It is 256 random bits, so a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def add_grant(tx: Tx, principal: str, project: str, role: str) -> None:
    """Writes one grant, as of this transaction's time and caller."""
    tx.execute(
        grants.insert().values(principal=principal, project=project, role=role, created=tx.now, created_by=tx.principal)
    )


def _found(tx: Tx, owner: str) -> None:
    tx.execute(principals.insert().values(name=owner, kind="os", created=tx.now, created_by=tx.principal))
    tx.execute(projects.insert().values(name=DEFAULT_PROJECT, created=tx.now, created_by=tx.principal))
    for project, roles in ((DEFAULT_PROJECT, policy.OWNER), (INSTANCE, policy.OWNER_OF_INSTANCE)):
        for role in roles:
            add_grant(tx, owner, project, role)
            tx.note(outputs=[ref(owner, role)])
    tx.note(outputs=[str(Ref("project", DEFAULT_PROJECT))])


def _within_bounds(principal: Principal, granted: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """What the granted (project, role) and the bounds of the principal's token leave, by project."""
    held: dict[str, tuple[str, ...]] = {}
    for project, role in sorted(granted):
        if principal.project in ("", project):
            held[project] = (*held.get(project, ()), role)
    if not principal.roles:
        return held
    left = {
        project: tuple(role for role in principal.roles if policy.covers(roles, role, instance=project == INSTANCE))
        for project, roles in held.items()
    }
    return {project: roles for project, roles in left.items() if roles}


def _check_life(tx: Tx, row: sa.Row[Any]) -> None:
    if row.revoked is not None:
        raise _unauthenticated(f"The token {row.id} was revoked.")
    if row.expires <= tx.now:
        raise _unauthenticated(f"The token {row.id} has expired.")


def _unauthenticated(message: str, hint: str = _HOW) -> Refused:
    return Refused(message, code="unauthenticated", hint=hint)


def _forbidden(principal: Principal, action: Action, project: str | None) -> Refused:
    where = "for the whole instance" if project is None else f"in project {project!r}"
    roles = policy.who_may(action, instance=project is None) or policy.who_may(action, instance=True)
    role = roles[0] if roles else ""
    if project is None or role not in policy.ROLES:
        how = f"loopline access appoint {principal.name} {role}"
    else:
        how = f"loopline access grant {principal.name} {role} --project {project}"
    bounded = principal.project or principal.roles
    by = f" by the token {principal.token}" if principal.token else ""
    hint = f"An admin grants it: {how}" if role else "No role of the instance may do it."
    return Refused(
        f"{principal.name}{by} may not {action} {where}: that takes the role {' or '.join(roles) or 'of nobody'}.",
        code="forbidden",
        hint=f"The token is bounded; another one may have it, or else: {how}" if bounded and role else hint,
        principal=principal.name,
        action=action,
        roles=list(roles),
    )
