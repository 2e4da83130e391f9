"""ThreatFox's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulators.threatfox import ThreatfoxSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable, VendorError
from tests.soar.examples import address, domain
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.threatfox import api
from threat_response.vendors.threatfox.hook import ThreatFoxHook

KEY = ThreatfoxSimulator.settings["api_key"]
EVIL, NAME = address("203.0.113.7"), domain("evil.example")
URL = Observable(type=ObservableType.URL, value="http://evil.example/gate.php?a=b")
SHA256 = Observable(type=ObservableType.FILE, value="0123456789abcdef" * 4)
MD5 = Observable(type=ObservableType.FILE, value="0123456789abcdef" * 2)
SEED = {
    "iocs": [
        {
            "ioc": "203.0.113.7:443",
            "malware_printable": "Cobalt Strike",
            "confidence_level": 75,
            "tags": ["c2"],
            "samples": [{"sha256": SHA256.value, "md5": MD5.value}],
        },
        {"ioc": "203.0.113.77:443", "confidence_level": 100},
        {"ioc": NAME.value, "confidence_level": 60},
        {"ioc": URL.value, "confidence_level": 90},
    ]
}
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> ThreatFoxHook:
    connect(monkeypatch, "threatfox_default", "threatfox", sim, password=KEY)
    sim.seed("threatfox", SEED)
    return ThreatFoxHook()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault "timeout": less patience than the simulator's delay."""
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.2)


def test_each_type_has_its_question(hook: ThreatFoxHook, sim: SimServer) -> None:
    asked = [EVIL, NAME, URL, SHA256, MD5]
    answers = [hook.lookup(o) for o in asked]
    assert [(a.observable, a.answer, a.score) for a in answers] == [
        (o, Answer.LISTED, score) for o, score in zip(asked, (75, 60, 90, 75, 75), strict=True)
    ]
    assert (answers[0].tags, answers[0].summary) == (("Cobalt Strike", "c2"), "1 indicator, botnet_cc, Cobalt Strike")
    assert [call["body"]["query"] for call in sim.calls("threatfox")] == ["search_ioc"] * 3 + ["search_hash"] * 2


def test_nothing_found(hook: ThreatFoxHook) -> None:
    for clean in (address("203.0.113.99"), domain("clean.example"), MD5.model_copy(update={"value": "a" * 32})):
        answer = hook.lookup(clean)
        assert (answer.answer, answer.score) == (Answer.NOT_LISTED, 0)


def test_an_indicator_dies_of_age(hook: ThreatFoxHook, sim: SimServer) -> None:
    sim.configure("threatfox", expires_after_days=-1)
    assert hook.lookup(EVIL).answer is Answer.NOT_LISTED


def test_a_term_that_threatfox_cannot_take_costs_the_item(hook: ThreatFoxHook, sim: SimServer) -> None:
    sim.fault("threatfox", "merge", patch={"query_status": "illegal_search_term", "data": None})
    with pytest.raises(Rejected, match="illegal_search_term"):
        hook.lookup(EVIL)


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults(
    hook: ThreatFoxHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("threatfox", kind, **options)
    with pytest.raises(error) as caught:
        hook.lookup(EVIL)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert KEY not in str(caught.value)


def test_the_connection_test_asks_about_a_known_resolver(hook: ThreatFoxHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "threatfox: the key works; a search for 8.8.8.8 finds nothing")
    assert len(sim.calls("threatfox")) == 1


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
    hook: ThreatFoxHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("threatfox", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": threatfox")[0]


def test_a_wrong_key(sim: SimServer, hook: ThreatFoxHook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "threatfox_default", "threatfox", sim, password="another-key-1")
    passed, message = ThreatFoxHook().test_connection()
    assert (passed, message.split(":")[0]) == (False, "Wrong key")


def test_the_key_is_in_no_line_and_no_error(
    hook: ThreatFoxHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with everything_logged() as lines:
        hook.lookup(EVIL)
        for status in (400, 401, 403, 429, 500):
            sim.fault("threatfox", "status", status=status, detail=f"the key {KEY} is odd")
            with pytest.raises(VendorError) as caught:
                hook.lookup(EVIL)
            assert KEY not in str(caught.value)
        hook.test_connection()
    assert lines
    assert not [line for line in [*lines, capsys.readouterr().out] if KEY in line]
