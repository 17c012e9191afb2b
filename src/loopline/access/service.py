"""Access at work: principals, grants and tokens; projects."""

from __future__ import annotations

import builtins
import secrets

import sqlalchemy as sa

from loopline.access import authority, policy
from loopline.access.records import (
    Grant,
    Identity,
    InstanceRole,
    Kind,
    NewToken,
    Principal,
    PrincipalEntry,
    Project,
    Role,
    Token,
)
from loopline.access.tables import INSTANCE, grants, principals, projects, tokens
from loopline.access.verbs import AccessVerbs, ProjectsVerbs
from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, Refused, did_you_mean
from loopline.refs import DEFAULT_PROJECT, Ref, check_name

_DAY = 86_400_000
_LONGEST = 366


class AccessService(AccessVerbs):
    """Principals, their roles and their tokens, in one transaction."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def whoami(self) -> Identity:
        me = authority.caller(self.tx)
        held = authority.roles_of(self.tx, me)
        instance = held.pop(INSTANCE, ())
        return Identity(name=me.name, kind=me.kind, token=me.token, projects=held, instance=instance)

    def principals(self) -> list[PrincipalEntry]:
        return [_entry(row) for row in self.tx.rows(sa.select(principals).order_by(principals.c.name))]

    def add_principal(self, name: str, *, kind: Kind = "user") -> PrincipalEntry:
        _check_principal(name, kind)
        row = self.tx.first(sa.select(principals).where(principals.c.name == name))
        if row is None:
            values = {"name": name, "kind": kind, "created": self.tx.now, "created_by": self.tx.principal}
            self.tx.execute(principals.insert().values(values))
            self.tx.note(outputs=[authority.ref(name)])
            return PrincipalEntry(name=name, kind=kind, created=self.tx.now, created_by=self.tx.principal)
        if row.kind != kind:
            raise Conflict(
                f"{name} is known already, as {row.kind}.", code="principal-taken", hint="Choose another name."
            )
        return _entry(row)

    def grants(self, *, principal: str = "") -> list[Grant]:
        return self._grants(self.tx.project, principal)

    def grant(self, principal: str, role: Role) -> Grant:
        return self._grant(self.tx.project, principal, role)

    def revoke(self, principal: str, role: Role) -> None:
        self._revoke(self.tx.project, principal, role)

    def appointed(self) -> list[Grant]:
        return self._grants(INSTANCE, "")

    def appoint(self, principal: str, role: InstanceRole) -> Grant:
        return self._grant(INSTANCE, principal, role)

    def dismiss(self, principal: str, role: InstanceRole) -> None:
        self.tx.write()
        admins = [grant.principal for grant in self.appointed() if grant.role == "admin"]
        if role == "admin" and admins == [principal]:
            raise Conflict(
                f"{principal} is the last admin of the instance.",
                code="last-admin",
                hint="Appoint another first: loopline access appoint NAME admin",
            )
        self._revoke(INSTANCE, principal, role)

    def create_token(
        self,
        *,
        principal: str = "",
        label: str = "",
        project: str = "",
        roles: list[Role | InstanceRole] | None = None,
        days: int = 90,
    ) -> NewToken:
        me = authority.caller(self.tx)
        name = principal or me.name
        self._check_maker(me, name)
        if not 1 <= days <= _LONGEST:
            raise Invalid(
                f"A token cannot live for {days} days.",
                code="bad-days",
                hint=f"Give 1 to {_LONGEST} days; 90 is usual.",
            )
        if len(label) > 128:
            raise Invalid("The label is longer than 128 characters.", code="bad-label", hint="Shorten it.")
        self._principal(name)
        if project:
            held = authority.roles_of(self.tx, Principal(name=name))
            seen = authority.visible(self.tx, held)
            if project not in seen:
                raise NotFound(
                    f"There is no project {project!r} that {name} can see.",
                    code="no-project",
                    hint=did_you_mean(project, seen),
                )
        secret = authority.PREFIX + secrets.token_urlsafe(32)
        digest = authority.digest(secret)
        token = Token(
            id=digest[:12],
            principal=name,
            label=label,
            project=project,
            roles=tuple(sorted(set(roles or ()))),
            issuer=me.name,
            created=self.tx.now,
            expires=self.tx.now + days * _DAY,
        )
        self.tx.execute(
            tokens.insert().values(
                id=token.id,
                digest=digest,
                principal=name,
                label=label,
                project=project,
                roles=",".join(token.roles),
                issuer=me.name,
                created=token.created,
                expires=token.expires,
            )
        )
        self.tx.note(outputs=[authority.ref(name)], digests={"token": f"sha256:{digest}"})
        return NewToken(secret=secret, token=token)

    def tokens(self, *, principal: str = "") -> list[Token]:
        me = authority.caller(self.tx)
        name = principal or me.name
        query = sa.select(tokens).order_by(tokens.c.created, tokens.c.id)
        if name != me.name:
            self._check_admin(me, "read tokens of others")
        if name != "*":
            self._principal(name)
            query = query.where(tokens.c.principal == name)
        return [_token(row) for row in self.tx.rows(query)]

    def revoke_token(self, id: str) -> Token:
        me = authority.caller(self.tx)
        row = self.tx.first(sa.select(tokens).where(tokens.c.id == id))
        if row is None or (row.principal != me.name and not self._is_admin(me)):
            mine = self.tx.rows(sa.select(tokens.c.id).where(tokens.c.principal == me.name))
            raise NotFound(
                f"There is no token {id!r} of {me.name}.", code="no-token", hint=did_you_mean(id, [r.id for r in mine])
            )
        if row.revoked is None:
            self.tx.execute(tokens.update().where(tokens.c.id == id).values(revoked=self.tx.now))
            self.tx.note(outputs=[authority.ref(row.principal)], digests={"token": f"sha256:{row.digest}"})
            row = self.tx.first(sa.select(tokens).where(tokens.c.id == id))
            assert row is not None
        return _token(row)

    def _grants(self, project: str, principal: str) -> list[Grant]:
        query = sa.select(grants).where(grants.c.project == project).order_by(grants.c.principal, grants.c.role)
        if principal:
            query = query.where(grants.c.principal == principal)
        return [
            Grant(principal=g.principal, project=g.project, role=g.role, created=g.created, created_by=g.created_by)
            for g in self.tx.rows(query)
        ]

    def _grant(self, project: str, principal: str, role: str) -> Grant:
        self.tx.write()
        kind = self._principal(principal).kind
        query = sa.select(grants.c.role).where(grants.c.principal == principal)
        if project != INSTANCE:
            query = query.where(grants.c.project.in_((project, INSTANCE)))
        against = policy.clash(role, [r.role for r in self.tx.rows(query)], kind)
        if against:
            raise Refused(
                f"{principal} cannot be {role} in {_where(project)}: {against}.",
                code="separation-of-duty",
                hint="Grant it to somebody else, or take the other role back first.",
            )
        if not any(g.role == role for g in self._grants(project, principal)):
            authority.add_grant(self.tx, principal, project, role)
        self._note(project, principal, role)
        return next(g for g in self._grants(project, principal) if g.role == role)

    def _revoke(self, project: str, principal: str, role: str) -> None:
        held = [g.role for g in self._grants(project, principal)]
        if role not in held:
            raise NotFound(
                f"{principal} is not {role} in {_where(project)}.", code="no-grant", hint=did_you_mean(role, held)
            )
        self.tx.execute(
            grants.delete().where(grants.c.principal == principal, grants.c.project == project, grants.c.role == role)
        )
        self._note(project, principal, role)

    def _note(self, project: str, principal: str, role: str) -> None:
        where = DEFAULT_PROJECT if project == INSTANCE else project
        self.tx.note(outputs=[authority.ref(principal, role, where)])

    def _principal(self, name: str) -> PrincipalEntry:
        row = self.tx.first(sa.select(principals).where(principals.c.name == name))
        if row is None:
            known = [r.name for r in self.tx.rows(sa.select(principals.c.name))]
            raise NotFound(
                f"There is no principal {name!r}.",
                code="no-principal",
                hint=f"{did_you_mean(name, known)} An admin of the instance adds one: loopline access add-principal NAME",
            )
        return _entry(row)

    def _check_maker(self, me: Principal, name: str) -> None:
        if me.token and (me.project or me.roles or not self._is_admin(me)):
            raise Refused(
                f"The token {me.token} cannot make another token.",
                code="forbidden",
                hint="An admin of the instance makes one, or the user on the server's own machine.",
            )
        if name != me.name:
            self._check_admin(me, "make tokens for others")

    def _is_admin(self, me: Principal) -> bool:
        return "admin" in authority.roles_of(self.tx, me).get(INSTANCE, ())

    def _check_admin(self, me: Principal, what: str) -> None:
        if not self._is_admin(me):
            raise Refused(
                f"{me.name} may not {what}: that takes the role admin of the instance.",
                code="forbidden",
                hint=f"An admin grants it: loopline access appoint {me.name} admin",
            )


class ProjectsService(ProjectsVerbs):
    """Projects, in one transaction."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def create(self, name: str) -> Project:
        check_name(name, "project")
        self.tx.write()
        if self.tx.first(sa.select(projects.c.name).where(projects.c.name == name)) is not None:
            raise Conflict(f"There is a project {name!r} already.", code="project-taken", hint="Choose another name.")
        self.tx.execute(projects.insert().values(name=name, created=self.tx.now, created_by=self.tx.principal))
        for role in policy.OWNER:
            authority.add_grant(self.tx, self.tx.principal, name, role)
        self.tx.note(outputs=[str(Ref("project", name))])
        return Project(name=name, created=self.tx.now, created_by=self.tx.principal, roles=tuple(sorted(policy.OWNER)))

    def list(self) -> builtins.list[Project]:
        held = authority.roles_of(self.tx, authority.caller(self.tx))
        query = sa.select(projects).where(projects.c.name.in_(authority.visible(self.tx, held)))
        return [_project(row, held.get(row.name, ())) for row in self.tx.rows(query.order_by(projects.c.name))]

    def show(self) -> Project:
        held = authority.roles_of(self.tx, authority.caller(self.tx))
        row = self.tx.first(sa.select(projects).where(projects.c.name == self.tx.project))
        assert row is not None  # the authority has seen it, in this transaction
        return _project(row, held.get(row.name, ()))


def _check_principal(name: str, kind: Kind) -> None:
    user = name.removeprefix("os:")
    check_name(user, "principal")
    if (kind == "os") != name.startswith("os:"):
        raise Invalid(
            f"{name!r} cannot be the name of a principal of kind {kind!r}.",
            code="bad-principal",
            hint=f"Say os:{user} with kind os for the operating-system user."
            if kind == "os"
            else "Give kind os, or drop os:.",
        )
    if kind != "os" and name.startswith("os."):
        raise Invalid(
            f"{name!r} would print like an operating-system user.", code="bad-principal", hint="Choose another name."
        )


def _where(project: str) -> str:
    return "the whole instance" if project == INSTANCE else f"project {project!r}"


def _entry(row: sa.Row[tuple[str, Kind, int, str]]) -> PrincipalEntry:
    return PrincipalEntry(name=row.name, kind=row.kind, created=row.created, created_by=row.created_by)


def _project(row: sa.Row[tuple[str, int, str]], roles: tuple[str, ...]) -> Project:
    return Project(name=row.name, created=row.created, created_by=row.created_by, roles=roles)


def _token(row: sa.Row[tuple[str, ...]]) -> Token:
    values = {name: getattr(row, name) for name in Token.__struct_fields__ if name != "roles"}
    return Token(**values, roles=tuple(filter(None, row.roles.split(","))))
