"""A real Mosquitto, which keeps its sessions on the disk, and one who publishes."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
PASSWORD = "open-sesame-41"


class Broker:
    """A broker that can be stopped, killed and started again on its own files."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=PATH)
        if program is None:
            pytest.skip("mosquitto is not on PATH")
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        folder.mkdir()
        passwords = folder / "passwords"
        passwords.write_text(f"reader:{PASSWORD}\n")
        tool = shutil.which("mosquitto_passwd", path=PATH)
        assert tool
        subprocess.run([tool, "-U", passwords], check=True)
        passwords.chmod(0o644)
        self.command = [program, "-c", str(folder / "mosquitto.conf")]
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser root\n"
            f"persistence true\npersistence_location {folder}/\nautosave_interval 0\n"
            "max_queued_messages 0\nmax_keepalive 600\n"
        )
        self.start()

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        log.close()
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def by_tls(self) -> tuple[int, Path]:
        """Its port for TLS from now on, and the certificate that it shows there."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
        shown = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        ca, secret = self.folder / "broker.pem", self.folder / "broker.key"
        ca.write_bytes(shown.public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        with (self.folder / "mosquitto.conf").open("a") as settings:
            settings.write(f"listener {port} 127.0.0.1\ncertfile {ca}\nkeyfile {secret}\n")
        self.stop()
        self.start()
        return port, ca

    def forget(self) -> None:
        """It comes back, and knows of no session."""
        self.stop()
        (self.folder / "mosquitto.db").unlink()
        self.start()

    def send(self, topic: str, *contents: bytes, retain: bool = False, qos: int = 1) -> None:
        """Publishes; the broker has all of it when this returns."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.username_pw_set("reader", PASSWORD)
        client.max_queued_messages_set(0)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        sent = [client.publish(topic, content, qos=qos, retain=retain) for content in contents]
        for one in sent:
            one.wait_for_publish(20)
            assert one.is_published()
        client.disconnect()
        client.loop_stop()

    def address(self, topics: str) -> str:
        return f"mqtt://127.0.0.1:{self.port}/{topics}"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "broker")
    yield found
    found.stop()
