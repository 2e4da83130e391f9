"""Which values a provider is asked about first, and which may take the quota that is kept for possible blocks."""

from __future__ import annotations

from datetime import datetime, timedelta

from include.soar.enrich.sift import Source, sift, unfinished
from include.soar.judge.decision import decide
from include.soar.model import Answer, Observable, ObservableType, Role, Severity
from tests.soar.deciding import basis, batches, case_of_observed
from tests.soar.examples import NOW, address, finding, gate_at, observed, policy, reputation, sighting

ABUSEIPDB = Source("abuseipdb", frozenset({ObservableType.IPV4}), True)
FRESH, OLD, CLAIMED, OF_LITTLE, AGAIN = (address(f"45.33.32.{n}") for n in range(5))


def can_act(now: datetime) -> list[Observable]:
    rules = policy()
    days = timedelta(hours=rules.response.longest_block(ObservableType.IPV4) or 0)
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


def test_a_finding_of_which_only_claims_were_not_asked_about_is_finished() -> None:
    """An attacker claims any number of addresses: his findings were carried over for days, in the places of others."""
    case = case_of_observed(
        [finding("claims"), finding("attacked"), finding("low", severity=Severity.LOW)],
        [
            observed(CLAIMED, sighting("claims", Role.CLAIM)),
            observed(FRESH, sighting("attacked"), sighting("claims", Role.MENTIONED), sighting("low")),
        ],
    )
    later = NOW + timedelta(hours=9)
    silent = [
        reputation(one, None, answer=Answer.NOT_CHECKED).model_copy(update={"retry_at": later})
        for one in (CLAIMED, FRESH)
    ]
    left = unfinished(case, decide(case, batches(silent), basis(policy(), NOW)).decision)
    assert [(one.finding.uid, one.providers, one.retry_at) for one in left] == [("attacked", ("abuseipdb",), later)]
