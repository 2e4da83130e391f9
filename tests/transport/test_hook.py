"""What every vendor's hook stands on: over real HTTP, with the answers that no polite server gives."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from airflow.sdk import Connection
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowNotFoundException
from requests.auth import AuthBase
from sqlalchemy.exc import OperationalError

from include.soar.extract.case import NothingFetched
from include.soar.policy.rules import PolicyError
from include.soar.vendor.errors import (
    RateLimited,
    Rejected,
    Unauthorized,
    Unavailable,
    Unexpected,
    VendorError,
    WriteInPlanMode,
    WrongConnection,
)
from include.soar.vendor.wire import Request
from include.soar.window import WindowError
from tests.stages.controls import everything_logged
from tests.stages.tiny import Answer, TinyServer
from tests.support import free_port
from tests.vendors.support import connect
from threat_response.transport.form import Vendor
from threat_response.transport.hook import VendorHook
from threat_response.transport.retry import LONGEST_WAIT, VendorRetryPolicy

KEY = "s3cret/key+with=odd&chars"


class Signed(AuthBase):
    """Puts a secret into the URL, as a signature is."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.prepare_url(request.url, {"Signature": KEY})
        return request


class TinyHook(VendorHook):
    declared = Vendor("tiny", "Tiny", "TinyHook", host="https://tiny.example")
    rejected_statuses = (402,)
    unavailable_statuses = (423,)

    def headers(self, connection: Connection) -> dict[str, str]:
        return {"Key": self.credential("password")}

    def ping(self) -> str:
        self.send(Request("GET", "/ping", operation="ping", timeout_seconds=2))
        return "it works"


class SignedHook(TinyHook):
    def auth(self, connection: Connection) -> AuthBase:
        return Signed()


READ = Request("GET", "/read", operation="read", timeout_seconds=2)
PRIVATE = (("q", "private"),)
WRITE = Request("POST", "/write", operation="write", json={"a": 1}, writes=True, timeout_seconds=2)


@pytest.fixture
def server() -> Iterator[TinyServer]:
    server = TinyServer()
    yield server
    server.stop()


@pytest.fixture
def hook(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> TinyHook:
    connect(monkeypatch, "tiny_default", "tiny", server.url, password=KEY)
    return TinyHook()


def define(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> TinyHook:
    monkeypatch.setenv("AIRFLOW_CONN_TINY_DEFAULT", json.dumps({"conn_type": "tiny", "password": KEY, **fields}))
    return TinyHook()


# --- error -> retry ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (Unavailable("v", "op", "x"), RetryAction.RETRY, 10),
        (RateLimited("v", "op", "x", retry_after=7), RetryAction.RETRY, 8),
        (RateLimited("v", "op", "x", retry_after=0), RetryAction.RETRY, 1),
        (RateLimited("v", "op", "x", retry_after=29241), RetryAction.RETRY, LONGEST_WAIT.total_seconds()),
        (RateLimited("v", "op", "x", retry_after=1e14), RetryAction.RETRY, LONGEST_WAIT.total_seconds()),
        (RateLimited("v", "op", "x"), RetryAction.RETRY, 60),
        (Unauthorized("v", "op", "x"), RetryAction.FAIL, None),
        (Rejected("v", "op", "x"), RetryAction.FAIL, None),
        (Unexpected("v", "op", "x"), RetryAction.FAIL, None),
        (WriteInPlanMode("x"), RetryAction.FAIL, None),
        # N6: what no retry can mend
        (WindowError("x"), RetryAction.FAIL, None),
        (PolicyError("x"), RetryAction.FAIL, None),
        (NothingFetched("x"), RetryAction.FAIL, None),
        (KeyError("x"), RetryAction.FAIL, None),
        (TypeError("x"), RetryAction.FAIL, None),
        (AirflowNotFoundException("x"), RetryAction.FAIL, None),
        (PermissionError("x"), RetryAction.FAIL, None),
        # and what one may
        (RuntimeError("x"), RetryAction.DEFAULT, None),
        (ConnectionResetError("x"), RetryAction.DEFAULT, None),
        (TimeoutError("x"), RetryAction.DEFAULT, None),
        (OperationalError("select", {}, Exception("x")), RetryAction.DEFAULT, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_one_place_where_an_error_becomes_a_retry(
    error: Exception, action: RetryAction, delay: float | None
) -> None:
    decision = VendorRetryPolicy().evaluate(error, 1, 4)
    assert decision.action is action
    assert (decision.retry_delay.total_seconds() if decision.retry_delay else None) == delay
    if isinstance(error, VendorError) and decision.reason is not None:
        assert decision.reason == str(error)


def test_each_further_try_waits_twice_as_long_up_to_a_limit() -> None:
    def waits(error: Exception) -> list[float]:
        decisions = [VendorRetryPolicy().evaluate(error, number, 6) for number in range(1, 8)]
        return [d.retry_delay.total_seconds() for d in decisions if d.retry_delay]

    assert waits(Unavailable("v", "op", "x")) == [10, 20, 40, 80, 160, 300, 300]
    assert waits(RateLimited("v", "op", "x")) == [60, 120, 240, 480, 900, 900, 900]


# --- the request -------------------------------------------------------------------------------------------------


def test_everything_of_a_request_arrives(hook: TinyHook, server: TinyServer) -> None:
    request = Request(
        "POST",
        "/a%2Fb/c",
        operation="op",
        params=(("x", "1"), ("x", "2 3"), ("empty", "")),
        json={"n": [1, None]},
        headers={"X-One": "1"},
    )
    hook.send(request)
    (seen,) = server.seen
    assert (seen.method, seen.path) == ("POST", "/a%2Fb/c")
    assert seen.query == [("x", "1"), ("x", "2 3"), ("empty", "")]
    assert json.loads(seen.body) == {"n": [1, None]}
    assert (seen.headers["key"], seen.headers["x-one"]) == (KEY, "1")
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"


def test_a_form(hook: TinyHook, server: TinyServer) -> None:
    hook.send(Request("POST", "/f", operation="op", form={"a": "1 &"}))
    assert server.seen[0].body == b"a=1+%26"


def test_the_answer_comes_with_lower_case_names_and_any_2xx_is_good(hook: TinyHook, server: TinyServer) -> None:
    server.always = Answer(207, b"[1]", {"X-Request-ID": "r-1"})
    response = hook.send(READ)
    assert (response.status, response.body, response.request_id) == (207, b"[1]", "r-1")


def test_exchange_gives_back_any_status(hook: TinyHook, server: TinyServer) -> None:
    server.always = Answer(404, b"no")
    assert hook.exchange(READ).status == 404


def test_plan_mode_refuses_a_write_before_it_leaves(hook: TinyHook, server: TinyServer) -> None:
    planning = TinyHook(writes_allowed=False)
    for call in (planning.send, planning.exchange):
        with pytest.raises(WriteInPlanMode, match="tiny write"):
            call(WRITE)
    assert server.seen == []
    planning.send(READ)
    hook.send(WRITE)
    assert [s.path for s in server.seen] == ["/read", "/write"]


def test_a_redirect_is_not_followed_with_our_key(hook: TinyHook, server: TinyServer) -> None:
    elsewhere = TinyServer()
    try:
        for status in (301, 302, 303, 307, 308):
            server.script = [Answer(status, b"", {"Location": elsewhere.url + "/collect"})]
            with pytest.raises(Unexpected) as caught:
                hook.send(READ)
            assert caught.value.status == status
        assert elsewhere.seen == []
    finally:
        elsewhere.stop()


def test_the_workers_environment_answers_for_nothing(
    hook: TinyHook, server: TinyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password something\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    hook.send(READ)
    assert "authorization" not in server.seen[0].headers


# --- the connection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "https://api.example"}, "https://api.example"),
        ({"host": "https://api.example/"}, "https://api.example"),
        ({"host": " https://api.example "}, "https://api.example"),
        ({"host": "https://api.example", "port": 443}, "https://api.example"),
        ({"host": "https://api.example", "port": 8443}, "https://api.example:8443"),
        ({"host": "https://api.example:8443", "port": 443}, "https://api.example:8443"),
        ({"host": "https://API.example"}, "https://api.example"),
        ({"host": "api.example"}, "https://api.example"),
        ({"host": "api.example", "port": 443}, "https://api.example"),
        ({"host": "api.example", "schema": "http", "port": 80}, "http://api.example"),
        ({"host": "http://127.0.0.1", "port": 8081}, "http://127.0.0.1:8081"),
        ({"host": "https://gateway.example/vendor/", "port": 443}, "https://gateway.example/vendor"),
        ({"host": "https://gateway.example/vendor", "port": 8443}, "https://gateway.example:8443/vendor"),
        ({"host": "https://[2001:db8::1]", "port": 8443}, "https://[2001:db8::1]:8443"),
    ],
)
def test_the_base_url(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str) -> None:
    assert define(monkeypatch, **fields).url == url


@pytest.mark.parametrize("host", [None, "", " ", "https://", "ftp://api.example", "https://api.example:port"])
def test_a_connection_without_a_host_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch, host: str | None) -> None:
    with pytest.raises(Unauthorized, match=r"'tiny_default' has no .*host"):
        define(monkeypatch, host=host).send(READ)


def test_a_credential_that_is_missing_or_empty_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = define(monkeypatch, host="https://api.example", password="")
    for name in ("password", "login"):
        with pytest.raises(WrongConnection, match=f"'tiny_default' has no {name}"):
            hook.credential(name)


def test_no_request_leaves_with_a_wrong_field(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ({"verfy": False}, {"verify": "perhaps"}, ["verify"]):
        with pytest.raises(WrongConnection):
            define(monkeypatch, host=server.url, extra=extra).send(READ)
    monkeypatch.setenv("AIRFLOW_CONN_TINY_DEFAULT", json.dumps({"conn_type": "tiny", "host": server.url, "extra": "{"}))
    with pytest.raises(WrongConnection, match="not a JSON object"):
        TinyHook().send(READ)
    assert server.seen == []


def test_making_a_hook_reads_no_connection() -> None:
    assert TinyHook("not_defined").conn_id == "not_defined"


@pytest.mark.parametrize("key", ["key\nwith a line end", "schlüssel€"])
def test_a_key_that_http_cannot_carry_is_for_a_person(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    hook = define(monkeypatch, host=server.url, password=key)
    with pytest.raises(Unauthorized, match="HTTP cannot carry") as caught:
        hook.send(READ)
    assert key not in "".join(traceback.format_exception(caught.value))
    assert server.seen == []


# --- what goes wrong on the way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (Answer(body=b"{}", wait=True), Unavailable, "answer stopped in the middle|no answer within"),
        (Answer(raw=b""), Unavailable, "closed the connection without an answer"),
        (Answer(body=b'{"a', headers={"Content-Length": "500"}), Unavailable, None),
        (
            Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
            Unavailable,
            None,
        ),
        (Answer(raw=b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Unavailable, "connection was cut"),
        (Answer(body=b"\x00\x01", headers={"Content-Encoding": "gzip"}), Unavailable, None),
        (Answer(402), Rejected, None),
        (Answer(423), Unavailable, None),
        (Answer(429, headers={"Retry-After": "7"}), RateLimited, None),
    ],
    ids=["slow", "hang up", "cut", "chunk cut", "not http", "not gzip", "402", "423", "429"],
)
def test_what_a_bad_answer_means(
    hook: TinyHook, server: TinyServer, answer: Answer, kind: type[VendorError], reason: str | None
) -> None:
    answer.headers.setdefault("Connection", "close")
    server.script = [answer]
    request = Request("GET", "/read", operation="read", timeout_seconds=0.2 if answer.wait else 5)
    with pytest.raises(kind, match=reason) as caught:
        hook.send(request)
    assert type(caught.value) is kind
    hook.send(READ)  # the session is good for the next one


def test_a_connection_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="refuses the connection"):
        define(monkeypatch, host="http://127.0.0.1", port=free_port()).send(READ)


def test_a_host_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="name is not known"):
        define(monkeypatch, host="http://nowhere.invalid").send(READ)


# --- secrets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [json.dumps({"error": f"the key {KEY} is not known"}).encode(), KEY.encode()])
def test_a_vendor_that_repeats_the_key_does_not_put_it_into_our_log(
    hook: TinyHook, server: TinyServer, body: bytes
) -> None:
    server.always = Answer(401, body)
    with pytest.raises(Unauthorized) as caught:
        hook.send(READ)
    assert KEY not in str(caught.value)
    assert "***" in str(caught.value) or "not JSON" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(wait=True),
        Answer(raw=b""),
        Answer(body=b"{", headers={"Content-Length": "9"}),
        Answer(400),
        Answer(302, headers={"Location": "/"}),
    ],
    ids=["slow", "hang up", "cut", "400", "302"],
)
def test_no_error_holds_the_url_with_its_signature(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    define(monkeypatch, host=server.url)
    answer.headers.setdefault("Connection", "close")
    server.always = answer
    request = replace(READ, params=PRIVATE, timeout_seconds=0.2 if answer.wait else 5)
    with pytest.raises(VendorError) as caught:
        SignedHook().send(request)
    assert ("Signature", KEY) in server.seen[0].query
    text = str(caught.value) + "".join(traceback.format_exception(caught.value))
    for secret in (KEY, quote(KEY, safe=""), "Signature", "private", server.url):
        assert secret not in text


def test_a_refused_connection_does_not_print_the_url_either(monkeypatch: pytest.MonkeyPatch) -> None:
    define(monkeypatch, host="http://127.0.0.1", port=free_port())
    with pytest.raises(Unavailable) as caught:
        SignedHook().send(READ)
    assert "Signature" not in "".join(traceback.format_exception(caught.value))


def test_the_key_is_in_no_log_line(hook: TinyHook, server: TinyServer, capsys: pytest.CaptureFixture[str]) -> None:
    with everything_logged() as lines:
        hook.send(READ)
        server.script = [Answer(401, KEY.encode()), Answer(500), Answer(raw=b"")]
        for _ in range(3):
            hook.test_connection()
    printed = capsys.readouterr().out  # where Airflow's own loggers write when no task runs
    assert lines
    assert "Test of connection tiny_default failed" in printed
    assert not [line for line in [*lines, printed] if KEY in line or quote(KEY, safe="") in line]


def test_the_hook_registers_its_secrets_with_airflows_masker(hook: TinyHook) -> None:
    from airflow.sdk.log import redact

    assert hook.connection.password == KEY
    assert KEY not in str(redact(f"a line with {KEY} in it"))
    assert quote(KEY, safe="") not in str(redact(f"GET /?k={quote(KEY, safe='')}"))


# --- Test connection ---------------------------------------------------------------------------------------------


def test_a_connection_that_works(hook: TinyHook) -> None:
    assert hook.test_connection() == (True, "tiny: it works")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(401, b'{"message": "invalid key"}'), "Wrong key"),
        (Answer(403, b'{"message": "not for you"}'), "Missing grant"),
        (Answer(401, b'{"message": "Invalid timestamp"}'), "Clock skew"),
        (Answer(403, b'{"message": "signature has expired"}'), "Clock skew"),
        (Answer(404, b"<html>"), "Wrong host"),
        (Answer(302, b"", {"Location": "/login"}), "Wrong host"),
        (Answer(503), "Wrong host, or the vendor is down"),
        (Answer(429), "quota is used up"),
        (Answer(400, b'{"message": "odd"}'), "The vendor refused"),
        # N12
        (Answer(405, b'{"detail": "Method Not Allowed"}'), "Wrong host"),
        (Answer(422, b'{"detail": "odd"}'), "Wrong host"),
        (Answer(401, b'{"message": "Expires is too far in the future."}'), "Clock skew"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else None,
)
def test_the_cause_is_named(hook: TinyHook, server: TinyServer, answer: Answer, cause: str) -> None:
    server.always = answer
    passed, message = hook.test_connection()
    assert not passed
    assert message.startswith(cause) or cause in message.split(":")[0]
    assert len(message.splitlines()) == 1


def test_an_incomplete_connection_is_named(monkeypatch: pytest.MonkeyPatch, server: TinyServer) -> None:
    passed, message = define(monkeypatch, host=server.url, password="").test_connection()
    assert (passed, message.split(":")[0]) == (False, "Incomplete or wrong connection")
    passed, message = define(monkeypatch, host="").test_connection()
    assert (passed, message.split(":")[0]) == (False, "Incomplete or wrong connection")


@pytest.mark.parametrize("kind", [Unavailable, RateLimited, Unauthorized, Rejected, Unexpected])
def test_n12_the_form_is_told_neither_what_a_task_does_next_nor_airflows_made_up_id(
    monkeypatch: pytest.MonkeyPatch, server: TinyServer, kind: type[VendorError]
) -> None:
    hook = define(monkeypatch, host=server.url, password="")
    message = hook.test_connection()[1]
    assert hook.conn_id not in message
    assert "the connection has no password" in message

    def refuse() -> str:
        raise kind("tiny", "ping", "the reason")

    monkeypatch.setattr(hook, "ping", refuse)
    assert hook.test_connection()[1].endswith(
        ": tiny ping: the reason" + (" [HTTP 429]" if kind is RateLimited else "")
    )


def test_a_refused_key_is_a_wrong_key_whatever_else_the_vendor_says(hook: TinyHook, server: TinyServer) -> None:
    server.always = Answer(401, b'{"message": "your certificate has no such grant"}')
    assert hook.test_connection()[1].startswith("Wrong key: ")


def test_a_wrong_field_is_named_by_test_connection_although_ping_does_not_use_it(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, message = define(monkeypatch, host=server.url, extra={"verify": "perhaps"}).test_connection()
    assert not passed
    assert message.startswith("Incomplete or wrong connection: ")
    assert "wrong field verify: 'perhaps' is neither true nor false" in message
    assert server.seen == []


def test_an_error_that_nobody_thought_of_shows_its_kind_only(hook: TinyHook, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise LookupError(f"with {KEY}")

    monkeypatch.setattr(hook, "ping", broken)
    assert hook.test_connection() == (False, "Could not even ask: LookupError")
