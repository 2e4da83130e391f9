"""ThreatFox's hook, over HTTP against the simulator."""

from __future__ import annotations

import pytest

from include.simulators.threatfox import ThreatfoxSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import Rejected
from tests.soar.examples import address, domain
from tests.support import SimServer
from tests.vendors.support import connect
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


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> ThreatFoxHook:
    connect(monkeypatch, "threatfox_default", "threatfox", sim, password=KEY)
    sim.seed("threatfox", SEED)
    return ThreatFoxHook()


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


def test_the_connection_test_asks_about_a_known_resolver(hook: ThreatFoxHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "threatfox: the key works; a search for 8.8.8.8 finds nothing")
    assert len(sim.calls("threatfox")) == 1
