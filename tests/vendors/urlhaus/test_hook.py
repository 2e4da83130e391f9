"""URLhaus's hook, over HTTP against the simulator."""

from __future__ import annotations

import pytest

from include.simulators.urlhaus import UrlhausSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import Rejected
from tests.soar.examples import address, domain
from tests.support import SimServer
from tests.vendors.support import connect
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


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> URLhausHook:
    connect(monkeypatch, "urlhaus_default", "urlhaus", sim, password=KEY)
    sim.seed("urlhaus", SEED)
    return URLhausHook()


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


def test_the_connection_test_asks_about_a_known_resolver(hook: URLhausHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "urlhaus: the key works; 8.8.8.8 has no record")
    assert len(sim.calls("urlhaus")) == 1
