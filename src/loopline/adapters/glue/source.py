"""A table of the Glue Data Catalog as a source of rows: its columns and partitions by the catalog, its files where they lie in S3.

Each partition that is registered is read, and each file of it once; what lies beside them is not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa

from loopline.adapters.glue import formats
from loopline.adapters.glue.types import arrow_type, of_text
from loopline.errors import Invalid, LooplineError, MissingExtra, NotFound, Refused, Unavailable
from loopline.ports.source import Piece, Position, Source

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_DENIED = {
    "AccessDeniedException", "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException",
    "InvalidClientTokenId", "SignatureDoesNotMatch", "NoCredentialsError", "PartialCredentialsError",
}  # fmt: skip


class _Part(NamedTuple):
    """A partition, or all of a table that has none: where it lies, its values, and how its files are read."""

    location: str
    values: tuple[str, ...]
    descriptor: dict[str, Any]


class GlueSource:
    """A table by its address: `glue://database/table`. `objects` gives the source of what lies below addresses in S3.

    It grows: new files, and new partitions, go behind; where `objects` takes all anew, so does it. Access is that of `s3://`;
    `catalog` is the address of another catalog that speaks Glue's protocol. Raises `Invalid` for an address that names no table,
    `MissingExtra` where boto3 is not installed.
    """

    def __init__(
        self,
        address: str,
        objects: Callable[[Sequence[str]], Source],
        *,
        whole: bool = False,
        catalog: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
    ) -> None:
        found = re.fullmatch(r"glue://([^/@:]+)/([^/]+)/?", address)
        if found is None:
            raise Invalid(
                f"{address.rpartition('@')[2]} names no table of a catalog.",
                code="bad-source",
                hint="For example glue://database/table.",
            )
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as e:
            raise MissingExtra("Reading from AWS Glue needs boto3.", extra="aws") from e
        self._name = address
        self._database, self._table = found[1], found[2]
        self._objects = objects
        self._whole = whole
        try:
            self._client: Any = boto3.client(
                "glue",
                endpoint_url=catalog,
                region_name=region or os.environ.get("AWS_REGION"),  # boto3 itself knows AWS_DEFAULT_REGION alone
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                aws_session_token=session_token,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 5}, connect_timeout=10, read_timeout=60
                ),
            )
        except (BotoCoreError, ValueError) as e:
            raise Invalid(
                f"{address} cannot be opened as it is configured: {e}",
                code="bad-option",
                hint="Set AWS_REGION, or --option region=.",
            ) from e

    @property
    def name(self) -> str:
        """The address as it was given."""
        return self._name

    @property
    def grows(self) -> bool:
        """Whether later files and partitions go behind."""
        return not self._whole

    @property
    def once(self) -> bool:
        """Never: it stays where it is."""
        return False

    def read(self, after: Position | None) -> Iterator[Piece]:
        """A piece a file, with the columns of the catalog and those of its partition.

        Raises `NotFound` where there is no such table or nothing in it, `Invalid` where a file disagrees with the catalog or the
        table is of a kind that is not read; `Refused`, `Unavailable` and `Conflict` as the source of S3 does.
        """
        table = self._asked(lambda: self._client.get_table(DatabaseName=self._database, Name=self._table))["Table"]
        self._check(table)
        keys = table.get("PartitionKeys") or []
        own, beside = self._schema(table["StorageDescriptor"]["Columns"]), self._schema(keys)
        parts = sorted(self._parts(table, bool(keys)), key=lambda part: part.location, reverse=True)
        if not parts:
            raise NotFound(
                f"{self._name} has no partition yet.",
                code="no-object",
                hint="Register them: a crawler does, or MSCK REPAIR TABLE.",
            )
        source = self._objects([re.sub(r"([*?\[])", r"[\1]", part.location) for part in parts])  # they are no patterns
        try:
            for piece in source.read(after):
                assert piece.file is not None
                part = next(part for part in parts if piece.name.startswith(part.location))  # the innermost
                how = part.descriptor.get("SerdeInfo", {})
                taken = formats.read(
                    piece.file,
                    piece.name,
                    self._format(part.descriptor),
                    own,
                    how.get("Parameters") or {},
                    table.get("Parameters") or {},
                )
                rows = self._with(taken.rows, beside, part)
                yield Piece(name=piece.name, position=piece.position, rows=rows, refused=taken.refused)
        finally:
            source.close()

    def done(self, position: Position) -> None:
        """Nothing: the files are the table's own."""

    def close(self) -> None:
        """Gives back the connection to the catalog."""
        self._client.close()

    def _parts(self, table: dict[str, Any], partitioned: bool) -> Iterator[_Part]:
        if not partitioned:
            yield _Part(self._place(table["StorageDescriptor"]), (), table["StorageDescriptor"])
            return
        pages = self._client.get_paginator("get_partitions").paginate(
            DatabaseName=self._database, TableName=self._table
        )
        for page in self._asked(lambda: list(pages)):
            for one in page["Partitions"]:
                yield _Part(self._place(one["StorageDescriptor"]), tuple(one["Values"]), one["StorageDescriptor"])

    def _place(self, descriptor: dict[str, Any]) -> str:
        location = re.sub(r"^s3[an]://", "s3://", descriptor.get("Location", ""))
        if not location.startswith("s3://"):
            raise Invalid(
                f"{self._name} lies at {location or 'no place'}, which is not in S3.",
                code="source-kind",
                hint="Collect it from where it lies.",
            )
        return location.rstrip("/") + "/"

    def _check(self, table: dict[str, Any]) -> None:
        """Raises `Invalid` (code "source-kind") for a view, and for a table whose files alone do not say which rows it has."""
        said = {**(table.get("Parameters") or {})}
        kind = said.get("table_type") or said.get("spark.sql.sources.provider") or ""
        place = table.get("StorageDescriptor", {}).get("Location", "")
        if table.get("TableType") == "VIRTUAL_VIEW":
            kind, hint = "view", "Collect the tables that it reads."
        elif kind.lower() == "delta":
            hint = f"Collect it as the Delta table that it is: delta+{place}"
        elif kind.lower() in ("iceberg", "hudi"):
            hint = "Let its owner write it out as Parquet files."
        else:
            self._format(table["StorageDescriptor"])
            return
        raise Invalid(f"{self._name} is a {kind} table, which is not read by its files.", code="source-kind", hint=hint)

    def _format(self, descriptor: dict[str, Any]) -> str:
        library = descriptor.get("SerdeInfo", {}).get("SerializationLibrary", "")
        found = formats.serde(library)
        if not found:
            raise Invalid(
                f"{self._name} is read by {library or 'no serde'}, which is not known here.",
                code="source-kind",
                hint="Tables of Parquet, CSV and JSON are read.",
            )
        return found

    def _schema(self, columns: Sequence[dict[str, str]]) -> pa.Schema:
        fields = []
        for column in columns:
            try:
                fields.append((column["Name"].lower(), arrow_type(column.get("Type", "string"))))
            except ValueError as e:
                raise Invalid(
                    f"Column {column['Name']!r} of {self._name} cannot be read: {e}.",
                    code="source-schema",
                    hint="Mend the table's entry in the catalog.",
                ) from e
        return pa.schema(fields)

    def _with(self, rows: pa.Table, beside: pa.Schema, part: _Part) -> pa.Table:
        """The rows with the values of their partition as columns."""
        for field, text in zip(beside, part.values, strict=True):
            value = None if text == _NO_VALUE else of_text(pl.Series([text]), field.type)[0]
            if value is None and text != _NO_VALUE:
                raise Invalid(
                    f"The partition {part.location} of {self._name} has {text!r}, which is no {field.type}.",
                    code="source-schema",
                    hint="Mend the table's entry in the catalog.",
                )
            rows = rows.append_column(field, pa.repeat(pa.scalar(value, field.type), rows.num_rows))
        return rows

    def _asked(self, call: Callable[[], Any]) -> Any:
        """What the catalog answers; its failures as those of the family."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return call()
        except (ClientError, BotoCoreError) as e:
            raise self._failed(e) from e

    def _failed(self, error: Any) -> LooplineError:
        code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        if code == "EntityNotFoundException":
            return NotFound(
                f"There is no table {self._name} in the catalog.",
                code="no-object",
                hint="Look at the names of database and table, and at the region.",
            )
        if code in _DENIED:
            return Refused(
                f"The catalog lets nobody read {self._name} so ({code}).",
                code="foreign-refusal",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), or the options of the same meaning.",
            )
        return Unavailable(
            f"The catalog of {self._name} does not answer as it should ({code}).",
            code="source-away",
            hint="Look at the region and the endpoint (AWS_ENDPOINT_URL_GLUE), then run it again.",
        )
