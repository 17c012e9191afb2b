"""Signed statements: they hold, a changed one does not, and the key is guarded."""

from __future__ import annotations

import base64
import copy
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopline.errors import Invalid, LooplineError, NotFound, Refused, Unavailable
from loopline.packaging.signing import ModelSigner, encoding

STATEMENT: dict[str, Any] = {"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": "a"}], "n": 1.5}


def test_a_statement_goes_round(tmp_path: Path) -> None:
    signer = ModelSigner(tmp_path / "keys")
    envelope = signer.sign(STATEMENT)
    key, said = signer.verify(envelope)
    assert said == STATEMENT
    assert key == envelope["signatures"][0]["keyid"]
    assert ModelSigner(tmp_path / "keys").verify(envelope) == (key, said), "another program with the same folder"
    assert signer.sign(STATEMENT) == envelope, "Ed25519 is deterministic"


def test_the_encoding_is_dsses_own_example() -> None:
    """The test vector of the specification's protocol.md."""
    assert encoding("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_the_private_key_is_its_owners_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        signer = ModelSigner(tmp_path / "keys")
        signer.sign(STATEMENT)
    finally:
        os.umask(old)
    private = tmp_path / "keys" / "models.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    private.chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        signer.sign(STATEMENT)


def test_a_damaged_key_is_said(tmp_path: Path) -> None:
    signer = ModelSigner(tmp_path / "keys")
    envelope = signer.sign(STATEMENT)
    private = tmp_path / "keys" / "models.pem"
    private.write_bytes(b"x")
    with pytest.raises(Unavailable):
        signer.sign(STATEMENT)
    public = next((tmp_path / "keys").glob("*.pub"))
    foreign = ModelSigner(tmp_path / "foreign")
    foreign.sign(STATEMENT)
    public.write_bytes(next((tmp_path / "foreign").glob("*.pub")).read_bytes())
    with pytest.raises(Invalid):
        signer.verify(envelope)


def test_a_foreign_key_is_not_trusted(tmp_path: Path) -> None:
    signer, foreign = ModelSigner(tmp_path / "a"), ModelSigner(tmp_path / "b")
    signer.sign(STATEMENT)
    with pytest.raises(NotFound):
        signer.verify(foreign.sign(STATEMENT))


def test_two_programs_make_one_key(tmp_path: Path) -> None:
    envelopes: list[dict[str, Any]] = []
    start = threading.Barrier(4)

    def work() -> None:
        signer = ModelSigner(tmp_path / "keys")
        start.wait()
        envelopes.append(signer.sign(STATEMENT))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(envelopes) == 4
    assert len({e["signatures"][0]["keyid"] for e in envelopes}) == 1
    assert sorted(p.suffix for p in (tmp_path / "keys").iterdir()) == [".pem", ".pub"]


@given(where=st.integers(0, 10_000), bit=st.integers(0, 7), what=st.sampled_from(["payload", "sig"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_flipped_bit_is_found(tmp_path: Path, where: int, bit: int, what: str) -> None:
    signer = ModelSigner(tmp_path / "keys")
    envelope = copy.deepcopy(signer.sign(STATEMENT))
    place = envelope if what == "payload" else envelope["signatures"][0]
    data = bytearray(base64.b64decode(place[what]))
    data[where % len(data)] ^= 1 << bit
    place[what] = base64.b64encode(bytes(data)).decode()
    with pytest.raises(Invalid):
        signer.verify(envelope)


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"payloadType": "x", "payload": "", "signatures": []},
        {"payloadType": "application/json", "payload": "e30=", "signatures": [{"keyid": "0" * 16, "sig": ""}]},
        {"payloadType": "application/vnd.in-toto+json", "payload": "!", "signatures": [{"keyid": "a", "sig": ""}]},
        {
            "payloadType": "application/vnd.in-toto+json",
            "payload": "e30=",
            "signatures": [{"keyid": "../../x", "sig": ""}],
        },
        {"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": [{"keyid": None, "sig": ""}]},
        {"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": None},
    ],
)
def test_what_is_no_envelope_is_refused(tmp_path: Path, envelope: dict[str, Any]) -> None:
    signer = ModelSigner(tmp_path / "keys")
    signer.sign(STATEMENT)
    with pytest.raises(LooplineError):
        signer.verify(envelope)
