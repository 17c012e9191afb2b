"""Models as a whole: names and titles, what is said of them, deletion and the way back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import sqlalchemy as sa

from loopline.database import Tx
from loopline.errors import Conflict, Invalid, NotFound, did_you_mean
from loopline.prepared import Prepared
from loopline.refs import check_name
from loopline.registry.aliases import Aliases
from loopline.registry.records import Model
from loopline.registry.tables import model_versions, models

_LONGEST_TITLE = 256
_LONGEST_TEXT = 100_000
_LONGEST_KEY = 250
_MOST_TAGS = 1000


class Models:
    """The models of one project."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx

    def row(self, name: str, *, deleted: bool = False) -> Any:
        """The row of a model; `deleted`: of one that is deleted, too. Raises `NotFound`."""
        found = self.tx.first(_BY_NAME, {"in_project": self.tx.project, "of_model": name})
        if found is None or (found.deleted is not None and not deleted):
            self.missing(name, was=found is not None)
        return found

    def record(self, name: str) -> Model:
        """The record of a model, deleted or not."""
        return self.records([self.row(name, deleted=True)])[0]

    def records(self, rows: Sequence[Any]) -> list[Model]:
        """The records of some models."""
        of = model_versions.c
        live = sa.select(of.name, sa.func.count().label("versions"), sa.func.max(of.version).label("newest"))
        live = live.where(of.project == self.tx.project, of.deleted.is_(None)).group_by(of.name)
        names = [row.name for row in rows]
        counted = {row.name: row for row in self.tx.rows_among(live, of.name, names)}
        named: dict[str, dict[str, int]] = {}
        for alias in Aliases(self.tx).current(names[0] if len(names) == 1 else None):
            named.setdefault(alias.name, {})[alias.alias] = alias.version
        return [
            Model(
                name=row.name,
                ref=self.tx.ref("model", row.name),
                versions=counted[row.name].versions if row.name in counted else 0,
                latest=counted[row.name].newest if row.name in counted else 0,
                aliases=named.get(row.name, {}),
                title=row.title,
                description=row.description,
                tags=row.tags,
                created=row.created,
                creator=row.creator,
                changed=row.changed,
                deleted=row.deleted,
            )
            for row in rows
        ]

    def lock(self, name: str, *, deleted: bool = False) -> Any:
        """The row of a model, which no other call changes until the transaction ends. Raises `NotFound`."""
        self.tx.write()
        if not self.tx.database.sqlite:  # SQLite has one writer at a time
            self.tx.rows(sa.select(models.c.name).where(*self._at(name)).with_for_update())
        return self.row(name, deleted=deleted)

    def create(self, name: str | None, title: str | None, description: str, tags: Mapping[str, str | None]) -> str:
        """Makes a model; gives its name. Raises `Conflict` where a live one has the name or the title.

        Without a name it is made from the title. A deleted model of that very name comes back without its versions.
        """
        self.tx.write()
        if name is None:
            name = self._free_name(check_title(title or ""))
        former = self.tx.first(sa.select(models).where(*self._at(check_name(name, "name of a model"))))
        if former is not None and former.deleted is None:
            raise _taken(name)
        values = {
            "title": check_title(title or name),
            "description": check_text(description, "The description"),
            "tags": merged({}, tags),
            "created": self.tx.now,
            "creator": self.tx.principal,
            "changed": self.tx.now,
            "deleted": None,
        }
        with _unique(title or name):
            if former is None:
                self.tx.execute(models.insert().values(project=self.tx.project, name=name, latest=0, **values))
            else:
                self.tx.execute(models.update().where(*self._at(name)).values(**values))
        return name

    def next_number(self, name: str) -> int:
        """The next version's number, given once; the model is made where there is none."""
        made = {
            "project": self.tx.project,
            "name": name,
            "latest": 0,
            "title": name,
            "description": "",
            "tags": {},
            "created": self.tx.now,
            "creator": self.tx.principal,
            "changed": self.tx.now,
        }
        given = {"in_project": self.tx.project, "of_model": name, "at_time": self.tx.now}
        with _unique(name):
            found = self.tx.run(_COUNTED, given)
            if not found:
                # Whatever key another call's row is in the way of, its name or its title: it is most likely that very model.
                self.tx.upsert(models, (), made)
                found = self.tx.run(_COUNTED, given)
            if not found:  # the title is another model's
                raise _taken(name)
            return int(found[0].latest)

    def rename(self, name: str, title: str) -> None:
        """Gives a model another title. Raises `Conflict` where a live one has it."""
        self.lock(name)
        with _unique(check_title(title)):
            self.update(name, title=title)

    def bring_back(self, name: str, title: str) -> None:
        """Makes a deleted model a live one again. Raises `Conflict` where a live one has its title by now."""
        with _unique(title):
            self.update(name, deleted=None)

    def update(self, name: str, **values: Any) -> None:
        """Changes what may change of a model, of which the transaction holds the lock."""
        self.tx.execute(models.update().where(*self._at(name)).values(changed=self.tx.now, **values))

    def missing(self, name: str, *, was: bool = False) -> NoReturn:
        """Raises `NotFound` for a model that is not there, or that `was`."""
        live = sa.select(models.c.name).where(models.c.project == self.tx.project, models.c.deleted.is_(None))
        known = [row.name for row in self.tx.rows(live)]
        raise NotFound(
            f"The model {name!r} is deleted." if was else f"There is no model {name!r}.",
            code="no-model",
            hint=f"Bring it back: loopline models restore {name}" if was else did_you_mean(name, known),
        )

    def _free_name(self, title: str) -> str:
        """A name that no model here ever had, like the title as far as a ref can hold it."""
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:100].rstrip("-._") or "model"
        query = sa.select(models.c.name).where(models.c.project == self.tx.project)
        used = {row.name for row in self.tx.rows(query.where(models.c.name.startswith(base, autoescape=True)))}
        number, name = 1, base
        while name in used:
            number += 1
            name = f"{base}-{number}"
        return name

    def _at(self, name: str) -> tuple[Any, ...]:
        return (models.c.project == self.tx.project, models.c.name == name)


_BY_NAME = Prepared(
    sa.select(models).where(models.c.project == sa.bindparam("in_project"), models.c.name == sa.bindparam("of_model"))
)
_COUNTED = Prepared(
    models.update()
    .where(models.c.project == sa.bindparam("in_project"), models.c.name == sa.bindparam("of_model"))
    .values(latest=models.c.latest + 1, changed=sa.bindparam("at_time"), deleted=None)
    .returning(models.c.latest)
)


@contextlib.contextmanager
def _unique(title: str) -> Iterator[None]:
    """Tells what the database's own keys refuse, two calls at once included, as `Conflict`."""
    try:
        yield
    except sa.exc.IntegrityError as e:
        raise _taken(title) from e


def check_title(title: str) -> str:
    """The title itself, where it is text of 1 to 256 characters. Raises `Invalid`."""
    if not title.strip() or len(title) > _LONGEST_TITLE or not title.isprintable():
        raise Invalid(
            f"{title[:60]!r} cannot be the title of a model.",
            code="bad-title",
            hint=f"Printable text of 1 to {_LONGEST_TITLE} characters.",
        )
    return title


def check_text(text: str, what: str) -> str:
    """The text itself, where it is short enough to be kept. Raises `Invalid`."""
    if len(text) > _LONGEST_TEXT or "\0" in text:
        raise Invalid(
            f"{what} cannot be kept: it has {len(text):,} characters, or a NUL among them.",
            code="too-long",
            hint=f"At most {_LONGEST_TEXT:,} characters, without NUL.",
        )
    return text


def merged(known: Mapping[str, str], tags: Mapping[str, str | None]) -> dict[str, str]:
    """The tags as they are after a change; None removes one. Raises `Invalid`."""
    for key, value in tags.items():
        if not key.strip() or len(key) > _LONGEST_KEY or not key.isprintable():
            raise Invalid(
                f"{key[:60]!r} cannot be the key of a tag.",
                code="bad-key",
                hint=f"Printable text of 1 to {_LONGEST_KEY} characters.",
            )
        check_text(value or "", f"The tag {key!r}")
    found = {**known, **tags}
    kept = {key: value for key, value in found.items() if value is not None}
    if len(kept) > _MOST_TAGS:
        raise Invalid(
            f"A model or version cannot have {len(kept):,} tags.", code="too-many-tags", hint=f"At most {_MOST_TAGS:,}."
        )
    return kept


def _taken(name: str) -> Conflict:
    return Conflict(
        f"A model has the name or the title {name!r} already.",
        code="model-exists",
        hint="Choose another; `loopline models ls` lists the models.",
    )
