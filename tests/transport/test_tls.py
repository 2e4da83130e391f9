"""TLS and proxy of a connection, over real sockets: for an ordinary hook, and for Falcon's, which falconpy drives."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import RetryAction
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from urllib3.exceptions import InsecureRequestWarning

from include.soar.vendor.errors import Unauthorized, Unavailable, UntrustedHost, VendorError, WrongConnection
from include.soar.vendor.wire import Request
from tests.soar.examples import address
from tests.stages.tiny import Answer, Seen, TinyServer
from tests.support import free_port
from tests.transport import raw_server
from threat_response.transport import causes
from threat_response.transport.form import Vendor
from threat_response.transport.hook import VendorHook
from threat_response.transport.retry import VendorRetryPolicy
from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook


class TinyHook(VendorHook):
    declared = Vendor("tiny", "Tiny", "TinyHook", host="https://tiny.example")

    def ping(self) -> str:
        self.send(Request("GET", "/ping", operation="ping", timeout_seconds=5))
        return "it works"


JSON = {"Content-Type": "application/json"}


def answer_of_falcon(seen: Seen) -> Answer:
    if seen.path == "/oauth2/token":
        return Answer(201, b'{"access_token": "a-token-1", "token_type": "bearer", "expires_in": 1799}', dict(JSON))
    return Answer(200, b'{"resources": [], "errors": [], "meta": {"pagination": {"total": 0, "limit": 1}}}', dict(JSON))


def ask_falcon(hook: CrowdStrikeFalconHook) -> None:
    hook.search([address("203.0.113.7")])


#: A hook, what it asks, and what answers it.
HOOKS: dict[str, tuple[type[VendorHook], Callable[[Any], Any]]] = {
    "tiny": (TinyHook, TinyHook.ping),
    "crowdstrike_falcon": (CrowdStrikeFalconHook, ask_falcon),
}
Ask = Callable[..., None]


@pytest.fixture(params=HOOKS)
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Ask with a connection of these fields."""
    hook, call = HOOKS[request.param]

    def ask(host: str, **extra: Any) -> None:
        document = {"conn_type": request.param, "host": host, "login": "a-login", "password": "a-key-1", "extra": extra}
        monkeypatch.setenv(f"AIRFLOW_CONN_{hook.default_conn_name.upper()}", json.dumps(document))
        call(hook())

    return ask


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vendor.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "server.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[TinyServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = TinyServer(context)
    server.always = answer_of_falcon
    yield server
    server.stop()


@pytest.fixture
def proxy() -> Iterator[TinyServer]:
    """It answers for whatever host it is asked to reach."""
    server = TinyServer()
    server.always = answer_of_falcon
    yield server
    server.stop()


def test_a_certificate_is_checked_unless_the_connection_says_otherwise(ask: Ask, server: TinyServer) -> None:
    with pytest.raises(UntrustedHost, match="certificate is not trusted"):
        ask(server.url)
    assert server.seen == []
    with pytest.warns(InsecureRequestWarning):
        ask(server.url, verify=False)
    assert server.seen


def test_a_certificate_of_ones_own_authority(ask: Ask, server: TinyServer, certificate: Path) -> None:
    ask(server.url, ca_bundle=str(certificate))
    assert server.seen


@pytest.mark.parametrize("bundle", ["nowhere.pem", "text.pem"])
def test_a_ca_bundle_that_cannot_be_read_is_the_connections_fault(
    ask: Ask, server: TinyServer, tmp_path: Path, bundle: str
) -> None:
    (tmp_path / "text.pem").write_text("no certificate\n", "utf-8")
    with pytest.raises(WrongConnection, match="CA bundle cannot be read"):
        ask(server.url, ca_bundle=str(tmp_path / bundle))
    assert server.seen == []


def test_the_connections_own_proxy_is_used(ask: Ask, proxy: TinyServer) -> None:
    ask("http://vendor.example", proxy=proxy.url)
    assert {seen.headers["host"] for seen in proxy.seen} == {"vendor.example"}


def test_a_proxy_that_is_not_there_is_said_to_be_so(ask: Ask) -> None:
    with pytest.raises(Unavailable, match="proxy cannot be reached"):
        ask("http://vendor.example", proxy=f"http://127.0.0.1:{free_port()}")


#: What is no more than a blip: everything that goes wrong in a handshake but a certificate that fails verification.
BLIPS = [
    pytest.param(raw_server.close_at_once, id="closed at once"),
    pytest.param(raw_server.close_after_hello, id="closed after the hello"),
    pytest.param(raw_server.alert(80), id="alert: internal error"),
    pytest.param(raw_server.alert(40), id="alert: handshake failure"),
    pytest.param(raw_server.alert(70), id="alert: protocol version"),
    pytest.param(raw_server.alert(48), id="alert: unknown authority"),
    pytest.param(raw_server.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), id="plain HTTP"),
    pytest.param(raw_server.say(b"\x16\x03\x03\x00\x7a\x02\x00"), id="half a record"),
]


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxy"])
@pytest.mark.parametrize("serve", BLIPS)
def test_a_handshake_that_fails_is_tried_again(ask: Ask, serve: raw_server.Serve, through_proxy: bool) -> None:
    """4a: a restart, a drain or an overload said for good that the certificate is not trusted."""
    with raw_server.raw_server(raw_server.tunnel(serve) if through_proxy else serve) as port:
        proxy = {"proxy": f"http://127.0.0.1:{port}"} if through_proxy else {}
        with pytest.raises(Unavailable) as caught:
            ask("https://vendor.example" if through_proxy else f"https://127.0.0.1:{port}", **proxy)
    assert type(caught.value) is Unavailable
    assert "certificate" not in str(caught.value)
    decision = VendorRetryPolicy().evaluate(caught.value, 1, 6)
    assert decision.action is RetryAction.RETRY


def test_a_line_that_is_reset_in_the_handshake_is_tried_again(ask: Ask) -> None:
    def reset(line: Any, over: Any) -> None:
        line.recv(65_536)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with raw_server.raw_server(reset) as port, pytest.raises(Unavailable):
        ask(f"https://127.0.0.1:{port}")


def test_a_wrong_certificate_is_for_a_person_through_a_proxy_too(ask: Ask, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)

    def handshake(line: Any, over: Any) -> None:
        tls.wrap_socket(line, server_side=True).recv(10)

    with (
        raw_server.raw_server(raw_server.tunnel(handshake)) as port,
        pytest.raises(UntrustedHost, match="certificate is not trusted") as caught,
    ):
        ask("https://vendor.example", proxy=f"http://127.0.0.1:{port}")
    assert VendorRetryPolicy().evaluate(caught.value, 1, 6).action is RetryAction.FAIL


def test_a_certificate_for_another_name_is_for_a_person(ask: Ask, server: TinyServer, certificate: Path) -> None:
    with pytest.raises(UntrustedHost):
        ask(f"https://localhost:{server.port}", ca_bundle=str(certificate))


@pytest.mark.parametrize(
    ("status", "kind", "cause"),
    [
        (b"407 Proxy Authentication Required", Unauthorized, "The connection's proxy refuses us"),
        (b"403 Forbidden", Unavailable, "Wrong host, or the vendor is down"),
        (b"502 Bad Gateway", Unavailable, "Wrong host, or the vendor is down"),
    ],
)
def test_a_proxy_that_opens_no_tunnel(ask: Ask, status: bytes, kind: type[VendorError], cause: str) -> None:
    says_no = raw_server.say(b"HTTP/1.1 " + status + b"\r\n\r\n")
    with raw_server.raw_server(says_no) as port, pytest.raises(kind) as caught:
        ask("https://vendor.example", proxy=f"http://127.0.0.1:{port}")
    assert "proxy" in str(caught.value)
    assert causes.cause(caught.value) == cause


def test_test_connection_tells_the_two_causes_apart(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for extra, cause in (
        ({}, "Wrong host, or a certificate that this machine does not trust"),
        ({"ca_bundle": str(tmp_path / "nowhere.pem")}, "Incomplete or wrong connection"),
    ):
        document = {"conn_type": "tiny", "host": server.url, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_TINY_DEFAULT", json.dumps(document))
        passed, message = TinyHook().test_connection()
        assert (passed, message.split(":")[0]) == (False, cause)
