"""Small valid things for the core's tests: each function gives one, with everything that does not matter filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.soar.gate.gate import Gate, gate_of
from include.soar.gate.index_file import shipped
from include.soar.model import (
    Answer,
    Finding,
    Mention,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    Role,
    Severity,
    Sighting,
    Window,
)
from include.soar.policy.file import load_policy
from include.soar.policy.rules import Policy

CONFIG = Path(__file__).resolve().parents[2] / "include/config"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def address(value: str) -> Observable:
    return Observable(type=ObservableType.IPV6 if ":" in value else ObservableType.IPV4, value=value)


def domain(value: str) -> Observable:
    return Observable(type=ObservableType.DOMAIN, value=value)


def window(start: str = "2026-11-24T10:00", end: str = "2026-11-24T11:00") -> Window:
    return Window(start_at=at(start), end_at=at(end), chosen_by="a test")


def finding(uid: str = "f1", *, severity: Severity = Severity.HIGH, seen: datetime = NOW, **more: Any) -> Finding:
    return Finding(
        **{
            "uid": uid,
            "source": "akamai_api_security",
            "vendor_id": f"vendor-{uid}",
            "title": "SQL injection",
            "severity": severity,
            "detected_at": seen,
            **more,
        }
    )


def mention(text: str, role: Role = Role.ATTACKER, field: str = "attacker.IP") -> Mention:
    return Mention(field=field, role=role, text=text)


def sighting(uid: str = "f1", role: Role = Role.ATTACKER, seen: datetime = NOW) -> Sighting:
    return Sighting(finding_uid=uid, field="a.field", role=role, seen_at=seen)


def observed(observable: Observable, *sightings: Sighting) -> Observed:
    return Observed(observable=observable, sightings=sightings or (sighting(),))


def reputation(
    observable: Observable,
    score: int | None = 100,
    *,
    provider: str = "abuseipdb",
    answer: Answer | None = None,
    known_at: datetime = NOW,
) -> Reputation:
    """Listed above zero, not listed at zero; without a score ``answer`` says which silence it is."""
    if answer is None:
        answer = Answer.LISTED if score else Answer.NOT_LISTED
    return Reputation(observable=observable, provider=provider, answer=answer, score=score, known_at=known_at)


def policy(tmp_path: Path | None = None, changes: str = "") -> Policy:
    """The demo's policy (documentation ranges stand for the Internet), with YAML ``changes`` laid over it."""
    layers = [CONFIG / "policy.yaml", CONFIG / "policy.demo.yaml"]
    if changes:
        assert tmp_path is not None
        (tmp_path / "changes.yaml").write_text(changes, encoding="utf-8")
        layers.append(tmp_path / "changes.yaml")
    return load_policy(layers)


def gate_at(rules: Policy, now: datetime = NOW) -> Gate:
    """The policy's gate with the installed warning lists."""
    return gate_of(rules.never_block, shipped(), now)
