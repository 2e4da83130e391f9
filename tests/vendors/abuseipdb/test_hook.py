"""AbuseIPDB's hook, over HTTP against the simulator."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from include.simulators.abuseipdb import AbuseIpdbSimulator
from include.soar.enrich.quota import Account
from include.soar.model import Answer, Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, Unexpected, VendorError
from tests.soar.examples import address
from tests.stages import controls
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.transport.asking import Meter
from threat_response.vendors.abuseipdb import api
from threat_response.vendors.abuseipdb.hook import AbuseIPDBHook

KEY = AbuseIpdbSimulator.settings["api_key"]
EVIL = address("203.0.113.7")
WORST = {"abuseConfidenceScore": 100, "totalReports": 900, "numDistinctUsers": 70, "countryCode": "ZZ"}
BLOCK = Observable(type=ObservableType.CIDR, value="203.0.113.0/24")
SIX_HOURS = timedelta(hours=6)
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
    pytest.param("hang_after_commit", {"seconds": 30}, Unavailable, id="timeout"),
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


def test_every_parameter_that_we_send_is_one_of_the_endpoint_s(hook: AbuseIPDBHook, sim: SimServer) -> None:
    """The service ignores the others: a typo would pass as a default. https://docs.abuseipdb.com/"""
    known = {
        "check": {"ipAddress", "maxAgeInDays", "verbose"},
        "check-block": {"network", "maxAgeInDays"},
        "blacklist": {"confidenceMinimum", "limit", "plaintext"},
    }
    block = Observable(type=ObservableType.CIDR, value="203.0.113.0/24")
    for plaintext in (True, False):
        hook.send(api.blacklist_request(confidence_minimum=90, limit=10, plaintext=plaintext))
    hook.send(api.block_request(block, max_age_days=30))
    hook.check(EVIL)
    asked = [(c["path"].rpartition("/")[2], {name for name, _ in c["query"]}) for c in sim.calls("abuseipdb")]
    assert {endpoint for endpoint, _ in asked} == set(known)
    assert [(endpoint, names - known[endpoint]) for endpoint, names in asked if names - known[endpoint]] == []


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


@pytest.mark.parametrize("status", [402, 422])
def test_what_the_vendor_refuses_costs_the_item(hook: AbuseIPDBHook, sim: SimServer, status: int) -> None:
    sim.fault("abuseipdb", "status", status=status)
    with pytest.raises(Rejected):
        hook.check(EVIL)


def test_the_connection_test_costs_one_check_and_tells_the_quota(hook: AbuseIPDBHook, sim: SimServer) -> None:
    assert hook.test_connection() == (True, "abuseipdb: the key works; 999 of 1000 checks left today")
    assert len(sim.calls("abuseipdb")) == 1


def test_a_spent_day_is_logged(hook: AbuseIPDBHook, sim: SimServer, capsys: pytest.CaptureFixture[str]) -> None:
    sim.fault("abuseipdb", "status", status=429, headers={"Retry-After": "7"})
    with pytest.raises(RateLimited):
        hook.check(EVIL)
    assert "daily quota is spent for check; it returns in 7" in capsys.readouterr().out


# --- whole networks ----------------------------------------------------------------------------------------------


def test_check_block(hook: AbuseIPDBHook, sim: SimServer) -> None:
    members = [EVIL, address("203.0.113.99")]
    answers = {r.observable.value: (r.answer, r.score) for r in hook.check_block(BLOCK, members)}
    assert answers == {"203.0.113.7": (Answer.LISTED, 92), "203.0.113.99": (Answer.NOT_LISTED, 0)}
    (call,) = sim.calls("abuseipdb")
    # A free key may not ask about older reports than that, although `check` may.
    assert call["query"] == [["network", "203.0.113.0/24"], ["maxAgeInDays", "30"]]
    assert sim.state("abuseipdb")["used_today"] == {"check-block": 1}


def test_a_network_wider_than_the_plan_allows_is_refused(hook: AbuseIPDBHook) -> None:
    with pytest.raises(Rejected, match="402"):
        hook.check_block(Observable(type=ObservableType.CIDR, value="203.0.0.0/16"), [EVIL])


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
@pytest.mark.usefixtures("impatient")
def test_faults_of_check_block(
    hook: AbuseIPDBHook, sim: SimServer, kind: str, options: dict[str, Any], error: type[VendorError]
) -> None:
    sim.fault("abuseipdb", kind, path="check-block", **options)
    with pytest.raises(error):
        hook.check_block(BLOCK, [EVIL])


# --- the blacklist -----------------------------------------------------------------------------------------------


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("AIRFLOW__THREAT_RESPONSE__HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def listing(sim: SimServer, monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """A hook for a connection with the given extra."""
    worst = {"203.0.113.50": WORST, "203.0.113.51": WORST | {"abuseConfidenceScore": 80}, "2001:db8::bad": WORST}
    sim.seed("abuseipdb", {"addresses": worst, "public_networks": ["203.0.113.0/24", "2001:db8::/32"]})

    def connected(**extra: Any) -> AbuseIPDBHook:
        connect(monkeypatch, "abuseipdb_default", "abuseipdb", sim, password=KEY, **extra)
        return AbuseIPDBHook()

    return connected


def refresh(hook: AbuseIPDBHook, after: timedelta = timedelta(0)) -> dict[str, Any] | None:
    now, rules = settings.now() + after, settings.policy().enrichment
    account = Account("abuseipdb", hook.key_digest, "blacklist")
    # Unlimited here, and without its breaker's memory: what the ledger counts is the operators' test.
    meter = Meter(settings.ledger(), account, (), rules, False, now=lambda: now, wait=lambda _: None)
    return hook.refresh_blacklist(meter, not_before=SIX_HOURS)


def loaded(hook: AbuseIPDBHook, reference: dict[str, Any] | None) -> set[tuple[str, int]]:
    assert reference is not None
    blacklist = hook.load_blacklist(reference)
    assert blacklist.generated_at.isoformat() == reference["generated_at"]
    assert len(blacklist.rows) == reference["rows"]
    return {(address, row.score) for address, row in blacklist.rows.items()}


def downloads(sim: SimServer) -> list[int]:
    return [call["status"] for call in sim.calls("abuseipdb", path="blacklist")]


def test_the_blacklist(listing: Any, sim: SimServer) -> None:
    hook = listing()
    first = refresh(hook)
    assert loaded(hook, first) == {("203.0.113.50", 100), ("2001:db8::bad", 100)}
    assert refresh(hook, SIX_HOURS - timedelta(minutes=1)) == first
    assert sim.state("abuseipdb")["used_today"] == {"blacklist": 1}
    refresh(hook, SIX_HOURS)
    assert sim.state("abuseipdb")["used_today"] == {"blacklist": 2}


def test_the_blacklist_as_plain_text(listing: Any, sim: SimServer) -> None:
    hook = listing(blacklist="plaintext")
    # The simulator ends its last line with no line end, as a cut one does: that address is left out.
    assert loaded(hook, refresh(hook)) == {("203.0.113.50", 100)}
    assert ["plaintext", ""] in sim.calls("abuseipdb")[0]["query"]


def test_a_subscriber_gets_lower_scores_and_a_free_key_silently_does_not(listing: Any, sim: SimServer) -> None:
    free = listing(blacklist_minimum=75)
    assert loaded(free, refresh(free)) == {("203.0.113.50", 100), ("2001:db8::bad", 100)}
    sim.configure("abuseipdb", plan="basic")
    paying = listing(blacklist_minimum=75, blacklist_limit=2000)
    assert ("203.0.113.51", 80) in loaded(paying, refresh(paying)), "another question: the first answer is none"


def test_a_blacklist_that_is_switched_off(listing: Any, sim: SimServer) -> None:
    assert refresh(listing(blacklist="off")) is None
    assert sim.calls("abuseipdb") == []


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_without_a_new_blacklist_the_old_one_goes_on(
    listing: Any, sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: Any
) -> None:
    hook = listing()
    first = refresh(hook)
    sim.fault("abuseipdb", kind, **options)
    monkeypatch.setattr(api, "BLACKLIST_TIMEOUT_SECONDS", 0.3)
    again = refresh(hook, SIX_HOURS)
    assert again is not None
    assert first is not None
    assert {**again, "asked_at": first["asked_at"]} == first
    assert len(downloads(sim)) == 2


@pytest.mark.parametrize(("kind", "options", "error"), FAULTS)
def test_without_any_blacklist_there_is_none(
    listing: Any, sim: SimServer, monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], error: Any
) -> None:
    monkeypatch.setattr(api, "BLACKLIST_TIMEOUT_SECONDS", 0.3)
    sim.fault("abuseipdb", kind, **options)
    hook = listing()
    assert refresh(hook) is None
    # An answer that cannot be read may have cost one of five: it is not asked for again at once.
    assert refresh(hook, timedelta(minutes=5)) is None
    assert len(downloads(sim)) == 1
    monkeypatch.setattr(api, "BLACKLIST_TIMEOUT_SECONDS", 20)
    assert len(loaded(hook, refresh(hook, SIX_HOURS))) == 2


def test_a_blacklist_that_never_ends(listing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LARGEST_BLACKLIST_BYTES", 100)
    assert refresh(listing()) is None


def test_a_copy_that_is_gone_or_not_whole(listing: Any, home: Path) -> None:
    hook = listing()
    reference = refresh(hook)
    assert reference is not None
    (path,) = home.rglob("*.gz")
    for content in (path.read_bytes()[:-10], b"odd", None):
        path.write_bytes(content) if content else path.unlink()
        with pytest.raises(Unexpected, match="the copy cannot be read"):
            hook.load_blacklist(reference)
    (current,) = home.rglob("current.json")
    current.write_bytes(current.read_bytes()[:20])
    assert len(loaded(hook, refresh(hook))) == 2  # as if it had never been asked for


@pytest.mark.parametrize(
    "extra",
    [{"blacklist": "csv"}, {"blacklist_minimum": 24}, {"blacklist_limit": "many"}, {"blacklist_limit": 0}],
    ids=str,
)
def test_a_wrong_field_of_the_connection_is_named(listing: Any, extra: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized, match=next(iter(extra))):
        refresh(listing(**extra))
