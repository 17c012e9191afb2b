"""The objects of a bucket as a source of rows: one of them, those under a prefix, or those of a pattern.

Access is that of the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`,
`AWS_ENDPOINT_URL`, or the role of the machine), or by options. A call that fails is tried again, each time later.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from loopline.adapters.s3.taken import Taken, Written
from loopline.errors import Conflict, Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.hashing import digest_chunks
from loopline.ports.source import Piece, Position

_UNFINISHED = (".tmp", ".part")
_GLOB = re.compile(r"[*?\[]")
_PAGE = 1000  # objects of an answer to a listing: S3 gives no more
_CHUNK = 8 << 20
_RETRY = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_CLIENT = {"allow_http": True, "connect_timeout": "10s", "read_timeout": "60s", "timeout": "1d"}


class S3Source:
    """Objects by their addresses: `s3://bucket/key`, `s3://bucket/prefix/` or `s3://bucket/a/*.csv` (`**` goes down).

    One object is a whole table. A prefix and a pattern grow: each object is taken once, in the order in which they were written;
    `whole=True` takes all anew whenever one changed. Empty objects are not looked at, nor are names that begin with a dot or an
    underscore or end in .tmp or .part: programs write there. `scratch` is a folder for one object at a time. Raises `Invalid` for
    an address that names no bucket, `MissingExtra` where obstore is not installed.
    """

    def __init__(
        self, addresses: Sequence[str], scratch: Path, *, name: str = "", whole: bool = False, **access: str
    ) -> None:
        try:
            import obstore.store
        except ImportError as e:
            raise MissingExtra("Reading from S3 needs obstore.", extra="s3") from e
        self._name = name or addresses[0]
        self._places = [_Place(address) for address in addresses]
        self._whole = whole or all(place.one for place in self._places)
        self._scratch = scratch
        self._stores: dict[str, Any] = {}
        for bucket in {place.bucket for place in self._places}:
            try:
                self._stores[bucket] = obstore.store.S3Store(
                    bucket,
                    config={"virtual_hosted_style_request": "false", **access},  # type: ignore[arg-type]
                    client_options=_CLIENT,  # type: ignore[arg-type]
                    retry_config=_RETRY,  # type: ignore[arg-type]
                )
            except Exception as e:
                raise Invalid(
                    f"{self._name} cannot be opened as it is configured.",
                    code="bad-option",
                    hint="Look at the endpoint and at the region.",
                ) from e

    @property
    def name(self) -> str:
        """The address as it was given."""
        return self._name

    @property
    def grows(self) -> bool:
        """Whether later objects go behind; of one object never."""
        return not self._whole

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """A piece an object.

        Raises `Conflict` (code "source-changed") where one that was taken has changed since, `NotFound` where there is none, or
        where one goes while it is read, `Refused` where access is denied, `Unavailable` where the store does not answer.
        """
        there = self._there()
        if self._whole:
            yield from self._all(sorted(there, key=lambda one: one.address), after)
            return
        taken = Taken.of(after)
        new = taken.new(there, self._name)
        if not new and not taken.recent:
            raise self._nothing()
        for one in new:
            with self._fetched(one) as file:
                taken.take(one)
                yield Piece(name=one.address, position=taken.position(), file=file)

    def done(self, position: Position) -> None:
        """Nothing: objects stay as they are."""

    def close(self) -> None:
        """Nothing: connections are the store's own, and end with it."""

    def _all(self, there: list[Written], after: Position | None) -> Iterator[Piece]:
        if not there:
            raise self._nothing()
        state = digest_chunks(f"{one.address}\0{one.tag}\0".encode() for one in there)
        if after == {"all": state}:
            return
        for number, one in enumerate(there, 1):
            with self._fetched(one) as file:
                position = {"all": state} if number == len(there) else {"all": state, "of": number}
                yield Piece(name=one.address, position=position, file=file)

    def _there(self) -> Iterator[Written]:
        """The objects of all addresses, page by page."""
        for place in self._places:
            store = self._stores[place.bucket]
            try:
                if place.one:
                    found: Iterator[Sequence[Any]] = iter([[store.head(place.key)]])
                else:
                    found = store.list(place.folder or None, chunk_size=_PAGE)
                for page in found:
                    for meta in page:
                        if "/_delta_log/" in f"/{meta['path']}" and not place.one:
                            raise _delta(self._name, f"s3://{place.bucket}/{meta['path'].partition('_delta_log')[0]}")
                        if place.meant(meta["path"], meta["size"]):
                            time = int(meta["last_modified"].timestamp() * 1000)
                            tag = meta["e_tag"] or f"{time}, {meta['size']} bytes"
                            yield Written(time, f"s3://{place.bucket}/{meta['path']}", tag, meta["size"])
            except LooplineError:
                raise
            except Exception as e:
                if place.one and isinstance(e, FileNotFoundError):
                    raise self._nothing() from e
                raise _failed(e, self._name) from e

    @contextlib.contextmanager
    def _fetched(self, one: Written) -> Iterator[Path]:
        """An object as a file, as long as the block runs."""
        bucket, _, key = one.address.removeprefix("s3://").partition("/")
        suffixes = "".join(s for s in Path(key).suffixes[-2:] if re.fullmatch(r"\.\w{1,10}", s))
        with tempfile.TemporaryDirectory(prefix="object-", dir=self._scratch) as folder:
            file = Path(folder) / f"object{suffixes}"
            try:
                self._fetch(self._stores[bucket], key, one, file)
            except LooplineError:
                raise
            except Exception as e:
                raise _failed(e, one.address) from e
            yield file

    def _fetch(self, store: Any, key: str, one: Written, file: Path) -> None:
        answer = store.get(key, options={"if_match": one.tag} if one.tag.startswith('"') else {})
        with file.open("wb") as written:
            for chunk in answer.stream(min_chunk_size=_CHUNK):
                written.write(chunk)
                if written.tell() > one.size:
                    break  # it may have no end
            if written.tell() != one.size:
                raise Unavailable(
                    f"{one.address} came with another size than the {one.size:,} bytes that it is listed with.",
                    code="source-away",
                    hint="Run it again; where it stays so, look at the store.",
                )

    def _nothing(self) -> NotFound:
        only = self._places[0]
        hint = "Names that begin with . or _ and that end in .tmp or .part are not looked at, nor are empty objects."
        if only.one:
            hint = f"Objects under a prefix are meant by a slash at its end: {only.address}/"
        return NotFound(f"There is no object in {self._name}.", code="no-object", hint=hint)


class _Place:
    """What an address means."""

    def __init__(self, address: str) -> None:
        self.address = address
        bucket, _, key = address.partition("://")[2].partition("/")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", bucket):
            raise Invalid(
                f"{address.partition('@')[2] or address} names no bucket.",
                code="bad-source",
                hint="For example s3://bucket/prefix/; access is by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            )
        self.bucket, self.key = bucket, key
        wild = _GLOB.search(key)
        self.one = bool(key) and not wild and not key.endswith("/")
        fixed = key[: wild.start()] if wild else key
        self.folder = fixed[: fixed.rfind("/") + 1].rstrip("/")
        try:
            self._pattern = re.compile(_pattern(key)) if wild else None
        except re.error as e:
            raise Invalid(f"{address} is no pattern: {e}.", code="bad-source", hint="[abc] and [a-z] are sets.") from e

    def meant(self, key: str, size: int) -> bool:
        """Whether an object is one of rows, and one of those that are named."""
        if self.one:
            return True
        below = key[len(self.folder) + 1 :] if self.folder else key
        names = below.split("/")
        if not size or any(name.startswith((".", "_")) for name in names):  # empty ones stand for folders
            return False
        return not key.endswith(_UNFINISHED) and (self._pattern is None or self._pattern.fullmatch(key) is not None)


def _pattern(key: str) -> str:
    """A pattern of paths as a regular expression: `*` and `?` stay within a folder, `**/` goes down through any number.

    One that ends in a slash means all below.
    """
    made, at = "", 0
    while at < len(key):
        if key.startswith("**/", at):
            made, at = made + "(?:.*/)?", at + 3
        elif key.startswith("**", at):
            made, at = made + ".*", at + 2
        elif key[at] == "[" and (end := key.find("]", at + 2)) > 0:
            inside = key[at + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            made, at = made + f"[{'^' + inside[1:] if inside[0] == '!' else inside}]", end + 1
        else:
            made, at = made + {"*": "[^/]*", "?": "[^/]"}.get(key[at], re.escape(key[at])), at + 1
    return made + (".*" if key.endswith("/") else "")


def _delta(name: str, table: str) -> Invalid:
    return Invalid(
        f"{name} holds a Delta table: not each of its files is of its newest version.",
        code="source-kind",
        hint=f"Collect it as what it is: delta+{table.rstrip('/')}",
    )


def _failed(error: Exception, name: str) -> LooplineError:
    """What a failure of the store means. What the store says is told by its code alone: its texts hold parts of the request."""
    said = str(error)
    codes = re.findall(r"<Code>(\w+)</Code>", said)
    status = re.findall(r"status code: (\d+)", said)
    code = codes[0] if codes else status[0] if status else ""
    if "/latest/" in said or "credential" in said.lower():  # it was not said who asks, and the machine has no role
        code = "AccessDenied"
    if isinstance(error, FileNotFoundError) or code in ("NoSuchKey",):
        return NotFound(
            f"{name} went while it was being read.",
            code="source-gone",
            hint="Run it again: it takes what is there now.",
        )
    if type(error).__name__ == "PreconditionError":
        return Conflict(
            f"{name} was written anew while it was being read.",
            code="source-changed",
            hint="Run it again: it takes what is there now.",
        )
    if code == "NoSuchBucket":
        return NotFound(f"There is no bucket for {name}.", code="no-object", hint="Look at its name and the endpoint.")
    if code in ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "401", "403") or type(
        error
    ).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        return Refused(
            f"The store lets nobody read {name} so ({code or 'denied'}).",
            code="foreign-refusal",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or the options of the same meaning.",
        )
    if isinstance(error, OSError) and error.errno is not None:  # the disk's own: full, read-only
        return Unavailable(
            f"{name} cannot be written down: {error.strerror}.", code="disk-full", hint="Free some space."
        )
    return Unavailable(
        f"{name} cannot be read{f' ({code})' if code else ''}: the store does not answer as it should.",
        code="source-away",
        hint="It was tried five times. Look at the endpoint (AWS_ENDPOINT_URL), then run it again.",
    )
