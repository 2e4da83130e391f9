"""A small case, its decision, and a task's context, for the tests of stages 4, 5 and 9."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from include.soar.model import (
    Action,
    ActionBatch,
    Answer,
    CaseBatch,
    Decision,
    Finding,
    Indicator,
    Observable,
    ObservableType,
    Observed,
    Outcome,
    Priority,
    Refusal,
    Reputation,
    Role,
    Severity,
    Sighting,
    Standing,
    Verb,
    Verdict,
    Window,
)

NOW = datetime.now(UTC).replace(microsecond=0)
ATTACKER, SECOND, OWN, EVIL = "203.0.113.10", "203.0.113.11", "192.0.2.5", "evil.badware.example"


def observable(value: str) -> Observable:
    if "://" in value:
        return Observable(type=ObservableType.URL, value=value)
    if value.startswith("AS"):
        return Observable(type=ObservableType.ASN, value=value)
    if ":" in value:
        return Observable(type=ObservableType.IPV6, value=value)
    kind = ObservableType.IPV4 if value.replace(".", "").isdigit() else ObservableType.DOMAIN
    return Observable(type=kind, value=value)


def finding(uid: str = "f-1", *, severity: Severity = Severity.HIGH, **more: Any) -> Finding:
    given: dict[str, Any] = {
        "source": "akamai_api_security",
        "vendor_id": f"evt-{uid}",
        "title": f"Credential stuffing {uid}",
        "description": "many logins",
        "detected_at": NOW - timedelta(hours=2),
        "target": "/v2/login",
    }
    return Finding(uid=uid, severity=severity, **{**given, **more})


def case(*findings: Finding, seen: dict[str, list[tuple[str, Role]]] | None = None) -> CaseBatch:
    """:param seen: observable value -> (finding uid, role); by default each finding saw ATTACKER attack"""
    seen = {ATTACKER: [(f.uid, Role.ATTACKER) for f in findings]} if seen is None else seen
    at = {f.uid: f.detected_at for f in findings}
    return CaseBatch(
        window=Window(start_at=NOW - timedelta(hours=3), end_at=NOW, chosen_by="test"),
        findings=findings,
        observed=tuple(
            Observed(
                observable=observable(value),
                sightings=tuple(
                    Sighting(finding_uid=uid, field="attacker.ip", role=role, seen_at=at[uid]) for uid, role in places
                ),
            )
            for value, places in seen.items()
        ),
    )


def decision(
    batch: CaseBatch,
    *,
    standing: Standing = Standing.MALICIOUS,
    low: tuple[str, ...] = (),
    refusals: tuple[Refusal, ...] = (),
    silent: tuple[str, ...] = (),
) -> Decision:
    """Every observable has this standing, and the malicious ones are acted on; ``low`` names findings without."""
    verdicts, indicators = [], []
    for item in batch.observed:
        reputation = Reputation(
            observable=item.observable,
            provider="abuseipdb",
            answer=Answer.LISTED,
            score=90,
            summary="12 reports",
            reference=f"https://www.abuseipdb.com/check/{item.observable.value}",
            known_at=NOW,
        )
        verdicts.append(
            Verdict(
                observable=item.observable,
                standing=standing,
                confidence=72,
                reasons=("abuseipdb: malicious (score 90 ≥ 75): 12 reports",),
                reputations=(reputation,),
            )
        )
        if standing is Standing.MALICIOUS:
            indicators.append(
                Indicator(
                    observable=item.observable,
                    confidence=72,
                    reasons=("abuseipdb",),
                    roles=(Role.ATTACKER,),
                    first_seen_at=item.last_seen_at,
                    last_seen_at=item.last_seen_at,
                    expires_at=item.last_seen_at + timedelta(days=7),
                    finding_uids=tuple(s.finding_uid for s in item.sightings),
                )
            )
    return Decision(
        policy_digest="0" * 64,
        priorities=tuple(
            Priority(finding_uid=f.uid, high=f.uid not in low, reason="severity high is at least high")
            for f in batch.findings
        ),
        verdicts=tuple(verdicts),
        indicators=tuple(indicators),
        refusals=refusals,
        silent_providers=silent,
    )


def actions(value: str = ATTACKER, outcome: Outcome = Outcome.BLOCKED, **more: Any) -> dict[str, Any]:
    action = Action(
        control="akamai_client_lists",
        verb=Verb.DENY,
        observable=observable(value),
        outcome=outcome,
        detail=more.pop("detail", "on the list"),
        expires_at=NOW + timedelta(days=7),
        proof={"list": "91596_SOCAUTOBLOCK", "version": 3},
        **more,
    )
    return ActionBatch(control="akamai_client_lists", actions=(action,)).to_json()


class TaskInstance(SimpleNamespace):
    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(run_id: str = "manual__1", **params: Any) -> dict[str, Any]:
    return {
        "dag_run": SimpleNamespace(run_type="manual", run_id=run_id, dag_id="api_threat_response", run_after=NOW),
        "params": params,
        "ti": TaskInstance(pushed={}),
    }
