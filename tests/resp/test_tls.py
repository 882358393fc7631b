"""TLS on the RESP port: certificates made for the test, redis-py and plain sockets."""

import datetime
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.instance import RunningInstance, running_instance, wait_until

DAY = datetime.timedelta(days=1)


class Authority:
    """A CA of its own, and what it has signed, as files in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._number = 0
        certificate = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(self, name: x509.Name, key: Any, *extensions: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        self._number += 1
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self._name).public_key(key.public_key()).serial_number(self._number)
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name: str) -> tuple[str, str]:
        """(Certificate, key) for 127.0.0.1 and localhost; files of an earlier call with this name are replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
        certificate = self._signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, address)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        plain = serialization.NoEncryption()
        texts = (
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        )
        for path, text in zip(paths, texts, strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(text)
            new.chmod(0o600)
            os.replace(new, path)
        return str(paths[0]), str(paths[1])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[RunningInstance]:
    """Plain and TLS ports; a client's certificate may be shown."""
    cert, key = authority.issue("server")
    options = {"resp_tls": "127.0.0.1:0", "resp_tls_cert": cert, "resp_tls_key": key, "resp_tls_ca": str(authority.path), "resp_tls_clients": "optional"}
    with running_instance(workers=1, resp="127.0.0.1:0", resp_password="p", **options) as found:
        yield found


def tls_port(instance: RunningInstance) -> int:
    found = re.search(r"RESP with TLS at \S+:(\d+),", instance.ready_line)
    assert found is not None
    return int(found[1])


def connect(instance: RunningInstance, authority: Authority, **more: Any) -> redis.Redis:
    return redis.Redis(port=tls_port(instance), password="p", ssl=True, ssl_ca_certs=str(authority.path), **more)


def test_both_ports(secured: RunningInstance, authority: Authority):
    with connect(secured, authority, protocol=3) as client, redis.Redis(port=secured.resp_port, password="p") as plain:
        value = os.urandom(3_000_000)
        assert client.set("k", value) and plain.get("k") == value and client.get("k") == value
        pipeline = client.pipeline(transaction=False)
        for number in range(5_000):
            pipeline.set(f"k{number % 10}", number).get(f"k{number % 10}")
        assert pipeline.execute()[-1] == b"4999"
        assert client.config_get("tls-port") == {"tls-port": str(tls_port(secured))}


def test_the_server_is_known(secured: RunningInstance, tmp_path: Path):
    with connect(secured, Authority(tmp_path, "stranger")) as client, pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        client.ping()


def test_wrong_certificates_of_clients(secured: RunningInstance, authority: Authority, tmp_path: Path):
    right, wrong = authority.issue("client"), Authority(tmp_path, "stranger").issue("client")
    with connect(secured, authority, ssl_certfile=right[0], ssl_keyfile=right[1]) as client:
        assert client.ping()
    with connect(secured, authority, ssl_certfile=wrong[0], ssl_keyfile=wrong[1]) as client, pytest.raises(redis.ConnectionError):
        client.ping()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_and_plain_clients(secured: RunningInstance, authority: Authority):
    context = ssl.create_default_context(cafile=authority.path)
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", tls_port(secured)), 10) as own, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(own, server_hostname="127.0.0.1")
    with socket.create_connection(("127.0.0.1", tls_port(secured)), 10) as own:
        own.sendall(b"*1\r\n$4\r\nPING\r\n")
        try:
            assert not own.recv(100).startswith(b"+")
        except ConnectionResetError:
            pass


def test_new_certificates_are_taken(secured: RunningInstance, authority: Authority):
    def serial() -> int:
        context = ssl.create_default_context(cafile=authority.path)
        with socket.create_connection(("127.0.0.1", tls_port(secured)), 10) as own, context.wrap_socket(own, server_hostname="127.0.0.1") as wrapped:
            return int(wrapped.getpeercert()["serialNumber"], 16)

    with connect(secured, authority) as client:
        assert client.ping()
        before = serial()
        authority.issue("server")
        wait_until(lambda: serial() != before, what="the new certificate is used")
        assert client.ping()
    # Something that is no certificate changes nothing.
    Path(secured.options["resp_tls_cert"]).write_text("nonsense")
    wait_until(lambda: "new certificates are not taken" in secured.log(), what="it is said")
    assert serial() > before
    authority.issue("server")


def test_tls_alone_with_certificates_of_clients(authority: Authority):
    """No plain port, no password, but who has no certificate does not get in."""
    cert, key = authority.issue("alone")
    mine = authority.issue("mine")
    with running_instance(workers=1, resp_tls="127.0.0.1:0", resp_tls_cert=cert, resp_tls_key=key, resp_tls_ca=str(authority.path)) as instance:
        options = {"port": tls_port(instance), "ssl": True, "ssl_ca_certs": str(authority.path)}
        with redis.Redis(**options, ssl_certfile=mine[0], ssl_keyfile=mine[1]) as client:
            assert client.set("a", 1) and client.get("a") == b"1"
        with redis.Redis(**options) as client, pytest.raises(redis.ConnectionError):
            client.ping()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"resp_tls_cert": None}, "resp_tls: it needs a certificate and its key"),
        ({"resp_tls_key": "/nonexistent"}, "resp_tls_key: /nonexistent: No such file"),
        ({"resp_tls_ca": "/nonexistent"}, "resp_tls_ca: /nonexistent: No such file"),
    ],
)
def test_starts_that_are_refused(options: dict[str, str], complaint: str, authority: Authority):
    cert, key = authority.issue("refused")
    all_of = {"resp_tls": "127.0.0.1:0", "resp_tls_cert": cert, "resp_tls_key": key} | options
    all_of = {name: value for name, value in all_of.items() if value is not None}
    with pytest.raises(AssertionError, match="did not become ready") as refused, running_instance(workers=1, **all_of):
        pass
    assert complaint in str(refused.value)
