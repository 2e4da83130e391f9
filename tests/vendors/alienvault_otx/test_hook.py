"""OTX's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulators.alienvault_otx import AlienvaultOtxSimulator
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unavailable, VendorError
from tests.soar.examples import address, domain
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.alienvault_otx import api
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
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
]


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> AlienVaultOTXHook:
    connect(monkeypatch, "alienvault_otx_default", "alienvault_otx", sim, password=KEY)
    sim.seed("alienvault_otx", SEED)
    return AlienVaultOTXHook()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault "timeout": less patience than the simulator's delay."""
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.2)


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


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults(
    hook: AlienVaultOTXHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("alienvault_otx", kind, **options)
    with pytest.raises(error) as caught:
        hook.lookup(EVIL)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert KEY not in str(caught.value)


def test_a_page_that_is_not_found_is_not_clean(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    sim.fault("alienvault_otx", "html", status=404)
    with pytest.raises(Rejected):
        hook.lookup(EVIL)


def test_the_connection_test_asks_whose_key_it_is(hook: AlienVaultOTXHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "alienvault_otx: the key works; it is demo-analyst's")
    assert [call["path"] for call in sim.calls("alienvault_otx")] == ["/api/v1/users/me"]


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 403}, "Wrong key"),
        ("html", {"status": 403}, "Missing grant"),  # a gateway's, and says nothing about the key
        ("status", {"status": 429}, "quota is used up"),
        ("status", {"status": 503}, "the vendor is down"),
        ("html", {"status": 200}, "Wrong host"),
        ("status", {"status": 404}, "Wrong host"),
        ("reset", {}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: AlienVaultOTXHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("alienvault_otx", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": alienvault_otx")[0]


def test_a_wrong_key(sim: SimServer, hook: AlienVaultOTXHook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "alienvault_otx_default", "alienvault_otx", sim, password="another-key-1")
    passed, message = AlienVaultOTXHook().test_connection()
    assert (passed, message.split(":")[0]) == (False, "Wrong key")


def test_the_key_is_in_no_line_and_no_error(
    hook: AlienVaultOTXHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with everything_logged() as lines:
        hook.lookup(EVIL)
        for status in (400, 401, 403, 429, 500):
            sim.fault("alienvault_otx", "status", status=status, detail=f"the key {KEY} is odd")
            with pytest.raises(VendorError) as caught:
                hook.lookup(EVIL)
            assert KEY not in str(caught.value)
        hook.test_connection()
    assert lines
    assert not [line for line in [*lines, capsys.readouterr().out] if KEY in line]
