"""4e, N10: a vendor, proxy or gateway that repeats what it was sent tells no secret, whichever hook asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from urllib.parse import quote, unquote_plus, urlencode

import pytest

from include.soar.vendor.errors import VendorError
from tests.stages.tiny import Answer, Seen, TinyHook, TinyServer
from tests.transport.every_hook import HOOKS, PASSWORD, hook_to
from threat_response.transport import http

FETCHED = "Zt6Fq1Hv9Nc3-fetched"
JSON = {"Content-Type": "application/json"}


def everything(seen: Seen) -> str:
    return "\n".join([seen.path, urlencode(seen.query), *seen.headers.values(), seen.body.decode("utf-8", "replace")])


#: How an echo may look: as it came, once more encoded, decoded, and cut.
ECHOES: dict[str, Callable[[Seen], str]] = {
    "as it came": everything,
    "decoded": lambda seen: unquote_plus(everything(seen)),
    "encoded": lambda seen: quote(everything(seen), safe=""),
    "base64": lambda seen: base64.b64encode(everything(seen).encode()).decode(),
    "the end": lambda seen: f"...{(everything(seen))[-150:]}",
    "the middle": lambda seen: f"...{everything(seen)[11:311]}...",
}


@pytest.fixture
def server() -> Iterator[TinyServer]:
    server = TinyServer()
    yield server
    server.stop()


def pieces(secret: str) -> set[str]:
    return {secret[at : at + 6] for at in range(len(secret) - 5)}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [400, 401, 403, 422, 429, 500, 200])
@pytest.mark.parametrize("vendor", HOOKS)
def test_no_test_of_a_connection_tells_a_secret(
    vendor: str, status: int, echo: str, server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(seen: Seen) -> Answer:
        words = ECHOES[echo](seen)
        document = {"message": f"bad: {words}", "errors": [{"code": 1, "message": words}], "title": words}
        return Answer(status, json.dumps(document).encode(), JSON | {"X-Request-Id": quote(words[:60])})

    server.always = answer
    hook = hook_to(server.url, vendor, monkeypatch)
    _, message = hook.test_connection()
    assert server.seen
    # A user's name is none; a client's id or token is.
    for secret in filter(None, (*hook.secrets(hook.connection), PASSWORD, *signatures(server.seen))):
        for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1]):
            assert not [piece for piece in pieces(form) if piece in message], message


def signatures(sent: list[Seen]) -> list[str]:
    """What was made for one request only."""
    edgegrid = [s.headers.get("authorization", "").partition("signature=")[2] for s in sent]
    queries = [value for s in sent for name, value in s.query if name == "Signature"]
    return [signature for signature in (*edgegrid, *queries) if signature]


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize(
    ("vendor", "token"),
    [
        ("crowdstrike_falcon", {"access_token": FETCHED, "token_type": "bearer", "expires_in": 1799}),
        ("akamai_api_security", {"accessToken": FETCHED, "access_token": FETCHED, "token": FETCHED}),
        ("splunk", {"sessionKey": FETCHED}),
    ],
)
def test_what_was_fetched_is_a_secret_too(
    vendor: str, token: dict[str, object], echo: str, server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Falcon's bearer, API Security's token, Splunk's session key."""
    given = Answer(201 if vendor == "crowdstrike_falcon" else 200, json.dumps(token).encode(), JSON)

    def answer(seen: Seen) -> Answer:
        if FETCHED not in everything(seen):
            return given
        return Answer(403, json.dumps({"errors": [{"message": ECHOES[echo](seen)}]}).encode(), JSON)

    server.always = answer
    hook = hook_to(server.url, vendor, monkeypatch)
    with pytest.raises(VendorError) as caught:
        hook.ping()
    assert [seen for seen in server.seen if FETCHED in everything(seen)]
    told = f"{caught.value} {caught.value.reason} {hook.test_connection()[1]}"
    for secret in filter(None, (FETCHED, *hook.secrets(hook.connection))):
        assert not [piece for piece in pieces(secret) if piece in told], told


def test_signing_costs_the_same_for_the_hundredth_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """4g: each signature was one more pattern for Airflow's masker, which compiled all of them anew each time."""
    masked: list[str] = []
    monkeypatch.setattr(http, "mask_secret", masked.append)
    for number in range(100):
        http.hide_passing(f"signature-{number}")
    assert masked == []


@pytest.mark.parametrize("status", [401, 403, 503])
@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Access</title>", b"\n <HTML><body>no</body></HTML>"])
def test_a_page_of_a_proxy_says_nothing_about_the_key(
    status: int, page: bytes, server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J6: Cloudflare Access before a tenant answers 403 in HTML; the person read "Wrong key"."""
    server.always = Answer(status, page, {"Content-Type": "text/plain"})
    monkeypatch.setenv(
        "AIRFLOW_CONN_TINY_DEFAULT", json.dumps({"conn_type": "tiny", "host": server.url, "password": "k"})
    )
    monkeypatch.setattr(TinyHook, "ping", lambda self: self.get("/"))
    passed, message = TinyHook().test_connection()
    assert not passed
    assert "a page in HTML instead of the vendor's answer" in message
    assert "key" not in message.lower()
    assert "will be tried again" not in message  # N12: that is for a task, not for the person at the form
