"""`ll.run` and `ll.log`: a run that a script, a notebook or a service tracks by itself.

What is logged is in a journal on the disk when the call returns (`tracking/journal.py`), and is sent from there in the
background. So a server that is slow, away or not there at all changes nothing for the training.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from loopline.client import values
from loopline.client.files import chosen
from loopline.client.going import began, current, ending, for_all, now, over, said
from loopline.client.logbook import Logbook, Place, place
from loopline.client.watch import Watch
from loopline.errors import Conflict, Invalid, LooplineError
from loopline.refs import Ref, parse
from loopline.tracking.entries import entry_text
from loopline.tracking.environment import process
from loopline.tracking.ids import ulid
from loopline.tracking.paths import check_group, check_key, check_path, check_text, check_title
from loopline.tracking.records import Ending
from loopline.tracking.working_copy import WorkingCopy, working_copy

PATCH = "code/patch.diff"
"""The artifact that holds what differed from the commit or revision."""

_SAMPLE_SECONDS = 10.0
_LONGEST_MESSAGE = 4000


def run(
    name: str | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    inputs: tuple[str, ...] = (),
    group: str | None = None,
    url: str | None = None,
    project: str | None = None,
    workspace: str | Path | None = None,
    console: bool = True,
    system: float | None = _SAMPLE_SECONDS,
) -> Run:
    """A run that has begun; it ends with its block, by `finish`, or with the program.

        with ll.run("fit", params={"rate": 0.1}) as run:
            for step in range(100):
                run.log(loss=1 / (step + 1))

    Without a name it has that of the script. It goes to the server at `url`, else to that of `LOOPLINE_URL`, else to the one
    that serves the workspace, else into the workspace itself, when it ends. Within another run it is a child of that, unless it
    goes to another place. `group`: the name of its group, which is made where there is none (else that of the run above it, or
    the default one). `console`: whether to keep what is printed; `system`: seconds between two samples of the machine's
    use (None: none are taken); both are of the outermost run of a process. Raises `Invalid` on what cannot be kept, before
    anything is written.
    """
    above = active()
    if above is not None:
        given = (url, project, workspace)
        if given == (None, None, None) or place(*given) == above._logbook.place:
            return above.child(name, params=params, tags=tags, inputs=inputs, group=group)
    return Run(
        name or _script(),
        place(url, project, workspace),
        params=params or {},
        tags=tags or {},
        inputs=inputs,
        group=group,
        console=console,
        system=system,
    )


def log(metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **more: Any) -> None:
    """Logs values of metrics to the active run; without one, to a run of the script's name that ends with the program.

        ll.log(loss=0.31, step=4)

    Active is the run that this thread began last and that has not ended, else that of the main thread. See `Run.log`.
    """
    (active() or _implicit()).log(metrics, step=step, **more)


def active() -> Run | None:
    """The run that a call of this thread is about; None where there is none."""
    return cast("Run | None", current())


class Run:
    """A run that goes on in this process; made by `ll.run`. All of its methods can be called from any thread.

    `id` is a ULID, `ref` its printed name. Each method raises `Conflict` (code "run-ended") once the run has ended, `Invalid`
    on what cannot be kept, and `Unavailable` (codes "journal-full", "disk-full") where the journal has no room; nothing is
    written then.
    """

    def __init__(
        self,
        name: str,
        where: Place,
        *,
        params: Mapping[str, Any],
        tags: Mapping[str, Any],
        inputs: tuple[str, ...],
        group: str | None = None,
        console: bool = False,
        system: float | None = None,
        parent: Run | None = None,
    ) -> None:
        self.name = check_title(name, "name of a run")
        self.parent = parent
        if group is None and parent is not None:
            group = parent.group
        self.group: str | None = None if group is None else check_group(group)
        self.ended = False
        self._params = values.params(params)
        given_tags = {key: value for key, value in values.tags(tags).items() if value is not None}
        read = [self._named(ref, where.project) for ref in inputs]
        if system is not None and not system > 0:
            raise Invalid(
                f"system={system!r} cannot be.", code="bad-arguments", hint="Give seconds, or None for no samples."
            )
        self._steps: dict[str, int] = {}
        self._lock = threading.RLock()  # reentrant: a signal's handler may log in the midst of a call
        self._process = os.getpid()
        self._watch: Watch | None = None
        self._logbook = Logbook.enter(where)
        self._journal = self._logbook.journal
        created = now()
        self.id = ulid(created)
        self.ref = str(Ref("run", self.id, project=where.project))
        try:
            code = WorkingCopy({}, b"") if parent else _code()
            self.environment: dict[str, Any] = parent.environment if parent else {**process(), **code.facts}
            self._journal.record(
                "run",
                self.id,
                name=name,
                created=created,
                **({} if self.group is None else {"group": self.group}),
                parent=parent.id if parent else None,
                params={key: value for key, (value, _) in self._params.items()},
                tags=given_tags,
                inputs=read,
                environment=self.environment,
            )
            if code.patch:
                self.keep(PATCH, code.patch)
        except BaseException:
            self._logbook.leave()
            raise
        began(self)
        if parent is None and (console or system is not None):
            self._watch = Watch(self._journal, self.id, console=console, every=system)
            self._watch.start()

    def log(self, metrics: Mapping[str, Any] | None = None, /, *, step: int | None = None, **more: Any) -> None:
        """Logs values of metrics, by name: `run.log(loss=0.31, step=4)` or `run.log({"train/loss": 0.31})`.

        A value is a number of any library; NaN and infinities are kept. Without `step` each metric counts by itself: 0, or one
        more than its last step.
        """
        self._check_open()
        given = more if metrics is None else {**metrics, **more}
        moment = now()
        numbers = [(self._key(key), values.number(key, value)) for key, value in given.items()]
        if step is not None:
            at = values.whole(next(iter(given), "step"), step)
            points = [(key, value, at, moment) for key, value in numbers]
            self._steps.update({key: at + 1 for key, _ in numbers})
        else:
            with self._lock:
                points = [(key, value, self._steps[key], moment) for key, value in numbers]
                self._steps.update({key: last + 1 for key, _, last, _ in points})
        if len(points) == 1:
            key, value, at, _ = points[0]
            self._journal.point(self.id, key, value, at, moment)
        else:
            self._journal.points(self.id, points)

    def params(self, params: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Sets params: JSON values; scalars of other libraries become numbers, anything else its text.

        A param has one value for good. The same again is fine; another raises `Conflict` (code "param-set").
        """
        self._check_open()
        given = values.params({**(params or {}), **more})
        with self._lock:
            for key, (value, text) in given.items():
                if key in self._params and self._params[key][1] != text:
                    raise Conflict(
                        f"The param {key!r} of {self.ref} is {self._params[key][0]!r} already, and not {value!r}.",
                        code="param-set",
                        hint="Where it was wrong, `run.correct({...}, reason)` changes it; for another try, begin another run.",
                    )
            fresh = {key: value for key, (value, _) in given.items() if key not in self._params}
            if fresh:
                self._journal.record("params", self.id, params=fresh)
                self._params.update(given)

    def correct(self, params: Mapping[str, Any], reason: str) -> None:
        """Changes params that were set wrongly. What stood there stays on record, with the reason."""
        self._check_open()
        given = values.params(params)
        if not check_text(reason, "The reason").strip():
            raise Invalid("A correction needs a reason.", code="bad-arguments", hint="Say why the value was wrong.")
        with self._lock:
            self._journal.record(
                "params",
                self.id,
                params={key: value for key, (value, _) in given.items()},
                reason=reason,
            )
            self._params.update(given)

    def tag(self, tags: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Sets or replaces tags; None removes one."""
        self._check_open()
        if given := values.tags({**(tags or {}), **more}):
            self._journal.record("tags", self.id, tags=given)

    def note(self, text: str) -> None:
        """Sets what people say of the run (Markdown), in place of what was there."""
        self._check_open()
        self._journal.record("note", self.id, text=text)

    def input(self, *refs: str) -> None:
        """Adds refs that the run reads, such as "data:visits@7"."""
        self._link("inputs", refs)

    def output(self, *refs: str) -> None:
        """Adds refs that the run made, such as "model:readmission@3"."""
        self._link("outputs", refs)

    def artifact(self, path: str | Path, name: str | Path | None = None) -> None:
        """Keeps a copy of a file as it is now, under `name` (else its own); of a folder, all its files below that name.

        What is not for others to see (`client/files.py`) is left out of a folder, with a warning that names it. Raises `Invalid`
        (code "private-file") where `path` is such a thing itself, and `NotFound` (code "no-file") where there is none.
        """
        self._check_open()
        found = chosen(path, name, self._logbook.place.workspace)
        if found.left_out:
            warnings.warn(f"The artifact {str(path)!r}: {found.told()}.", RuntimeWarning, stacklevel=2)
        for file, kept in found.files:
            self._keep(file, kept)

    def keep(self, name: str, content: bytes) -> None:
        """Keeps some bytes as an artifact."""
        self._check_open()
        check_path(name)
        with tempfile.TemporaryDirectory(prefix="loopline-") as folder:
            file = Path(folder, "content")
            file.write_bytes(content)
            self._keep(file, name)

    def seed(self, seed: int) -> None:
        """Seeds `random`, and numpy and torch where they are imported, and sets the param `seed`."""
        self.params(seed=seed)
        random.seed(seed)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(seed % 2**32)
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)

    def child(
        self,
        name: str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        inputs: tuple[str, ...] = (),
        group: str | None = None,
    ) -> Run:
        """A run within this one that has begun, such as one fold: `with run.child("fold 1") as fold: ...`."""
        self._check_open()
        where = self._logbook.place
        return Run(
            name or self.name, where, params=params or {}, tags=tags or {}, inputs=inputs, group=group, parent=self
        )  # fmt: skip

    def finish(self, status: Ending = "finished", message: str | BaseException = "") -> None:
        """Ends the run. The outermost one sends what was logged, or leaves it in the journal with a hint.

        `message` is a text or an exception. Once it has ended it does nothing, and in a forked process neither: the run is that
        of the process which began it.
        """
        message = said(message) if isinstance(message, BaseException) else message
        message = message[:_LONGEST_MESSAGE] if isinstance(message, str) else message
        entry_text("finish", {"status": status, "message": message, "ended": 0})  # raises before anything has ended
        with self._lock:
            if self.ended or self._process != os.getpid():
                return
            self.ended = True
        over(self)
        if self._watch is not None:
            self._watch.stop()
        try:
            self._journal.record("finish", self.id, status=status, message=message, ended=now())
        except (LooplineError, OSError) as e:  # what happens at the end of a training is no failure of it
            self._logbook.unended = True
            warnings.warn(f"That {self.ref} is {status} could not be written: {e}", RuntimeWarning, stacklevel=2)
        self._logbook.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*ending(error))

    def __repr__(self) -> str:
        return f"<{self.ref} {self.name!r}{', ended' if self.ended else ''}>"

    def _keep(self, file: Path, name: str) -> None:
        digest, size = self._journal.keep_file(file)
        self._journal.record("artifact", self.id, path=name, digest=digest, size=size)

    def _link(self, side: str, refs: tuple[str, ...]) -> None:
        self._check_open()
        if named := [self._named(ref, self._logbook.place.project) for ref in refs]:
            self._journal.record("link", self.id, **{side: named})

    @staticmethod
    def _named(ref: str, project: str) -> str:
        return str(parse(ref, project=project))

    def _key(self, key: Any) -> str:
        if key not in self._steps:
            if not isinstance(key, str):
                raise Invalid(
                    f"{key!r} cannot be the key of a metric.", code="bad-key", hint="Give a text such as 'loss'."
                )
            self._steps.setdefault(check_key(key, "key of a metric"), 0)
        return str(key)

    def _check_open(self) -> None:
        if self.ended:
            raise Conflict(f"The run {self.id} has ended.", code="run-ended", hint="Begin another one: `ll.run(...)`.")


def _implicit() -> Run:
    """The run of a script that calls `ll.log` without one. The thread that is first begins it for all."""
    with _beginning:
        found = active()
        if found is None:
            found = run()
            for_all(found)
        return found


def _script() -> str:
    name = Path(sys.argv[0] if sys.argv else "").stem
    if "ipykernel" in sys.modules:
        return "notebook"
    return name if name.isprintable() and name.strip("-. ") and name != "-c" else "interactive"


def _code() -> WorkingCopy:
    """The working copy of the script; of a notebook, a prompt or an installed program that of the current folder."""
    script = Path(getattr(sys.modules.get("__main__"), "__file__", None) or "")
    installed = {"site-packages", "dist-packages"} & set(script.parts) or script.parent == Path(sys.executable).parent
    found = working_copy(script.parent) if script.name and not installed else None
    return found if found and found.facts else working_copy(Path.cwd())


_beginning = threading.Lock()


def _forked() -> None:
    global _beginning
    _beginning = threading.Lock()  # the old one may be held by a thread that is not here


os.register_at_fork(after_in_child=_forked)
