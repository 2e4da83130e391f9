"""Which values a provider is asked about first, and which may take the quota that is kept for possible blocks."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.soar.enrich.sift import Source, sift
from include.soar.model import Observable, ObservableType, Role, Severity
from tests.soar.deciding import case_of_observed
from tests.soar.examples import NOW, address, finding, gate_at, observed, policy, sighting

ABUSEIPDB = Source("abuseipdb", frozenset({ObservableType.IPV4}), True)
FRESH, OLD, CLAIMED, OF_LITTLE, AGAIN = (address(f"45.33.32.{n}") for n in range(5))


def can_act(now: datetime) -> list[Observable]:
    rules = policy()
    days = timedelta(days=rules.block.days[ObservableType.IPV4] or 0)
    findings = [finding("new"), finding("old", seen=NOW - days), finding("low", severity=Severity.LOW)]
    case = case_of_observed(
        findings,
        [
            observed(OLD, sighting("old", seen=NOW - days)),
            observed(AGAIN, sighting("old", seen=NOW - days), sighting("new")),
            observed(CLAIMED, sighting("new", Role.CLAIM)),
            observed(OF_LITTLE, sighting("low")),
            observed(FRESH, sighting("new")),
        ],
    )
    sifted = sift(case, rules, gate_at(rules, now), ABUSEIPDB, now=now)
    assert set(sifted.to_ask) == {FRESH, OLD, CLAIMED, OF_LITTLE, AGAIN}
    assert set(sifted.to_ask[: len(sifted.can_act)]) == sifted.can_act
    return sorted(sifted.can_act, key=lambda observable: observable.key)


def test_what_can_become_no_block_takes_no_quota_from_what_can() -> None:
    """1a: also what was last seen so long ago that it would be refused as expired, as in a backfill."""
    assert can_act(NOW) == [FRESH, AGAIN]
    assert can_act(NOW - timedelta(seconds=1)) == [FRESH, OLD, AGAIN]
