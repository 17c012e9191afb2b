"""What can be asked of access: who one is, who may what, tokens, projects."""

from __future__ import annotations

from typing import Protocol

from loopline.access.records import (
    Grant,
    Identity,
    InstanceRole,
    Kind,
    NewToken,
    PrincipalEntry,
    Project,
    Role,
    Token,
)
from loopline.operations import operation


class AccessVerbs(Protocol):
    """Principals, their roles and their tokens.

    platform.access.add_principal("ann", kind="user")
    platform.access.grant("ann", "viewer")
    secret = platform.access.create_token(principal="ann").secret
    """

    @operation("GET /access/whoami", action="any")
    def whoami(self) -> Identity:
        """Who is asking, and what they are where."""
        ...

    @operation("GET /access/principals", action="administer")
    def principals(self) -> list[PrincipalEntry]:
        """All known principals, by name."""
        ...

    @operation("POST /access/principals", action="administer")
    def add_principal(self, name: str, *, kind: Kind = "user") -> PrincipalEntry:
        """Makes a principal known; it may nothing until a role is granted.

        An operating-system user is named `os:USER`. Raises `Conflict` where the name is taken by another kind.
        """
        ...

    @operation("GET /projects/{project}/access/grants", action="read")
    def grants(self, *, principal: str = "") -> list[Grant]:
        """The roles granted in the project, of one principal or of all."""
        ...

    @operation("POST /projects/{project}/access/grants", action="administer")
    def grant(self, principal: str, role: Role) -> Grant:
        """Gives a principal a role in the project. Raises `Refused` where it clashes with a role held (approver, admin)."""
        ...

    @operation("DELETE /projects/{project}/access/grants/{principal}/{role}", action="administer")
    def revoke(self, principal: str, role: Role) -> None:
        """Takes a role in the project back, effective with the next call. Raises `NotFound`."""
        ...

    @operation("GET /access/instance", action="administer")
    def appointed(self) -> list[Grant]:
        """The roles granted for the whole instance."""
        ...

    @operation("POST /access/instance", action="administer")
    def appoint(self, principal: str, role: InstanceRole) -> Grant:
        """Gives a principal a role in the whole instance (auditor, admin). Raises `Refused` on a clash."""
        ...

    @operation("DELETE /access/instance/{principal}/{role}", action="administer")
    def dismiss(self, principal: str, role: InstanceRole) -> None:
        """Takes a role in the whole instance back. The last admin stays (`Conflict`)."""
        ...

    @operation("POST /access/tokens", action="any")
    def create_token(
        self,
        *,
        principal: str = "",
        label: str = "",
        project: str = "",
        roles: list[Role | InstanceRole] | None = None,
        days: int = 90,
    ) -> NewToken:
        """Makes a token, for oneself or (as an admin of the instance) for another; its secret is shown this once.

        `project` and `roles` bound what the token may; it ends after `days` (1 to 366). A token makes no other token,
        unless it is an unbounded one of an admin. Raises `Refused`, `NotFound`, `Invalid`.
        """
        ...

    @operation("GET /access/tokens", action="any")
    def tokens(self, *, principal: str = "") -> list[Token]:
        """One's own tokens, without secrets, or as an admin of the instance those of another, or of all (`*`)."""
        ...

    @operation("DELETE /access/tokens/{id}", action="any")
    def revoke_token(self, id: str) -> Token:
        """Ends one of one's own tokens, or as an admin of the instance anybody's, at once."""
        ...


class ProjectsVerbs(Protocol):
    """Projects: namespaces with members and roles."""

    @operation("POST /projects", action="administer")
    def create(self, name: str) -> Project:
        """Makes a project, whose maker is data scientist, operator and admin there. Raises `Conflict` where it is."""
        ...

    @operation("GET /projects", action="any")
    def list(self) -> list[Project]:
        """The projects in which one has a role."""
        ...

    @operation("GET /projects/{project}", action="read")
    def show(self) -> Project:
        """The project, and one's roles there."""
        ...
