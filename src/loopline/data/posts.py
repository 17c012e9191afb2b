"""One post: what its sender says of the bytes, held against what they are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from loopline.data.readers import ReadTable, read_table
from loopline.data.readers_packed import packed_by
from loopline.errors import Invalid, did_you_mean
from loopline.operations import Body

_MEDIA = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/json": "json",
    "application/x-ndjson": "json",
    "application/ndjson": "json",
    "application/jsonl": "json",
    "application/x-jsonlines": "json",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
    "application/x-parquet": "parquet",
    "application/avro": "avro",
    "application/avro-binary": "avro",
    "application/vnd.apache.avro": "avro",
    "avro/binary": "avro",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "excel",
    "application/vnd.ms-excel": "excel",
}
_UNSAID = (
    "", "application/octet-stream", "text/plain", "application/gzip", "application/x-gzip", "application/zstd",
    "application/x-zstd", "application/x-bzip2", "application/x-xz", "application/zip",
)  # fmt: skip
"""Types that say nothing of the table: its bytes do."""

_PACKED = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}


def check_body(rows: Body) -> None:
    """Raises `Invalid` for a type or a coding that no table comes in."""
    if rows.media not in _MEDIA and rows.media not in _UNSAID:
        raise Invalid(
            f"The body is of type {rows.media[:100]}, and rows are wanted.",
            code="bad-media-type",
            hint=did_you_mean(rows.media, [*_MEDIA, "application/octet-stream"]),
        )
    if rows.encoding not in ("", "identity", *_PACKED):
        raise Invalid(
            f"The body is coded as {rows.encoding[:100]}.",
            code="bad-encoding",
            hint="Content-Encoding is gzip or zstd; leave it out where the body is neither.",
        )


def read_post(rows: Body, path: Path, texts: Collection[str], scratch: Path) -> ReadTable:
    """The table in a post; what is unpacked lies in `scratch`.

    Raises `Invalid` where it is none, or not what its sender says of it.
    """
    said = _MEDIA.get(rows.media)
    name = rows.name if rows.name and rows.name != path.name else "rows"
    name = f"{name[:200]}.{said}" if said in ("csv", "json") and not name.lower().endswith(f".{said}") else name
    if how := _PACKED.get(rows.encoding):
        with path.open("rb") as file:
            if packed_by(file.read(8)) != how:
                raise Invalid(
                    f"The body is not packed, and its Content-Encoding says {rows.encoding}.",
                    code="bad-encoding",
                    hint="Pack it, or leave the header out.",
                )
    read = read_table(path, name=name, as_text=texts, scratch=scratch)
    form = "json" if read.format == "ndjson" else read.format
    if said is not None and form != said:
        raise Invalid(
            f"The body is {read.format}, and its Content-Type says {rows.media}.",
            code="bad-media-type",
            hint="Say what it is, or application/octet-stream.",
        )
    return ReadTable(rows=read.rows, facts=replace(read.facts, source=name))
