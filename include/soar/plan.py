"""From findings and verdicts to what is acted on, for how long, and what is refused and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from include.soar.model import (
    Decision,
    Finding,
    Indicator,
    Observed,
    Priority,
    Refusal,
    Reputation,
    Role,
    Severity,
    Standing,
    Verdict,
)
from include.soar.policy import Policy
from include.soar.verdicts import judge, speaks_against


def decide(
    findings: Sequence[Finding],
    observed: Sequence[Observed],
    reputations: Mapping[str, Sequence[Reputation]],
    policy: Policy,
    *,
    minimum_severity: Severity | None = None,
    silent_providers: Sequence[str] = (),
    now: datetime,
) -> Decision:
    """
    From findings and answers to a decision.

    :param reputations: by observable key
    :param minimum_severity: overrides the policy's
    :param now: an observable whose block would already be over is not planned
    """
    floor = minimum_severity or policy.priority.minimum_severity
    priorities = tuple(
        Priority(
            finding_uid=f.uid,
            high=f.severity.rank >= floor.rank,
            reason=f"severity {f.severity.value} is {_compared(f.severity, floor)} {floor.value}",
        )
        for f in findings
    )
    high = {p.finding_uid for p in priorities if p.high}
    by_uid = {f.uid: f for f in findings}
    verdicts: list[Verdict] = []
    indicators: list[Indicator] = []
    refusals: list[Refusal] = []
    for item in observed:
        verdict = judge(item.observable, reputations.get(item.observable.key, ()), policy)
        verdicts.append(verdict)
        outcome = _indicator(item, verdict, by_uid, high, policy, now)
        if isinstance(outcome, Indicator):
            indicators.append(outcome)
        elif outcome is not None:
            refusals.append(outcome)
    if len(indicators) > policy.block.maximum_per_run:
        reason = (
            f"{len(indicators)} indicators in one run are more than block.maximum_per_run "
            f"{policy.block.maximum_per_run}: nothing is blocked until a person has looked"
        )
        refusals.extend(
            Refusal(
                observable=i.observable,
                layer="cap",
                entry="block.maximum_per_run",
                reason=reason,
                finding_uids=i.finding_uids,
            )
            for i in indicators
        )
        indicators = []
    return Decision(
        policy_digest=policy.digest,
        priorities=priorities,
        verdicts=tuple(verdicts),
        indicators=tuple(indicators),
        refusals=tuple(refusals),
        silent_providers=tuple(silent_providers),
    )


def _compared(severity: Severity, floor: Severity) -> str:
    return "at least" if severity.rank >= floor.rank else "below"


def _indicator(
    item: Observed,
    verdict: Verdict,
    by_uid: Mapping[str, Finding],
    high: set[str],
    policy: Policy,
    now: datetime,
) -> Indicator | Refusal | None:
    """What to do about one observable: act, refuse and say why, or (nothing speaks for acting) nothing."""
    uids = tuple(sorted({s.finding_uid for s in item.sightings} & high))
    if not uids or verdict.standing is not Standing.MALICIOUS:
        return None

    def refuse(layer: str, entry: str, reason: str) -> Refusal:
        return Refusal(observable=item.observable, layer=layer, entry=entry, reason=reason, finding_uids=uids)

    if hit := policy.gate.check(item.observable):
        return refuse(hit.layer, hit.entry, hit.reason)
    seen = [s for s in item.sightings if s.finding_uid in uids]
    # From here on only what was seen in such a role counts: a claim neither adds weight nor prolongs a block.
    acting = [s for s in seen if s.role in policy.block.roles]
    roles = sorted({s.role for s in acting})
    if not roles:
        played = ", ".join(sorted({s.role.value for s in seen}))
        return refuse("role", played, f"only seen as {played}: block.roles allows {_listing(policy.block.roles)}")
    listing = [r for r in verdict.reputations if speaks_against(r, policy)]
    top = [r for r in listing if policy.sources[r.provider].top_grade]
    worst = max((by_uid[s.finding_uid].severity for s in acting), key=lambda severity: severity.rank)
    voices = {r.provider for r in listing}
    enough = len(voices) >= 2 or top or worst.rank >= policy.block.with_one_source_from_severity.rank
    if not enough:
        return refuse(
            "evidence", listing[0].provider, f"one source of ordinary grade and severity {worst.value} are not enough"
        )
    days = policy.block.days.get(item.observable.type)
    if days is None:
        return refuse("type", item.observable.type.value, f"block.days names no time for {item.observable.type.value}")
    last_seen = max(s.seen_at for s in acting)
    expires_at = last_seen + timedelta(days=days)
    if expires_at <= now:
        return refuse(
            "expired",
            f"{days} days",
            f"last seen {last_seen:%Y-%m-%d %H:%M}Z, more than {days} days ago: may be someone else's",
        )
    return Indicator(
        observable=item.observable,
        confidence=verdict.confidence,
        reasons=verdict.reasons,
        roles=tuple(roles),
        first_seen_at=min(s.seen_at for s in acting),
        last_seen_at=last_seen,
        # From the last sighting, not from now: a repeated run then asks for the very same block.
        expires_at=expires_at,
        finding_uids=uids,
    )


def _listing(roles: Iterable[Role]) -> str:
    return ", ".join(sorted(role.value for role in roles))
