"""What a model version is, which names point to it, and who approved it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Status = Literal["draft", "registered", "withdrawn"]
DocumentKind = Literal["evaluation", "verdicts", "parity", "training"]
CardForm = Literal["markdown", "json", "html"]
Decision = Literal["open", "approved", "rejected"]

SOURCE_FACT, RUN_FACT = "source", "run_id"
"""Facts of a version of files: where it came from as its program said it, and the run that made it where it is no run here."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold of a model or a version that is searched for.

    `field`: title, name, description, tags.KEY, created, changed (milliseconds since 1970 UTC); of versions also version, status,
    run (its id), source, facts.KEY and model.tags.KEY. `value`: a text, a whole number for what is one, several texts for "in".
    What does not have the field holds only with `missing`.
    """

    field: str
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "not in", "like", "ilike", "not like", "not ilike"]
    value: str | int | tuple[str, ...]
    missing: bool = False


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a model: immutable forms, and what is known of it.

    `forms` maps each file of the bundle to its digest (`blake3:<hex>`), `bundle` is the digest of that map. `run` is the ref of
    the run that made it, `inputs` the dataset versions it learnt from. `parity` and `metrics` are short forms of the attached
    documents, whose digests stand in `documents` by kind. `signature` is the id of the key that signed it ("" for a draft).
    `facts` are short texts for the card, for example {"data": "synthetic"}, that never change; `description` and `tags` may.
    Times are in milliseconds since 1970 UTC; `changed` is when it, its description or its tags changed last.

    A version may hold plain files instead of a bundle; then `task` is "" and `servable` false: the registry knows and signs what
    it was given, nothing runs it, and so no endpoint takes it.
    """

    name: str
    version: int
    ref: str
    status: Status
    task: str
    created: int
    creator: str
    bundle: str
    forms: dict[str, str]
    size: int
    run: str | None = None
    inputs: tuple[str, ...] = ()
    parity: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    documents: dict[str, str] = {}
    signature: str = ""
    registered: int | None = None
    aliases: tuple[str, ...] = ()
    facts: dict[str, str] = {}
    reason: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    changed: int = 0
    deleted: int | None = None

    @property
    def servable(self) -> bool:
        """Whether it holds a bundle, which is what serving opens."""
        return bool(self.task)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A named series of model versions: how many, the newest (0: none), and which alias points to which version.

    `name` stands in refs and never changes; `title` is what people call it, which may.
    """

    name: str
    ref: str
    versions: int
    latest: int
    aliases: dict[str, int] = {}
    title: str
    description: str = ""
    tags: dict[str, str] = {}
    created: int
    creator: str
    changed: int
    deleted: int | None = None


class ModelPage(msgspec.Struct, frozen=True, kw_only=True):
    """Models in the order asked for; `after` gives the next page (None: this is the last)."""

    models: tuple[Model, ...]
    after: str | None = None


class VersionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Versions in the order asked for, with the titles of their models by name; `after` gives the next page (None: the last)."""

    versions: tuple[ModelVersion, ...]
    titles: dict[str, str]
    after: str | None = None


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said of a model version, or of the model as a whole (`version` is None). `id` rises with time."""

    id: int
    name: str
    version: int | None
    text: str
    at: int
    by: str


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """A name for one version of a model, since when, by whom and why."""

    name: str
    alias: str
    version: int
    since: int
    by: str
    reason: str = ""


class AliasMove(msgspec.Struct, frozen=True, kw_only=True):
    """One move of an alias, in order of `number`; `version` is None where it was removed, `previous` where it pointed nowhere."""

    number: int
    name: str
    alias: str
    version: int | None
    previous: int | None
    how: Literal["set", "roll_back", "remove"]
    at: int
    by: str
    reason: str = ""


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of a model version against the store and its signature found.

    `forms` counts the files hashed again; `problems` says in words what does not hold (empty when `ok`).
    """

    ref: str
    ok: bool
    signed: bool
    key: str
    forms: int
    problems: tuple[str, ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document attached to a model version, by kind, with its digest."""

    ref: str
    kind: DocumentKind
    digest: str
    at: int
    by: str
    document: dict[str, Any] = {}


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A request that somebody else look at a model version, and what they said.

    It is bound to the `bundle` digest and to the documents there were when it was made (`evidence`: digest by kind).
    """

    id: str
    name: str
    version: int
    ref: str
    bundle: str
    evidence: dict[str, str]
    decision: Decision
    requested: int
    requester: str
    decided: int | None = None
    decider: str = ""
    comment: str = ""
