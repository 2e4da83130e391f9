"""AbuseIPDB's hook, over HTTP against the simulator."""

from __future__ import annotations

from typing import Any

import pytest
from vendors.abuseipdb import api
from vendors.abuseipdb.hook import AbuseIPDBHook

from include.simulators.abuseipdb import AbuseIpdbSimulator
from include.soar.errors import RateLimited, Rejected, Unavailable, VendorError
from include.soar.model import Answer
from tests.soar.examples import address
from tests.support import SimServer
from tests.vendors import controls
from tests.vendors.controls import everything_logged
from tests.vendors.support import connect

KEY = AbuseIpdbSimulator.settings["api_key"]
EVIL = address("203.0.113.7")
SEED = {
    "addresses": {
        "203.0.113.7": {"abuseConfidenceScore": 92, "totalReports": 31, "numDistinctUsers": 7, "countryCode": "ZZ"},
        "2001:db8::1": {"abuseConfidenceScore": 40, "totalReports": 2, "numDistinctUsers": 1},
    },
    "public_networks": ["203.0.113.0/24", "2001:db8::/32"],
}
#: A request that the simulator holds back would be counted in the middle of the next test: it is handled first.
FAULTS = [
    *(fault for fault in controls.FAULTS if fault.id != "timeout"),
    pytest.param("hang_after_commit", {"seconds": 1.0}, Unavailable, id="timeout"),
]


@pytest.fixture
def hook(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> AbuseIPDBHook:
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password=KEY)
    sim.seed("abuseipdb", SEED)
    return AbuseIPDBHook()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the fault "timeout": less patience than the simulator's delay."""
    monkeypatch.setattr(api, "TIMEOUT_SECONDS", 0.3)


def test_check(hook: AbuseIPDBHook, sim: SimServer) -> None:
    listed = hook.check(EVIL)
    assert (listed.answer, listed.score, listed.observable) == (Answer.LISTED, 92, EVIL)
    assert hook.check(address("2001:db8::1")).score == 40
    unknown = hook.check(address("203.0.113.99"))
    assert (unknown.answer, unknown.score) == (Answer.NOT_LISTED, 0)
    assert sim.calls("abuseipdb")[0]["query"] == [["ipAddress", "203.0.113.7"], ["maxAgeInDays", "90"]]


def test_the_oldest_report_that_counts(sim: SimServer, hook: AbuseIPDBHook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password=KEY, max_age_days="30")
    patient = AbuseIPDBHook()
    patient.check(EVIL)
    patient.check(EVIL, max_age_days=365)
    assert [dict(c["query"])["maxAgeInDays"] for c in sim.calls("abuseipdb")] == ["30", "365"]


def test_a_spent_day_says_when_it_returns(hook: AbuseIPDBHook, sim: SimServer) -> None:
    sim.configure("abuseipdb", daily_limits={"check": 1})
    hook.check(EVIL)
    with pytest.raises(RateLimited) as caught:
        hook.check(EVIL)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 86400
    assert "Daily rate limit of 1 requests exceeded" in str(caught.value)


@pytest.mark.parametrize("days", [0.5, 366, 100000])
def test_an_age_that_the_vendor_refuses_costs_the_item(hook: AbuseIPDBHook, days: Any) -> None:
    with pytest.raises(Rejected, match="max age in days"):
        hook.check(EVIL, max_age_days=days)


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults(
    hook: AbuseIPDBHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("abuseipdb", kind, **options)
    with pytest.raises(error) as caught:
        hook.check(EVIL)
    assert type(caught.value) is error
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 7
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [402, 422])
def test_what_the_vendor_refuses_costs_the_item(hook: AbuseIPDBHook, sim: SimServer, status: int) -> None:
    sim.fault("abuseipdb", "status", status=status)
    with pytest.raises(Rejected):
        hook.check(EVIL)


def test_the_connection_test_costs_one_check_and_tells_the_quota(hook: AbuseIPDBHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "abuseipdb: the key works; 999 of 1000 checks left today")
    assert len(sim.calls("abuseipdb")) == 1


@pytest.mark.parametrize(
    ("kind", "options", "cause"),
    [
        ("status", {"status": 401}, "Wrong key"),
        ("status", {"status": 403}, "Missing grant"),
        ("status", {"status": 429}, "quota is used up"),
        ("status", {"status": 503}, "the vendor is down"),
        ("html", {"status": 200}, "Wrong host"),  # a hotel's login page
        ("status", {"status": 404}, "Wrong host"),
        ("reset", {}, "the vendor is down"),
    ],
)
def test_the_connection_test_names_the_cause(
    hook: AbuseIPDBHook, sim: SimServer, kind: str, options: dict[str, Any], cause: str
) -> None:
    sim.fault("abuseipdb", kind, **options)
    passed, message = hook.test_connection()
    assert not passed
    assert cause in message.split(": abuseipdb")[0]


def test_a_wrong_key(sim: SimServer, hook: AbuseIPDBHook, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password="another-key-1")
    passed, message = AbuseIPDBHook().test_connection()
    assert (passed, message.split(":")[0]) == (False, "Wrong key")


def test_the_key_is_in_no_line_and_no_error(
    hook: AbuseIPDBHook, sim: SimServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with everything_logged() as lines:
        hook.check(EVIL)
        for status in (401, 422, 429, 500):
            sim.fault("abuseipdb", "status", status=status, detail=f"the key {KEY} is odd")
            with pytest.raises(VendorError) as caught:
                hook.check(EVIL)
            assert KEY not in str(caught.value)
        sim.fault("abuseipdb", "reset")
        with pytest.raises(Unavailable):
            hook.check(EVIL)
        hook.test_connection()
    printed = capsys.readouterr().out
    assert lines
    assert "daily quota is spent" in printed
    assert not [line for line in [*lines, printed] if KEY in line]
