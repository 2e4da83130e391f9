"""From findings and verdicts to what is acted on, for how long, and what is refused and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType

from include.soar.gate.asn import AsnTable
from include.soar.gate.gate import Gate
from include.soar.judge import caps
from include.soar.judge.traffic import Statement, behind, by_address, good_users
from include.soar.judge.verdict import History, Inputs, gather, judge, lacking_evidence
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
from include.soar.policy.rules import Policy


def decide(
    findings: Sequence[Finding],
    observed: Sequence[Observed],
    reputations: Mapping[str, Sequence[Reputation]],
    policy: Policy,
    *,
    gate: Gate,
    asns: AsnTable | None,
    history: Mapping[str, History] = MappingProxyType({}),
    minimum_severity: Severity | None = None,
    silent_providers: Sequence[str] = (),
    now: datetime,
) -> Decision:
    """
    From findings and answers to a decision.

    :param reputations: by observable key
    :param gate: what the policy protects at ``now``
    :param asns: the table that ``block.asn_table`` names
    :param history: by observable key, what we decided about it over earlier findings
    :param minimum_severity: overrides the policy's
    :param now: an observable whose block would already be over is not planned
    :return: where a cap is exceeded nothing is to be acted on, and all of it is held
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
    statements = by_address(findings)
    verdicts: list[Verdict] = []
    indicators: list[Indicator] = []
    refusals: list[Refusal] = []
    for item in observed:
        key = item.observable.key
        inputs = gather(
            item,
            by_uid,
            reputations.get(key, ()),
            history=history.get(key),
            hit=gate.check(item.observable),
        )
        verdict = judge(inputs, policy)
        verdicts.append(verdict)
        outcome = _indicator(item, inputs, verdict, by_uid, high, statements, policy, now)
        if isinstance(outcome, Indicator):
            indicators.append(outcome)
        elif outcome is not None:
            refusals.append(outcome)
    looked = caps.check_caps(indicators, statements, policy.block, asns=asns)
    return Decision(
        policy_digest=policy.digest,
        priorities=priorities,
        verdicts=tuple(verdicts),
        indicators=() if looked.reasons else tuple(indicators),
        held=tuple(indicators) if looked.reasons else (),
        hold_reasons=looked.reasons,
        remarks=looked.remarks,
        refusals=tuple(refusals),
        silent_providers=tuple(silent_providers),
    )


def _compared(severity: Severity, floor: Severity) -> str:
    return "at least" if severity.rank >= floor.rank else "below"


def _indicator(
    item: Observed,
    inputs: Inputs,
    verdict: Verdict,
    by_uid: Mapping[str, Finding],
    high: set[str],
    statements: dict[str, list[Statement]],
    policy: Policy,
    now: datetime,
) -> Indicator | Refusal | None:
    """What to do about one observable: act, refuse and say why, or (nothing speaks for acting) nothing."""
    uids = tuple(sorted({s.finding_uid for s in item.sightings} & high))
    if not uids:
        return None
    seen = [s for s in item.sightings if s.finding_uid in uids]
    # Only what was seen in such a role counts: a claim neither adds weight nor prolongs a block.
    acting = [s for s in seen if s.role in policy.block.roles]
    malicious = verdict.standing is Standing.MALICIOUS
    # Nobody is asked about what is protected, so that there may be no verdict; who attacked is told all the same.
    if not malicious and not (inputs.hit and acting):
        return None

    def refuse(layer: str, entry: str, reason: str, *, list_name: str = "") -> Refusal:
        return Refusal(
            observable=item.observable,
            layer=layer,
            list_name=list_name,
            entry=entry,
            reason=reason,
            finding_uids=uids,
        )

    if hit := inputs.hit:
        return refuse(hit.layer, hit.entry, hit.reason, list_name=hit.list_name)
    if wide := caps.width_refused(item.observable, policy.block):
        return refuse("width", *wide, list_name="block.widest_prefix")
    roles = sorted({s.role for s in acting})
    if not roles:
        played = ", ".join(sorted({s.role.value for s in seen}))
        return refuse("role", played, f"only seen as {played}: block.roles allows {_listing(policy.block.roles)}")
    if shared := good_users(behind(item.observable, statements), policy.block.shared_address):
        return refuse("shared", *shared, list_name="block.shared_address")
    worst = max((by_uid[s.finding_uid].severity for s in acting), key=lambda severity: severity.rank)
    if why := lacking_evidence(inputs, worst, policy):
        return refuse("evidence", "block.evidence", why)
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
