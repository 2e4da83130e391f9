"""OTX's hook, over HTTP against the simulator."""

from __future__ import annotations

import pytest

from include.simulators.alienvault_otx import AlienvaultOtxSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected
from tests.soar.examples import address, domain
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.alienvault_otx.hook import AlienVaultOTXHook

KEY = AlienvaultOtxSimulator.settings["api_key"]
EVIL = address("203.0.113.7")
URL = Observable(type=ObservableType.URL, value="http://evil.example/a b?c=%2F/d#e".replace(" ", "+"))
FILE = Observable(type=ObservableType.FILE, value="0123456789abcdef" * 4)
SEED = {
    "indicators": {
        EVIL.value: {"pulses": [{"author": "a", "tags": ["mirai"], "attack_ids": ["T1110"]}, {"author": "b"}]},
        "2001:db8::1": {"pulses": [{}]},
        "evil.example": {"pulses": [{}], "validation": [{"source": "whitelist", "name": "Whitelisted domain"}]},
        "www.evil.example": {"pulses": [{}]},
        URL.value: {"pulses": [{}]},
        FILE.value: {"pulses": [{"malware_families": ["Gozi"]}]},
    },
    "public_networks": ["203.0.113.0/24", "2001:db8::/32"],
}


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> AlienVaultOTXHook:
    connect(monkeypatch, "alienvault_otx_default", "alienvault_otx", sim, password=KEY)
    sim.seed("alienvault_otx", SEED)
    return AlienVaultOTXHook()


def test_each_type_is_asked_about_in_the_vendors_words(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    asked = [EVIL, address("2001:db8::1"), domain("www.evil.example"), URL, FILE]
    answers = [hook.lookup(o) for o in asked]
    assert [(a.observable, a.answer, a.score) for a in answers] == [
        (o, Answer.LISTED, 30 if o is EVIL else 20) for o in asked
    ]
    assert (answers[0].tags, answers[0].techniques) == (("mirai",), ("T1110",))
    assert answers[-1].tags == ("Gozi",)
    kinds = [call["path"].split("/")[4] for call in sim.calls("alienvault_otx")]
    assert kinds == ["IPv4", "IPv6", "hostname", "url", "file"]
    assert [call["query"] for call in sim.calls("alienvault_otx")] == [[]] * 5


def test_the_whitelist_wins(hook: AlienVaultOTXHook) -> None:
    answer = hook.lookup(domain("evil.example"))
    assert (answer.answer, answer.score) == (Answer.NOT_LISTED, 0)
    assert "Whitelisted domain" in answer.summary


@pytest.mark.parametrize("status", [200, 404])
def test_a_value_that_otx_never_saw(hook: AlienVaultOTXHook, sim: SimServer, status: int) -> None:
    sim.configure("alienvault_otx", unknown_status=status)
    answer = hook.lookup(address("203.0.113.99"))
    assert (answer.answer, answer.score) == (Answer.NOT_LISTED, 0)


def test_a_private_address_costs_the_item(hook: AlienVaultOTXHook) -> None:
    with pytest.raises(Rejected, match="private"):
        hook.lookup(address("10.0.0.1"))


def test_a_spent_hour_names_no_time(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    sim.configure("alienvault_otx", hourly_limit=1)
    hook.lookup(EVIL)
    with pytest.raises(RateLimited) as caught:
        hook.lookup(EVIL)
    assert caught.value.retry_after is None


def test_a_page_that_is_not_found_is_not_clean(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    sim.fault("alienvault_otx", "html", status=404)
    with pytest.raises(Rejected):
        hook.lookup(EVIL)


def test_the_connection_test_asks_whose_key_it_is(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "alienvault_otx: the key works; it is demo-analyst's")
    assert [call["path"] for call in sim.calls("alienvault_otx")] == ["/api/v1/users/me"]
