"""What access knows: principals, their grants, tokens, projects."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["os", "user", "service", "loop"]
"""Who a principal is: an operating-system user, another person, a program, a loop acting by itself."""

Role = Literal["viewer", "data_scientist", "sender", "operator", "approver", "admin"]
"""What a principal may be in a project. A sender adds rows to its datasets, and reads nothing."""

InstanceRole = Literal["auditor", "admin"]
"""What a principal may be for the whole instance."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls. Roles are not held here: they are read anew in each call's transaction.

    Who came by a token also carries its id and is bounded by it: `project` ("": no bound) and `roles` (empty: no bound).
    """

    name: str
    kind: Kind = "user"
    token: str = ""
    project: str = ""
    roles: tuple[str, ...] = ()


class PrincipalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One known principal; `created` is in milliseconds since 1970 UTC."""

    name: str
    kind: Kind
    created: int
    created_by: str


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """One role of one principal; `project` is "*" for a role in the whole instance."""

    principal: str
    project: str
    role: str
    created: int
    created_by: str


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """One token, without its secret. Times are in milliseconds since 1970 UTC, None: not (yet).

    `project` "" and empty `roles`: the token may all that its principal may. `issuer` is who made it.
    """

    id: str
    principal: str
    label: str
    project: str
    roles: tuple[str, ...]
    issuer: str
    created: int
    expires: int
    revoked: int | None = None
    last_used: int | None = None


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token just made: the only time its secret is seen."""

    secret: str
    token: Token


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking, as the platform sees them: roles by project (within the token's bounds) and of the instance."""

    name: str
    kind: Kind
    token: str
    projects: dict[str, tuple[str, ...]]
    instance: tuple[str, ...]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """One project; `roles` are those of who asks."""

    name: str
    created: int
    created_by: str
    roles: tuple[str, ...] = ()
