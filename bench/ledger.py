"""The ledger's numbers: bytes an entry (limit 250, SQLite with index and tree), verify rate (limit 100,000 entries/s), the cost
of an append against a bare synced SQLite commit, lineage over many entries (limit 1 s).

    python bench/ledger.py [entries]
"""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from loopline.database import Database
from loopline.hashing import digest_bytes
from loopline.ledger import verifier
from loopline.ledger.lineage import lineage
from loopline.ledger.log import Ledger
from loopline.ledger.reading import export, prove
from loopline.ledger.verify import verify
from loopline.ports.clock import SystemClock


def mix(n: int) -> dict[str, object]:
    """The entries of a busy platform: per run a start and an end, a metric segment, now and then data, a model, a rollout."""
    run, digest = f"run:01J9{n:022d}", digest_bytes(str(n).encode())
    kind = n % 20
    if kind < 8:
        return {"operation": "runs.start", "inputs": [f"data:visits@{n // 500 + 1}"], "outputs": [run]}
    if kind < 12:
        return {"operation": "runs.finish", "inputs": [run], "outputs": [run], "digests": {"metrics": digest}}
    if kind < 15:
        return {
            "operation": "predictions.segment",
            "record": "digest",
            "inputs": ["endpoint:readmission"],
            "digests": {"root": digest.replace("blake3", "sha256")},
            "count": 4096,
        }
    if kind == 15:
        version = n // 500 + 2
        return {
            "operation": "data.add",
            "inputs": [f"data:visits@{version - 1}"],
            "outputs": [f"data:visits@{version}"],
            "digests": {"table": digest, "file": digest},
        }
    if kind == 16:
        return {
            "operation": "models.register",
            "inputs": [run, f"data:visits@{n // 500 + 1}"],
            "outputs": [f"model:readmission@{n}"],
            "digests": {"manifest": digest},
        }
    if kind == 17:
        return {"operation": "models.promote", "record": "denied"}
    return {"operation": "rollouts.advance", "inputs": [f"model:readmission@{n}"], "outputs": [f"rollout:r{n}"]}


def main() -> None:
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(f"sqlite:///{folder / 'ledger.db'}", SystemClock())
        database.create()
        ledger = Ledger(folder / "keys", folder / "outside")
        ledger.create(database)
        empty = size(database)
        began = time.perf_counter()
        for at in range(0, entries, 1000):
            with database.begin(principal="alice") as tx:
                for n in range(at, min(at + 1000, entries)):
                    ledger.append(tx, principal="alice", **mix(n))  # type: ignore[arg-type]
        took = time.perf_counter() - began
        print(f"append, 1,000 a transaction: {entries / took:,.0f} entries/s")
        each = (size(database) - empty) / entries
        print(f"bytes an entry: {each:.0f} ({each / 250:.2f} of the limit of 250)")
        rates, by_cpu = [], []
        for _ in range(5):
            began, cpu = time.perf_counter(), time.process_time()
            found = verify(database, ledger.copies)
            rates.append(found.size / (time.perf_counter() - began))
            by_cpu.append(found.size / (time.process_time() - cpu))
            assert found.ok, found.findings
        rate, cpu_rate = statistics.median(rates), statistics.median(by_cpu)
        print(
            f"verify: {rate:,.0f} entries/s ({rate / 100_000:.2f} of the limit of 100,000); {cpu_rate:,.0f} by CPU time"
        )
        with database.begin(lazy=True) as tx:
            last = entries - entries % 20 - 4
            for direction, ref in (("back", f"model:readmission@{last}"), ("forward", "data:visits@1")):
                began = time.perf_counter()
                edges = len(lineage(tx, ref, direction).edges)  # type: ignore[arg-type]
                print(f"lineage {direction}: {edges} edges in {time.perf_counter() - began:.3f} s (limit 1 s)")
            began = time.perf_counter()
            prove(tx, entries // 3)
            print(f"an inclusion proof: {(time.perf_counter() - began) * 1000:.1f} ms")
            (folder / "export").write_bytes(export(tx))
            (keys,) = folder.glob("outside/*/keys")
        began = time.perf_counter()
        command = [sys.executable, "-I", verifier.__file__, folder / "export", "--key", keys.read_text().split()[0]]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"stand-alone verifier: {entries / (time.perf_counter() - began):,.0f} entries/s")
        ours, bare = durable(database, ledger), plain(folder / "bare.db")
        print(
            f"a transaction with its entry: {ours:.2f} ms, a bare synced commit {bare:.2f} ms (ratio {ours / bare:.1f})"
        )
        database.close()


def size(database: Database) -> int:
    """Bytes of the database's pages in use."""
    with database.snapshot() as connection:
        read = connection.exec_driver_sql
        pages = read("PRAGMA page_count").scalar_one() - read("PRAGMA freelist_count").scalar_one()
        return int(pages * read("PRAGMA page_size").scalar_one())


def durable(database: Database, ledger: Ledger) -> float:
    """Median milliseconds of a transaction of one entry."""
    times = []
    for n in range(300):
        began = time.perf_counter()
        with database.begin(principal="alice") as tx:
            ledger.append(tx, principal="alice", **mix(n))  # type: ignore[arg-type]
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def plain(path: Path) -> float:
    """Median milliseconds of a bare insert of the same size with SQLite's own module, synced."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE t (seq INTEGER PRIMARY KEY, body TEXT)")
    times = []
    for n in range(300):
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 150))
        connection.execute("COMMIT")
        times.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
