"""How much memory a table takes on its way into a version: no more for a large file than for a small one."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import fastavro
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

_ADD = """
import sys
from pathlib import Path
from loopline.app import Platform
from loopline.operations import Body

import loopline as ll
import msgspec

rules = ll.contract(ll.column("n0").between(-1e9, 500), ll.column("word").not_null(), ll.column("code").matches("P[0-9]+"))
folder, file = Path(sys.argv[1]), Path(sys.argv[2])
platform = Platform.open(workspace=folder / "workspace", checkpoints=str(folder / "copies"))
made = platform.session().datasets.add("big", Body(file), contract=msgspec.to_builtins(rules))
platform.close()
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(made.rows, made.quarantined, int(peak.split()[1]) >> 10)
"""

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's peak is read from /proc")

SCHEMA = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "code", "type": "string"},
        {"name": "word", "type": "string"},
        *({"name": f"n{i}", "type": "double"} for i in range(10)),
        {"name": "at", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
    ],
}
"""Of the rows of `block`, as Avro."""


def block(rows: int, first: int, columns: int) -> pl.DataFrame:
    """Rows of identifiers, numbers, times and texts."""
    rng = np.random.default_rng(first)
    numbers = {f"n{i}": np.round(rng.normal(50, 100, rows), i % 4) for i in range(columns)}
    at = pl.datetime(2026, 1, 1) + pl.duration(seconds=pl.Series(rng.integers(0, 10**7, rows)))
    return pl.DataFrame(
        {
            "id": np.arange(first, first + rows),
            "code": [f"P{n:09}" for n in rng.integers(0, 10**9, rows)],
            "word": rng.choice(["fine", "so, so", 'he said "no"'], rows),
            **numbers,
        }
    ).with_columns(at=at.dt.strftime("%Y-%m-%dT%H:%M:%S"))


def write(path: Path, size: int, columns: int = 10) -> int:
    """A CSV file of about so many bytes; gives how many rows it has."""
    rows = 0
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(block(100_000, rows, columns).write_csv(include_header=not rows).encode())
            rows += 100_000
    return rows


def added(folder: Path, file: Path) -> tuple[int, int, int]:
    """Rows taken, rows held back, and the peak in MiB of a process that adds a file."""
    folder.mkdir()
    env = {**os.environ, "POLARS_MAX_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", _ADD, str(folder), str(file)], check=True, capture_output=True, text=True, env=env
    )
    good, held, peak = map(int, done.stdout.split())
    return good, held, peak


@linux
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    rows = write(small, 60 << 20), write(large, 120 << 20)
    found = added(tmp_path / "a", small), added(tmp_path / "b", large)
    assert [good + held for good, held, _ in found] == list(rows)
    assert all(held for _, held, _ in found)
    assert found[1][2] < found[0][2] + 100, "60 MiB more of text took 350 MiB more when tables were read whole"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, int]:
    """A CSV file, its rows, and the peak of adding it."""
    folder = tmp_path_factory.mktemp("plain")
    rows = write(folder / "plain.csv", 50 << 20)
    good, held, peak = added(folder / "a", folder / "plain.csv")
    assert good + held == rows
    return folder / "plain.csv", rows, peak


@linux
@pytest.mark.parametrize(
    "how",
    [
        "gzip",
        "zstd",
        "parquet",
        "ndjson.gz",
        "avro",
        "arrow in one batch",
        "arrow stream.zst",
        "latin-1",
        "utf-16",
        "array",
    ],
)
def test_nor_with_a_packed_one(tmp_path: Path, plain: tuple[Path, int, int], how: str) -> None:
    file, rows, peak = plain
    written = tmp_path / f"t.{'json' if how == 'array' else how.split()[0]}"
    again_as(how, file, written)
    good, held, found = added(tmp_path / "a", written)
    assert good + held == rows
    assert found < peak + 150, "50 MiB of text took 290 MiB more when tables were read whole"


def again_as(how: str, file: Path, written: Path) -> None:
    """The table of a CSV file, as another one."""
    packed = how.removesuffix(".gz").removesuffix(".zst") != how
    match how.removesuffix(".gz").removesuffix(".zst"):
        case "gzip":
            written.write_bytes(gzip.compress(file.read_bytes(), 1))
        case "zstd":
            written.write_bytes(pa.Codec("zstd").compress(file.read_bytes(), asbytes=True))
        case "parquet":
            table(file).write_parquet(written, row_group_size=50_000)
        case "ndjson":
            written.write_bytes(table(file).write_ndjson().encode())
        case "latin-1" | "utf-16" as encoding:
            written.write_text(file.read_text().replace("fine", "fêted"), encoding=encoding)
        case "array":
            written.write_bytes(b"[" + table(file).write_ndjson().encode().strip().replace(b"\n", b",") + b"]")
        case "avro":
            frame = table(file)
            with written.open("wb") as out:
                fastavro.writer(out, SCHEMA, frame.iter_rows(named=True), codec="deflate", sync_interval=64_000)
        case "arrow in one batch":
            table(file).rechunk().write_ipc(written, record_batch_size=10**9)
        case "arrow stream":
            frame = table(file)
            with pa.ipc.new_stream(written, frame.to_arrow().schema) as out:
                out.write_table(frame.to_arrow(), max_chunksize=50_000)
    if packed:
        content = written.read_bytes()
        zstd = how.endswith(".zst")
        written.write_bytes(pa.Codec("zstd").compress(content, asbytes=True) if zstd else gzip.compress(content, 1))


def table(file: Path) -> pl.DataFrame:
    return pl.read_csv(file, try_parse_dates=True)


@linux
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["plain", "latin-1", "array"])
def test_three_gigabytes_take_less_than_one_of_memory(tmp_path: Path, how: str) -> None:
    file = tmp_path / ("big.json" if how == "array" else "big.csv")
    rows = 0
    with file.open("wb") as out:
        while out.tell() < 3 << 30:
            some = block(100_000, rows, 16)
            if how == "array":
                out.write((b"," if rows else b"[") + some.write_ndjson().encode().strip().replace(b"\n", b", "))
            else:
                text = some.write_csv(include_header=not rows)
                out.write(text.replace("fine", "fêted").encode("latin-1") if how == "latin-1" else text.encode())
            rows += 100_000
        out.write(b"]" if how == "array" else b"")
    good, held, peak = added(tmp_path / "a", file)
    assert good + held == rows
    assert peak < 1024
