"""4b and 4d: no answer fills the memory, and none keeps a task for ever, whichever hook asked."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest

from include.soar.vendor import wire
from include.soar.vendor.errors import Unavailable, Unexpected, VendorError
from include.soar.vendor.wire import Request
from tests.stages.tiny import Answer, Seen, TinyHook, TinyServer
from tests.transport import raw_server
from tests.transport.every_hook import HOOKS, hook_to
from threat_response.transport import deadline


@pytest.fixture
def server() -> Iterator[TinyServer]:
    server = TinyServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """80 kB that unpack to 80 MB."""
    packing = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * 2**20
    return packing.compress(b'{"a": "') + b"".join(packing.compress(block) for _ in range(80)) + packing.flush()


@pytest.mark.parametrize("vendor", HOOKS)
def test_an_answer_that_unpacks_to_a_huge_one_is_not_read_to_its_end(
    vendor: str, server: TinyServer, bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4b: 200 kB became 200 MB of body and more of memory in nine of eleven hooks, Falcon's among them."""
    packed = Answer(200, bomb, {"Content-Encoding": "gzip", "Content-Type": "application/json"})

    def answer(seen: Seen) -> Answer:
        if seen.path == "/oauth2/token":
            token = json.dumps({"access_token": "a-token-1", "token_type": "bearer", "expires_in": 1799}).encode()
            return Answer(201, token, {"Content-Type": "application/json"})
        return packed

    server.always = answer
    hook = hook_to(server.url, vendor, monkeypatch, largest_megabytes=10)
    with pytest.raises(VendorError, match=r"answer is longer than [\d,]+ bytes") as caught:
        hook.ping()
    assert type(caught.value) is Unexpected


def test_the_bound_holds_for_whoever_asks_for_no_other() -> None:
    assert Request("GET", "/", operation="get").largest_bytes == wire.LARGEST_BYTES == 64 * 2**20


def test_an_answer_as_long_as_its_bound_is_read(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"x" * 200_000
    server.always = Answer(200, gzip.compress(body), {"Content-Encoding": "gzip"})
    connect(monkeypatch, server.url)
    hook = TinyHook()
    assert hook.send(Request("GET", "/", operation="get", largest_bytes=200_000)).body == body
    with pytest.raises(Unexpected, match="longer than 199,999 bytes"):
        hook.send(Request("GET", "/", operation="get", largest_bytes=199_999))
    assert hook.send(Request("GET", "/", operation="get", largest_bytes=200_000)).body == body


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", id="headers"),
        pytest.param(b"HTTP/1.1 200 O", b"K", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x", id="body with a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", b"x", id="body without one"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 401 No\r\nContent-Length: 100000\r\n\r\n", b"x", id="a refusal"),
    ],
)
def test_a_server_that_drips_is_cut(start: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """4d: with a byte each 0.25 s a call went on for as long as the server liked."""
    with raw_server.raw_server(raw_server.drip(start, drop)) as port:
        connect(monkeypatch, f"http://127.0.0.1:{port}")
        with pytest.raises(Unavailable, match=r"no whole answer within 0\.4 s"):
            TinyHook().exchange(Request("GET", "/", operation="get", timeout_seconds=5, total_seconds=0.4))


@pytest.mark.parametrize("through_proxy", [False, True], ids=["direct", "proxy"])
def test_a_handshake_that_drips_is_cut(through_proxy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drips = raw_server.drip(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"\0")
    with raw_server.raw_server(raw_server.tunnel(drips) if through_proxy else drips) as port:
        proxy = f"http://127.0.0.1:{port}" if through_proxy else None
        connect(monkeypatch, f"https://127.0.0.1:{port}", proxy=proxy)
        with pytest.raises(Unavailable, match=r"no whole answer within 0\.4 s"):
            TinyHook().exchange(Request("GET", "/", operation="get", timeout_seconds=5, total_seconds=0.4))


def test_a_line_that_is_kept_open_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(line: object, over: object) -> None:
        line.recv(65_536)  # type: ignore[attr-defined]
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")  # type: ignore[attr-defined]
        raw_server.drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")(line, over)  # type: ignore[arg-type]

    with raw_server.raw_server(serve) as port:
        connect(monkeypatch, f"http://127.0.0.1:{port}")
        hook = TinyHook()
        assert hook.exchange(Request("GET", "/", operation="get", timeout_seconds=5)).body == b"{}"
        with pytest.raises(Unavailable, match="no whole answer"):
            hook.exchange(Request("GET", "/", operation="get", timeout_seconds=5, total_seconds=0.4))


def test_a_deadline_that_is_over_cuts_no_later_exchange(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, server.url)
    hook = TinyHook()
    hook.exchange(Request("GET", "/", operation="get", total_seconds=0.2))
    with deadline.within(0.2) as limit:
        assert limit.passed.wait(10)  # and so would the first one's time be up
    assert hook.exchange(Request("GET", "/", operation="get")).status == 200
    assert len({seen.port for seen in server.seen}) == 1


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **extra: str | None) -> None:
    document = {"conn_type": "tiny", "host": url, "password": "a-key", "extra": {k: v for k, v in extra.items() if v}}
    monkeypatch.setenv("AIRFLOW_CONN_TINY_DEFAULT", json.dumps(document))
