"""HTTPS by the workers: with a certificate that is made here, asked by curl and by Python as strict clients."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from loopline.errors import Conflict, Invalid
from loopline.serving.supervisor import Supervisor
from loopline.serving.tls import check_pair, make_certificate

from .conftest import EXAMPLE, live, table

Serve = Callable[..., Supervisor]
Bundle = Callable[..., Path]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    certificate, key = make_certificate(tmp_path / "tls", ["localhost", "127.0.0.1"])
    return str(certificate), str(key)


def test_predictions_over_tls(serve: Serve, bundle: Bundle, pair: tuple[str, str]) -> None:
    server = serve(table(1, live(bundle())), tls_cert=pair[0], tls_key=pair[1], body_limit=1000)
    context = ssl.create_default_context(cafile=pair[0])
    connection = http.client.HTTPSConnection("localhost", server.port, timeout=20, context=context)
    for _ in range(3):  # over one connection
        connection.request("POST", "/predict/risk", json.dumps([EXAMPLE]))
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["version"]) == (200, 1)
    connection.request("POST", "/predict/risk", b"x" * 100_000)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (413, "body-too-large")
    connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):  # who was not told of it does not trust it
        socket_to(server.port, ssl.create_default_context())
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as plain:
        plain.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in plain.recv(1000)
    if shutil.which("curl"):
        line = ["curl", "-sf", "--cacert", pair[0], f"https://localhost:{server.port}/v2/health/ready"]
        assert json.loads(subprocess.run(line, capture_output=True, check=True).stdout) == {"ready": True}


def socket_to(port: int, context: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        context.wrap_socket(plain, server_hostname="localhost").close()


def test_old_protocols_are_not_spoken(serve: Serve, bundle: Bundle, pair: tuple[str, str]) -> None:
    server = serve(table(1, live(bundle())), tls_cert=pair[0], tls_key=pair[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        socket_to(server.port, context)


def test_a_pair_that_cannot_be_served_is_refused_before_anything(tmp_path: Path, pair: tuple[str, str]) -> None:
    check_pair("", "")
    check_pair(*pair)
    made = make_certificate(tmp_path / "other", ["ml.example.org", "10.0.0.5", "::1"])
    assert stat.S_IMODE(os.stat(made[1]).st_mode) == 0o600
    wrong = [
        (pair[0], ""),
        ("", pair[1]),
        (pair[0], str(made[1])),
        (str(tmp_path / "none"), pair[1]),
        (pair[1], pair[1]),
    ]
    for certificate, key in wrong:
        with pytest.raises(Invalid, match="TLS cannot be served"):
            check_pair(certificate, key)
    with pytest.raises(Conflict):
        make_certificate(tmp_path / "other", ["localhost"])
    with pytest.raises(Invalid):
        make_certificate(tmp_path / "third", ["bücher.example"])
    assert not (tmp_path / "third").exists()
