"""URLhaus's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulators.urlhaus import UrlhausSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable, VendorError
from tests.soar.examples import address, domain
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.urlhaus import api
from threat_response.vendors.urlhaus.hook import URLhausHook

KEY = UrlhausSimulator.settings["api_key"]
EVIL, ABUSED = address("203.0.113.7"), domain("code.example")
URL = Observable(type=ObservableType.URL, value="http://203.0.113.7/a?b=c&d=%2F+e")
SHA256 = Observable(type=ObservableType.FILE, value="0123456789abcdef" * 4)
MD5 = Observable(type=ObservableType.FILE, value="0123456789abcdef" * 2)
SEED = {
    "urls": [
        {
            "url": URL.value,
            "tags": ["elf"],
            "payloads": [{"sha256": SHA256.value, "md5": MD5.value, "signature": "Mirai", "file_type": "elf"}],
        },
        {"url": "http://203.0.113.7/old", "url_status": "offline"},
        {"url": "https://code.example/somebody/repository"},
    ],
    "blacklists": {"code.example": {"spamhaus_dbl": "abused_legit_malware"}},
}
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> URLhausHook:
    connect(monkeypatch, "urlhaus_default", "urlhaus", sim, password=KEY)
    sim.seed("urlhaus", SEED)
    return URLhausHook()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault "timeout": less patience than the simulator's delay."""
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.2)


def test_each_type_has_its_question(hook: URLhausHook, sim: SimServer) -> None:
    asked = [EVIL, ABUSED, URL, SHA256, MD5]
    answers = [hook.lookup(o) for o in asked]
    assert [(a.observable, a.answer, a.score) for a in answers] == [
        (o, Answer.LISTED, score) for o, score in zip(asked, (90, 40, 90, 95, 95), strict=True)
    ]
    assert answers[0].summary == "2 malware URLs, 1 online"
    assert answers[1].summary == "1 malware URL, 1 online, Spamhaus DBL: abused_legit_malware"
    assert answers[2].tags == ("Mirai", "elf")
    assert [call["path"] for call in sim.calls("urlhaus")] == [
        f"/v1/{operation}/" for operation in ("host", "host", "url", "payload", "payload")
    ]


def test_nothing_found(hook: URLhausHook) -> None:
    for clean in (address("203.0.113.99"), domain("clean.example"), MD5.model_copy(update={"value": "a" * 32})):
        answer = hook.lookup(clean)
        assert (answer.answer, answer.score) == (Answer.NOT_LISTED, 0)


def test_the_misspelt_key(hook: URLhausHook, sim: SimServer) -> None:
    sim.configure("urlhaus", misspell_status=True)
    assert hook.lookup(EVIL).score == 90


def test_a_value_that_urlhaus_cannot_take_costs_the_item(hook: URLhausHook) -> None:
    with pytest.raises(Rejected, match="invalid_host"):
        hook.lookup(address("2001:db8::1"))


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults(
    hook: URLhausHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("urlhaus", kind, **options)
    with pytest.raises(error) as caught:
        hook.lookup(EVIL)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert KEY not in str(caught.value)


def test_the_connection_test_asks_about_a_known_resolver(hook: URLhausHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "urlhaus: the key works; 8.8.8.8 has no record")
    assert len(sim.calls("urlhaus")) == 1


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 401}, "Wrong key"),
        ("status", {"status": 403}, "Wrong key"),
        ("html", {"status": 403}, "Missing grant"),  # a gateway's, and says nothing about the key
        ("merge", {"patch": {"query_status": "unknown_auth_key"}}, "Wrong key"),
        ("merge", {"patch": {"query_status": "odd"}}, "Wrong host"),
        ("status", {"status": 429}, "quota is used up"),
        ("status", {"status": 503}, "the vendor is down"),
        ("html", {"status": 200}, "Wrong host"),
        ("status", {"status": 404}, "Wrong host"),
        ("reset", {}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: URLhausHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("urlhaus", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": urlhaus")[0]


def test_a_wrong_key(sim: SimServer, hook: URLhausHook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "urlhaus_default", "urlhaus", sim, password="another-key-1")
    passed, message = URLhausHook().test_connection()
    assert (passed, message.split(":")[0]) == (False, "Wrong key")


def test_the_key_is_in_no_line_and_no_error(
    hook: URLhausHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with everything_logged() as lines:
        hook.lookup(EVIL)
        for status in (400, 401, 403, 429, 500):
            sim.fault("urlhaus", "status", status=status, detail=f"the key {KEY} is odd")
            with pytest.raises(VendorError) as caught:
                hook.lookup(EVIL)
            assert KEY not in str(caught.value)
        hook.test_connection()
    assert lines
    assert not [line for line in [*lines, capsys.readouterr().out] if KEY in line]
