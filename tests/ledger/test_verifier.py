"""The stand-alone verifier, run as an outsider runs it: no package of ours, no package of anybody's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from loopline.database import Database
from loopline.ledger import verifier
from loopline.ledger.log import Ledger
from loopline.ledger.service import LedgerService

SOURCE = Path(verifier.__file__)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'loopline.db'}"


class Case:
    """An exported ledger of 124 entries with a key rotation in it, and the folder of copies."""

    def __init__(self, database: Database, ledger: Ledger, folder: Path) -> None:
        for n in range(120):
            with database.begin() as tx:
                ledger.append(tx, operation="runs.start", inputs=["data:v@1"], outputs=[f"run:r{n}"], principal="ä")
                if n == 80:
                    ledger.rotate_key(tx)
        ledger.close(database)
        with database.begin(lazy=True) as tx:
            service = LedgerService(tx, ledger)
            self.data = service.export().read()
            self.proof = msgspec.json.encode(service.prove(seq=57))
        self.export, self.proof_file = folder / "ledger.ndjson", folder / "proof.json"
        self.export.write_bytes(self.data)
        self.proof_file.write_bytes(self.proof)
        (copies,) = ledger.copies.folder.iterdir()
        self.notes = sorted(copies.glob("*.note"))
        self.first_key, self.second_key = (copies / "keys").read_text().split()
        self.program = folder / "verifier.py"
        shutil.copy(SOURCE, self.program)

    def run(self, *arguments: object) -> tuple[int, str]:
        command = [sys.executable, "-I", "-S", str(self.program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def case(database: Database, ledger: Ledger, tmp_path: Path) -> Case:
    return Case(database, ledger, tmp_path)


def test_it_imports_only_the_standard_library() -> None:
    imports = {line.split()[1] for line in SOURCE.read_text().splitlines() if line.startswith(("import ", "from "))}
    assert imports <= set(sys.stdlib_module_names)


def test_a_whole_export_holds_from_the_first_key_and_the_second(case: Case) -> None:
    for key in (case.first_key, case.second_key):
        code, said = case.run(case.export, *case.notes, "--key", key)
        assert (code, said[:15]) == (0, "ok: 122 entries"), said


def test_what_does_not_hold(case: Case, tmp_path: Path) -> None:
    lines = case.data.splitlines(keepends=True)
    broken = {
        "edited": (
            [*lines[:50], lines[50].replace(b"runs.start", b"runs.stoop"), *lines[51:]],
            "something was changed",
        ),
        "dropped": ([*lines[:50], *lines[51:]], "missing, added or swapped"),
        "swapped": ([*lines[:50], lines[51], lines[50], *lines[52:]], "missing, added or swapped"),
        "cut": ([*lines[:110], *(line for line in lines if line.startswith(b'{"key"'))], "are missing"),
    }
    for name, (changed, message) in broken.items():
        path = tmp_path / f"{name}.ndjson"
        path.write_bytes(b"".join(changed))
        code, said = case.run(path, *case.notes, "--key", case.first_key)
        assert (code, message in said) == (1, True), said


def test_a_foreign_key_and_a_forged_note(case: Case) -> None:
    from loopline.ledger import notes

    origin = case.first_key.split("+")[0]
    forger = Ed25519PrivateKey.generate()
    foreign = notes.verifier_key(origin, notes.public_bytes(forger))
    code, said = case.run(case.export, *case.notes, "--key", foreign)
    assert (code, "not among the ledger's keys" in said) == (1, True)
    statement = notes.read(case.notes[0].read_text())
    case.notes[0].write_text(notes.sign(statement.text, origin, forger))
    code, said = case.run(case.export, *case.notes, "--key", case.first_key)
    assert (code, "is not signed by a key that is trusted" in said) == (1, True)


def test_an_inclusion_proof(case: Case, tmp_path: Path) -> None:
    code, said = case.run("--proof", case.proof_file, "--key", case.second_key)
    assert (code, "entry 57 (runs.start) is in the ledger of" in said) == (0, True), said
    proof = json.loads(case.proof)
    for change in (
        {"entry": proof["entry"].replace("run:r56", "run:r99")},
        {"path": proof["path"][:-1]},
        {"path": [*proof["path"], proof["path"][0]]},
        {"seq": 56},
        {"checkpoint": proof["checkpoint"].replace("\n122\n", "\n121\n"), "size": 121},
    ):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(proof | change))
        code, said = case.run("--proof", path, "--key", case.second_key)
        assert (code, said[:3]) == (1, "BAD"), change


def test_what_cannot_be_read(case: Case, tmp_path: Path) -> None:
    assert case.run(tmp_path / "absent", "--key", case.first_key)[0] == 2
    assert case.run("--proof", case.export)[0] == 2
    assert case.run(case.export)[0] == 2
    assert case.run(case.export, "--key", "nonsense")[0] == 1


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.integers(0, 63))
def test_its_ed25519_agrees_with_the_library(message: bytes, seed: bytes, place: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verifier.ed25519_verify(public, message, signature)
    assert not verifier.ed25519_verify(public, message + b"!", signature)
    changed = bytearray(signature)
    changed[place] ^= 1
    assert not verifier.ed25519_verify(public, message, bytes(changed))


def test_its_ed25519_passes_the_vectors_of_rfc_8032() -> None:
    for public, message, signature in (
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ):
        raw = bytes.fromhex(signature)
        assert verifier.ed25519_verify(bytes.fromhex(public), bytes.fromhex(message), raw)
        # s + q is the same number to the equation; RFC 8032 refuses it, else a signature could be altered.
        other = raw[:32] + (int.from_bytes(raw[32:], "little") + verifier.Q).to_bytes(32, "little")
        assert not verifier.ed25519_verify(bytes.fromhex(public), bytes.fromhex(message), other)
