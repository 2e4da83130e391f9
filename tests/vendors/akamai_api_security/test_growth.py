"""Incidents of API Security that grow after a window has read them: what was added is read once (issue 9, 13)."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import update

from include.simulators.demo_feed import build_demo
from include.simulators.demo_feed.cast import STUFFERS
from include.soar.extract.case import case_of
from include.soar.ledger.tables import FindingRow
from include.soar.ledger.windows import CLAIM_LASTS
from include.soar.model import CaseBatch, FetchBatch, Finding, ReputationBatch, Role, Severity
from tests.soar.deciding import decided
from tests.soar.examples import address, policy, reputation
from tests.support import SimServer
from tests.vendors.akamai_api_security.test_hook import neosec
from tests.vendors.akamai_api_security.test_operators import KNOBS, PRODUCT, START, home, incident, names, run, seed
from tests.vendors.support import connect
from threat_response.runtime import settings
from threat_response.stages.extract import Extract
from threat_response.vendors.akamai_api_security.operators import AkamaiApiSecurityFetchOperator

__all__ = ["home"]


def attackers_of(finding: Finding) -> list[str]:
    return [m.text for m in finding.mentions if m.role is Role.ATTACKER]


def attackers(batch: FetchBatch) -> dict[str, list[str]]:
    return {f.vendor_id: sorted(attackers_of(f)) for f in batch.findings}


def time_of(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def grows(number: int, minutes: float, *growths: tuple[float, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """An incident that is detected and later changes; the simulator shows each state from its time on."""
    states = [{"at": time_of(later), **changes} for later, changes in growths]
    return incident(number, minutes, lastUpdate=time_of(minutes), attackerIps=["203.0.113.1"], _grows=states, **more)


def at_hour(sim: SimServer, hours: float) -> None:
    sim.world.clock.set(START + timedelta(hours=hours))


@pytest.mark.parametrize("update_dates", [True, False], ids=["by last update", "by looking back"])
@pytest.mark.parametrize("later", [90, 60 * 30])
def test_an_incident_that_grows_is_read_again(sim: SimServer, update_dates: bool, later: float) -> None:
    """An attacker added an hour later, within the overlap, or a day later, far behind it; told once."""
    sim.configure(PRODUCT, update_dates=update_dates)
    hour = int(later // 60)
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (later, {"attackerIps": ["198.51.100.7", "198.51.100.8"]})))
    first = run()
    assert attackers(first) == {"i-0001": ["203.0.113.1", "203.0.113.1"]}
    at_hour(sim, hour + 1)
    for _ in range(2):
        grown = run(hour)
        assert attackers(grown) == {"i-0001": ["198.51.100.7", "198.51.100.8"]}
        [finding] = grown.findings
        assert finding.uid == first.findings[0].uid
        assert finding.grown_at == START + timedelta(hours=hour)
        assert finding.detected_at == first.findings[0].detected_at
    at_hour(sim, hour + 2)
    assert names(run(hour + 1)) == []
    # Repeated, the first window gets its own again and nothing of what came later.
    assert attackers(run()) == attackers(first)
    assert run().findings[0].grown_at is None


def test_an_incident_that_becomes_more_severe_is_read_again(sim: SimServer) -> None:
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (300, {"severity": "Critical"}), (400, {"severity": "Low"})) | {"severity": "Low"})
    assert run().findings[0].severity is Severity.LOW
    at_hour(sim, 6)
    [finding] = run(5).findings
    assert (finding.severity, attackers(run(5))) == (Severity.CRITICAL, {"i-0001": ["203.0.113.1", "203.0.113.1"]})
    at_hour(sim, 7)
    assert names(run(6)) == []  # less severe is no news


def test_a_tenant_that_ignores_the_dates_of_the_last_update_is_looked_back_on(sim: SimServer) -> None:
    """It gave every record that there ever was, in every run, until that was too much to keep."""
    sim.configure(PRODUCT, update_dates="ignored")
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (300, {"attackerIps": ["198.51.100.7"]})), *(grows(n, -30_000 - n) for n in range(2, 402)))
    run()
    at_hour(sim, 6)
    before = len(sim.calls(PRODUCT))
    assert attackers(run(5)) == {"i-0001": ["198.51.100.7"]}
    assert len(sim.calls(PRODUCT)) - before < 12


def test_a_change_that_adds_nobody_is_no_news(sim: SimServer) -> None:
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (90, {"status": "resolved"}), (100, {"description": "an analyst looked"})))
    run()
    at_hour(sim, 2)
    assert names(run(1)) == []


def test_what_was_detected_before_our_first_window_is_left_alone(sim: SimServer) -> None:
    """An analyst who resolves last week's incidents on the day of the installation opens no incident of ours."""
    at_hour(sim, 1)
    seed(sim, grows(1, -3000, (30, {"status": "resolved"})))
    assert names(run()) == []
    at_hour(sim, 6)
    assert names(run(5)) == []


@pytest.mark.parametrize("update_dates", [True, False], ids=["by last update", "by looking back"])
@pytest.mark.parametrize("hours", [1, 5, 40], ids=["just before", "behind the overlap", "long before"])
def test_a_backfill_of_before_our_first_window_reads_its_events(sim: SimServer, update_dates: bool, hours: int) -> None:
    """They were taken for those of before our time, and a backfill of API Security gave nothing."""
    sim.configure(PRODUCT, update_dates=update_dates)
    at_hour(sim, 1)
    changed = {"lastUpdate": time_of(30), "status": "resolved"}
    seed(sim, incident(1, 10), incident(2, 20 - 60 * hours), incident(3, 30 - 60 * hours) | changed)
    # What arrived late within the overlap is the first window's too.
    assert set(names(run())) == {"i-0001"} | ({"i-0002", "i-0003"} if hours == 1 else set())
    for _ in range(2):
        backfilled = run(-hours)
        assert names(backfilled) == ["i-0002", "i-0003"]
        assert [f.grown_at for f in backfilled.findings] == [None, None]
        assert extracted(backfilled) == attackers(backfilled)


def test_what_an_earlier_version_has_read_does_not_grow_by_its_old_attackers(sim: SimServer) -> None:
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (90, {"status": "open"}), (150, {"attackerIps": ["198.51.100.7"]})))
    AkamaiApiSecurityFetchOperator.grows = False
    try:
        run()
    finally:
        AkamaiApiSecurityFetchOperator.grows = True
    at_hour(sim, 2)
    assert names(run(1)) == []
    assert names(run()) == ["i-0001"]
    at_hour(sim, 3)
    assert attackers(run(2)) == {"i-0001": ["198.51.100.7"]}


def test_growing_can_be_turned_off(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, "akamai_api_security_default", PRODUCT, sim, password=KNOBS["user_token"], grown_days=0)
    at_hour(sim, 6)
    seed(sim, grows(1, 10, (300, {"attackerIps": ["198.51.100.7"]})))
    assert names(run(5)) == []
    assert not [c for c in sim.calls(PRODUCT) if "lastUpdateStartDate" in dict(c["query"])]


def test_open_alerts_are_looked_back_on(sim: SimServer, monkeypatch: pytest.MonkeyPatch) -> None:
    neosec(monkeypatch, sim)
    alert = {
        "id": "a1",
        "severity": "High",
        "status": "Open",
        "alert_type": "UserBehaviorAlert",
        "triggered_at": "2026-01-02T03:10:00.000000Z",
        "caller_ips": ["203.0.113.1"],
    }
    seed(sim, alerts=[alert])
    assert attackers(run()) == {"a1": ["203.0.113.1"]}
    seed(sim, alerts=[alert | {"caller_ips": ["203.0.113.1", "198.51.100.7"]}])
    assert attackers(run(7)) == {"a1": ["198.51.100.7"]}
    seed(sim, alerts=[alert | {"status": "Closed", "caller_ips": ["203.0.113.1", "198.51.100.9"]}])
    assert names(run(8)) == []


def test_the_demos_day_has_an_incident_that_grows_once(sim: SimServer) -> None:
    """The credential stuffing of the morning, which goes on two hours later with two more addresses."""
    end = START + timedelta(hours=24)
    sim.seed(PRODUCT, build_demo(end)[PRODUCT])
    grown = []
    for hour in range(24):
        at_hour(sim, hour + 1)
        grown += [f for f in run(hour).findings if f.grown_at]
    assert [attackers_of(f) for f in grown] == [list(STUFFERS[13:15])]
    assert "stuffing" in grown[0].title


def test_who_was_added_is_judged_and_acted_on(sim: SimServer) -> None:
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (300, {"attackerIps": ["203.0.113.9"]})))
    run()
    at_hour(sim, 6)
    batch = run(5)
    case = case_of([batch])
    bad = address("203.0.113.9")
    said = [reputation(bad, 100), reputation(bad, 100, provider="list_feed")]
    answers = {r.provider: ReputationBatch(provider=r.provider, reputations=(r,)).to_json() for r in said}
    decision = decided(case.to_json(), answers, policy(), now=START + timedelta(hours=6)).decision
    [indicator] = decision.indicators
    assert indicator.observable == bad
    assert indicator.last_seen_at == START + timedelta(hours=5)
    assert indicator.finding_uids == (batch.findings[0].uid,)


def extracted(batch: FetchBatch) -> dict[str, list[str]]:
    """What the run's next stage has: the window's from then on."""
    found: Any = {"dag_run": SimpleNamespace(run_type="backfill", run_id="r", dag_id="d"), "params": {}}
    case = CaseBatch.model_validate(Extract(task_id="extract", batches=[batch.to_json()]).execute(found))
    return {f.vendor_id: sorted(set(attackers_of(f))) for f in case.findings}


def test_what_was_added_belongs_to_the_run_that_got_it(sim: SimServer) -> None:
    """A fetch whose run dies before the next stage has its batch does not keep what was added from the later ones."""
    at_hour(sim, 1)
    seed(sim, grows(1, 10, (290, {"attackerIps": ["198.51.100.7"]})))
    assert extracted(run()) == {"i-0001": ["203.0.113.1"]}
    at_hour(sim, 6)
    lost = run(4)
    assert attackers(lost) == {"i-0001": ["198.51.100.7"]}
    assert names(run(5)) == []  # for now it is the other run's
    with settings.ledger().database.session() as session:
        session.execute(update(FindingRow).values(claimed_at=settings.now() - CLAIM_LASTS))
    taken = run(5)
    assert extracted(taken) == {"i-0001": ["198.51.100.7"]}
    # The dead run is repeated: its batch was taken over meanwhile, and so is what it reads now.
    assert extracted(lost) == {}
    assert names(run(4)) == []
    assert extracted(run(5)) == {"i-0001": ["198.51.100.7"]}
    assert extracted(run()) == {"i-0001": ["203.0.113.1"]}
