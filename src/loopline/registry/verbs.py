"""What can be asked about models, their versions, aliases, approvals and cards."""

from __future__ import annotations

from typing import Any, Protocol

from loopline.operations import Body, Bytes, operation
from loopline.registry.records import (
    Alias,
    AliasMove,
    Approval,
    CardForm,
    Comment,
    Condition,
    Decision,
    Document,
    DocumentKind,
    Model,
    ModelPage,
    ModelVersion,
    Verification,
    VersionPage,
)
from loopline.tracking.records import Lifecycle


class ModelsVerbs(Protocol):
    """Models: versions with their forms, aliases with history, comments, approvals, cards."""

    @operation("POST /projects/{project}/models", action="register")
    def create(
        self,
        name: str | None = None,
        title: str | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> Model:
        """Make a model that has no version yet. The name stands in refs and never changes; the title may.

        One of the two is enough. A draft makes its model by itself.
        """
        ...

    @operation("GET /projects/{project}/models/{name}", action="read")
    def model(self, name: str) -> Model:
        """Show a model as a whole: its title, description, tags and aliases."""
        ...

    @operation("PUT /projects/{project}/models/{name}/title", action="register")
    def rename(self, name: str, title: str) -> Model:
        """Give a model another title; its name stays, and with it every ref, alias and signature."""
        ...

    @operation("PUT /projects/{project}/models/{name}/description", action="register")
    def describe(self, name: str, text: str, version: int | None = None) -> Model:
        """Set the description (Markdown) of a model, or of one version of it."""
        ...

    @operation("POST /projects/{project}/models/{name}/tags", action="register")
    def tag(self, name: str, tags: dict[str, str | None], version: int | None = None) -> Model:
        """Set tags of a model, or of one version of it; null removes one."""
        ...

    @operation("POST /projects/{project}/models/{name}/comments", action="register")
    def comment(self, name: str, text: str, version: int | None = None) -> Comment:
        """Say something of a model, or of one version of it; it stays, with who said it and when."""
        ...

    @operation("GET /projects/{project}/models/{name}/comments", action="read")
    def comments(self, name: str, version: int | None = None) -> tuple[Comment, ...]:
        """List what was said of a model and its versions, or of one version, oldest first."""
        ...

    @operation("DELETE /projects/{project}/models/{name}", action="register")
    def delete(self, name: str, version: int | None = None) -> Model:
        """Hide a version that nothing names, or a model with all of its versions; undone by restore."""
        ...

    @operation("POST /projects/{project}/models/{name}/restore", action="register")
    def restore(self, name: str, version: int | None = None) -> Model:
        """Bring back a deleted version, or a model with the versions that were deleted with it."""
        ...

    @operation("POST /projects/{project}/models/{name}/purge", action="administer")
    def purge(self, name: str, version: int | None = None) -> None:
        """Remove a deleted version, or a deleted model's versions, for good; the ledger keeps their refs."""
        ...

    @operation("POST /projects/{project}/models/{name}/files", action="register", prepares=True)
    def add(
        self,
        name: str,
        files: str | None = None,
        path: str = "",
        run: str | None = None,
        facts: dict[str, str] | None = None,
        description: str = "",
        tags: dict[str, str] | None = None,
    ) -> ModelVersion:
        """Add the next version of a model out of files as they are, registered and signed at once.

        `files` is the run or model version that holds them, `path` the folder within it; without files it is a version that
        only says (`facts`) where its files are. It holds no bundle, so nothing here runs it and no endpoint takes it.
        """
        ...

    @operation("POST /projects/{project}/models/{name}/versions", action="register", prepares=True)
    def draft(
        self,
        name: str,
        bundle: Body,
        run: str | None = None,
        inputs: tuple[str, ...] = (),
        facts: dict[str, str] | None = None,
    ) -> ModelVersion:
        """Add the next version of a model, as a draft, from a bundle (a tar of its folder).

        The same again (bundle, run, inputs, facts) as the newest version gives that one, unless it is withdrawn.
        """
        ...

    @operation("POST /projects/{project}/models/{name}/versions/{version}/documents/{kind}", action="register")
    def attach(self, name: str, version: int, kind: DocumentKind, document: dict[str, Any]) -> Document:
        """Attach the evaluation, verdicts, parity report or training record of a draft; a later one replaces it."""
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}/documents/{kind}", action="read")
    def document(self, name: str, version: int | str, kind: DocumentKind) -> Document:
        """Show an attached document of a model version."""
        ...

    @operation("POST /projects/{project}/models/{name}/versions/{version}/register", action="register", prepares=True)
    def register(
        self, name: str, version: int, evaluation: str | None = None, verdicts: str | None = None
    ) -> ModelVersion:
        """Sign a draft and make it a registered version; digests given must be those of the attached documents."""
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}/verify", action="read")
    def verify(self, name: str, version: int | str) -> Verification:
        """Hash the forms of a version again and check its signature."""
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}/signature", action="read")
    def signature(self, name: str, version: int | str) -> dict[str, Any]:
        """Show the signed statement of a version (a DSSE envelope) and the public key to check it with."""
        ...

    @operation("GET /projects/{project}/models", action="read")
    def list(self, title: str | None = None, lifecycle: Lifecycle = "live") -> tuple[Model, ...]:
        """List the models of a project with their aliases; `title`: those of that title."""
        ...

    @operation("GET /projects/{project}/model-search", action="read")
    def search(
        self, where: tuple[Condition, ...] = (), order: tuple[str, ...] = (), limit: int = 100, after: str | None = None
    ) -> ModelPage:
        """Find the live models that all conditions hold for, a page at a time.

        `order`: title, name, created or changed, each alone or with DESC behind it; what is alike stands by its title.
        """
        ...

    @operation("GET /projects/{project}/model-version-search", action="read")
    def search_versions(
        self, where: tuple[Condition, ...] = (), order: tuple[str, ...] = (), limit: int = 100, after: str | None = None
    ) -> VersionPage:
        """Find the live versions that all conditions hold for, a page at a time.

        `order`: title, name, version, created or changed, each alone or with DESC behind it; what is alike stands by the title of
        its model, the newest version first.
        """
        ...

    @operation("GET /projects/{project}/models/{name}/versions", action="read")
    def versions(self, name: str, lifecycle: Lifecycle = "live") -> tuple[ModelVersion, ...]:
        """List the versions of a model, newest first."""
        ...

    @operation("GET /projects/{project}/model-versions", action="read")
    def list_versions(
        self, names: tuple[str, ...] | None = None, newest_by: str | None = None
    ) -> tuple[ModelVersion, ...]:
        """List the versions of all models, or of these, by model and number.

        `newest_by`: of each model, and of each value of this tag, only the newest version.
        """
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}", action="read")
    def show(self, name: str, version: int | str) -> ModelVersion:
        """Show a version of a model, by number or alias."""
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}/bundle", action="read")
    def bundle(self, name: str, version: int | str) -> Bytes:
        """Fetch the bundle of a version as a tar."""
        ...

    @operation("GET /projects/{project}/models/{name}/versions/{version}/card", action="read")
    def card(self, name: str, version: int | str, form: CardForm = "markdown") -> Bytes:
        """Write the card of a version, from records only."""
        ...

    @operation("POST /projects/{project}/models/{name}/versions/{version}/withdraw", action="register")
    def withdraw(self, name: str, version: int, reason: str) -> ModelVersion:
        """Withdraw a version that no alias names; it stays on record and can never be named again."""
        ...

    @operation("PUT /projects/{project}/models/{name}/aliases/{alias}", action="deploy")
    def set_alias(self, name: str, alias: str, version: int, reason: str = "") -> Alias:
        """Point an alias to a registered version; undone by roll_back."""
        ...

    @operation("POST /projects/{project}/models/{name}/aliases/{alias}/roll_back", action="deploy")
    def roll_back(self, name: str, alias: str, reason: str = "") -> Alias:
        """Point an alias back to the version that it named before."""
        ...

    @operation("DELETE /projects/{project}/models/{name}/aliases/{alias}", action="deploy")
    def remove_alias(self, name: str, alias: str, reason: str = "") -> AliasMove:
        """Take an alias away; its history stays, and roll_back points it again to what it named."""
        ...

    @operation("GET /projects/{project}/models/{name}/aliases", action="read")
    def aliases(self, name: str) -> tuple[Alias, ...]:
        """List the aliases of a model."""
        ...

    @operation("GET /projects/{project}/models/{name}/aliases/{alias}/history", action="read")
    def alias_history(self, name: str, alias: str) -> tuple[AliasMove, ...]:
        """List all moves of an alias, oldest first."""
        ...

    @operation("GET /projects/{project}/models/{name}/aliases/{alias}", action="read")
    def as_of(self, name: str, alias: str, at: int | None = None) -> Alias:
        """Show where an alias pointed at a time (milliseconds since 1970 UTC; default: now)."""
        ...

    @operation("POST /projects/{project}/models/{name}/versions/{version}/approvals", action="register")
    def request_approval(self, name: str, version: int) -> Approval:
        """Ask for somebody else's approval of a registered version."""
        ...

    @operation("POST /projects/{project}/approvals/{request}/approve", action="approve")
    def approve(self, request: str, comment: str = "") -> Approval:
        """Approve a request; never one's own."""
        ...

    @operation("POST /projects/{project}/approvals/{request}/reject", action="approve")
    def reject(self, request: str, comment: str = "") -> Approval:
        """Reject a request; never one's own."""
        ...

    @operation("GET /projects/{project}/approvals", action="read")
    def approvals(self, name: str | None = None, decision: Decision | None = None) -> tuple[Approval, ...]:
        """List requests for approval, newest first."""
        ...
