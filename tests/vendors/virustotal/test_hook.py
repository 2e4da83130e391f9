"""VirusTotal's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest

from include.simulators.virustotal import VirusTotalSimulator
from include.soar.extract.values import parse_url
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.soar.examples import address, domain
from tests.stages import controls
from tests.stages.controls import everything_logged
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.vendors.virustotal import api
from threat_response.vendors.virustotal.hook import VirusTotalHook

KEY = VirusTotalSimulator.settings["api_key"]
EVIL = address("203.0.113.7")
URL = parse_url("http://Evil.example/a?b=1&c=%20")
SHA256, MD5 = "a1" * 32, "b2" * 16
SEED = {
    "ip_addresses": {
        "203.0.113.7": {"last_analysis_stats": {"malicious": 8, "harmless": 60}, "as_owner": "Example Hosting"},
        "2001:db8::1": {"last_analysis_stats": {"harmless": 70}},
    },
    "domains": {"evil.example": {"last_analysis_stats": {"malicious": 3, "suspicious": 2}}},
    "urls": {"http://evil.example/a?b=1&c=%20": {"last_analysis_stats": {"suspicious": 1}}},
    "files": {SHA256: {"md5": MD5, "last_analysis_stats": {"malicious": 40, "type-unsupported": 9}}},
}
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 1.0}, Unavailable, id="timeout"),
    pytest.param("status", {"status": 424}, Unavailable, id="424"),
    pytest.param("html", {"status": 404}, Unexpected, id="html-404"),
    pytest.param("status", {"status": 400}, Rejected, id="400"),
]


def file(value: str) -> Observable:
    return Observable(type=ObservableType.FILE, value=value)


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> VirusTotalHook:
    connect(monkeypatch, "virustotal_default", "virustotal", sim, password=KEY)
    sim.configure("virustotal", plan="premium")
    sim.seed("virustotal", SEED)
    return VirusTotalHook()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault "timeout": less patience than the simulator's delay."""
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("observable", "answer", "score"),
    [
        (EVIL, Answer.LISTED, 80),
        (address("2001:db8::1"), Answer.NOT_LISTED, 0),
        (domain("evil.example"), Answer.LISTED, 40),
        (URL, Answer.LISTED, 5),
        (file(SHA256), Answer.LISTED, 100),
        (file(MD5), Answer.LISTED, 100),
        (address("203.0.113.99"), Answer.NOT_LISTED, 0),
        (domain("quiet.example"), Answer.NOT_LISTED, 0),
        (parse_url("https://quiet.example/"), Answer.NOT_LISTED, 0),
        (file("c3" * 20), Answer.NOT_LISTED, 0),
    ],
)
def test_lookup(hook: VirusTotalHook, sim: SimServer, observable: Observable, answer: Answer, score: int) -> None:
    reputation = hook.lookup(observable)
    assert (reputation.observable, reputation.answer, reputation.score) == (observable, answer, score)
    assert len(reputation.body_digest) == 64
    assert [(c["method"], c["query"]) for c in sim.calls("virustotal")] == [("GET", [])]


@pytest.mark.parametrize("period", ["minute", "day", "month"])
def test_a_spent_quota_says_neither_which_nor_until_when(hook: VirusTotalHook, sim: SimServer, period: str) -> None:
    sim.configure("virustotal", limits={period: 1})
    hook.lookup(EVIL)
    with pytest.raises(RateLimited, match="Quota exceeded") as caught:
        hook.lookup(EVIL)
    assert caught.value.retry_after is None


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults(
    hook: VirusTotalHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("virustotal", kind, **options)
    with pytest.raises(error) as caught:
        hook.lookup(EVIL)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert KEY not in str(caught.value)


def test_the_quotas_are_those_of_the_key(hook: VirusTotalHook, sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def quotas(**extra: Any) -> list[str]:
        connect(monkeypatch, "virustotal_default", "virustotal", sim, password=KEY, **extra)
        return [str(quota) for quota in VirusTotalHook().quotas]

    assert quotas() == ["4 lookup a minute", "500 lookup a day"]
    # A public key's limits are not the connection's to raise.
    assert quotas(plan="public", calls_per_day="9000") == ["4 lookup a minute", "500 lookup a day"]
    assert quotas(plan="premium") == []
    assert quotas(plan="premium", calls_per_minute="", calls_per_day="20000") == ["20,000 lookup a day"]
    assert quotas(plan="premium", calls_per_minute=300) == ["300 lookup a minute"]
    for wrong in ({"plan": "gold"}, {"plan": "premium", "calls_per_day": "many"}):
        with pytest.raises(Unauthorized, match=r"'gold'|'many'"):
            quotas(**wrong)


def test_the_connection_test_costs_one_lookup(hook: VirusTotalHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "virustotal: the key works; this test cost one lookup")
    assert [c["path"] for c in sim.calls("virustotal")] == ["/api/v3/ip_addresses/8.8.8.8"]


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 401}, "Wrong key"),
        ("status", {"status": 403}, "Missing grant"),
        ("status", {"status": 429}, "quota is used up"),
        ("status", {"status": 503}, "the vendor is down"),
        ("html", {"status": 200}, "Wrong host"),
        ("html", {"status": 404}, "Wrong host"),
        ("reset", {}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: VirusTotalHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("virustotal", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": virustotal")[0]


@pytest.mark.parametrize(("key", "cause"), [("another-key-1", "Wrong key"), (None, "Incomplete or wrong connection")])
def test_a_wrong_key(
    sim: SimServer, hook: VirusTotalHook, monkeypatch: pytest.MonkeyPatch, key: str | None, cause: str
) -> None:
    connect(monkeypatch, "virustotal_default", "virustotal", sim, password=key)
    passed, message = VirusTotalHook().test_connection()
    assert (passed, message.split(":")[0]) == (False, cause)


def test_the_key_is_in_no_line_and_no_error(
    hook: VirusTotalHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with everything_logged() as lines:
        hook.lookup(EVIL)
        for status in (400, 401, 429, 500):
            sim.fault("virustotal", "status", status=status, detail=f"the key {KEY} is odd")
            with pytest.raises(VendorError) as caught:
                hook.lookup(EVIL)
            assert KEY not in str(caught.value)
        sim.fault("virustotal", "reset")
        with pytest.raises(Unavailable):
            hook.lookup(EVIL)
        hook.test_connection()
    assert lines
    assert not [line for line in [*lines, capsys.readouterr().out] if KEY in line]
