"""Each way to evidence at its edge, and how repetition makes a block longer."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.soar.judge.decision import decide_inputs
from include.soar.judge.steps import escalated_hours
from include.soar.judge.verdict import Earlier, gather, voices
from include.soar.model import (
    ENUMERATION,
    FAILED_LOGINS,
    Decision,
    Finding,
    Observed,
    Reputation,
    Role,
    Rung,
    Severity,
    Step,
)
from include.soar.policy.response import Escalation
from include.soar.policy.rules import Policy
from tests.soar.deciding import basis
from tests.soar.examples import NOW, address, domain, finding, observed, policy, reputation, sighting

EVIL = address("203.0.113.7")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def rules(tmp_path: Path, *, short: str = "", ask: str = "", more: str = "") -> Policy:
    """One source is enough to detect; the short block lasts 4 hours and has only the evidence given here."""
    return policy(
        tmp_path,
        f"""
sources: {{doubtful: {{reliability: D, malicious_from: 50, suspicious_from: 50}}}}
response:
  shared_tags: [vpn]
  rungs:
    watch: {{evidence: [{{way: role, roles: [attacker], severity: high}}]}}
    detect: {{evidence: [{{way: any_source, grade: D}}]}}
    block_short: {{hours: 4, up_to_hours: null, evidence: [{short}], ask: [{ask}]}}
    block_long: {{evidence: [{{way: independent_sources, sources: 9, grade: A}}], ask: []}}
{more}
""",
    )


def decide(
    policy: Policy,
    *said: Reputation,
    item: Observed | None = None,
    tags: tuple[str, ...] = (),
    blocked_at: tuple[datetime, ...] = (),
    **of_finding: Any,
) -> Decision:
    findings: list[Finding] = [finding("f1", **of_finding)]
    inputs = gather(
        item or observed(EVIL),
        {f.uid: f for f in findings},
        said,
        history=None,
        hit=None,
        tags=tags,
        earlier=Earlier(blocked_at=blocked_at) if blocked_at else None,
    )
    return decide_inputs(findings, [inputs], basis(policy, NOW))[0]


def steps(decision: Decision) -> dict[Rung, Step]:
    return {step.rung: step for one in decision.indicators for step in one.steps}


# --- repetition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "is_blocked"),
    [
        ([DAY, 2 * DAY], True),
        ([DAY], False),
        ([DAY, 30 * DAY], True),
        ([DAY, 30 * DAY + HOUR], False),  # too long ago
        ([DAY, timedelta()], False),  # what the sighting at hand may have led to itself
    ],
)
def test_repetition_leads_one_rung_up(tmp_path: Path, ago: list[timedelta], is_blocked: bool) -> None:
    own = rules(tmp_path, short="{way: repetition, times: 2, days: 30}")
    found = steps(decide(own, reputation(EVIL), blocked_at=tuple(NOW - one for one in ago)))
    assert (Rung.BLOCK_SHORT in found) is is_blocked
    if is_blocked:
        assert found[Rung.BLOCK_SHORT].ways == ("blocked 2 × within 30 days before",)


def test_repetition_alone_proves_nothing(tmp_path: Path) -> None:
    """Only watched by what is known today: earlier blocks, which may have been mistakes, do not make it a block."""
    own = rules(tmp_path, short="{way: repetition, times: 1, days: 30}")
    assert list(steps(decide(own, blocked_at=(NOW - DAY,)))) == [Rung.WATCH]


# --- escalation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days_ago", "hours"),
    [
        ([], 4),
        ([1], 24),
        ([2, 1], 168),
        ([3, 2, 1], 720),
        ([9, 8, 7, 6, 5, 4], 720),  # the last one counts for all later ones
        ([30], 4),  # clean time: a block fewer
        ([29], 24),
        ([61, 60], 4),  # a level is never below none
        ([33, 32, 31], 168),
        ([400, 1], 24),  # what was long ago gives no credit for later
    ],
)
def test_the_nth_block_is_longer_and_clean_time_makes_it_shorter(days_ago: list[int], hours: float) -> None:
    shipped = Escalation(hours=(4, 24, 168, 720), clean_days=30)
    assert escalated_hours([NOW - n * DAY for n in days_ago], NOW, shipped) == hours


def test_a_policy_without_escalation_adds_no_hours() -> None:
    assert escalated_hours([NOW - DAY], NOW, Escalation(hours=(), clean_days=30)) == 0


@pytest.mark.parametrize(("most", "blocks", "hours"), [(24, 2, 24), (720, 2, 168), (720, 0, 4), ("null", 2, 4)])
def test_a_rung_says_how_far_it_escalates(tmp_path: Path, most: object, blocks: int, hours: float) -> None:
    own = rules(
        tmp_path,
        short="{way: high_score, grade: C, score: 90, fresh_hours: 24, severity: high}",
        more="  escalation: {hours: [4, 24, 168, 720], clean_days: 30}",
    )
    changed = own.response.rungs.block_short.model_copy(update={"up_to_hours": None if most == "null" else most})
    rungs = own.response.rungs.model_copy(update={"block_short": changed})
    own = own.model_copy(update={"response": own.response.model_copy(update={"rungs": rungs})})
    past = tuple(NOW - (n + 1) * DAY for n in range(blocks))
    found = steps(decide(own, reputation(EVIL), blocked_at=past))
    assert found[Rung.BLOCK_SHORT].expires_at == NOW + hours * HOUR


# --- own detection -----------------------------------------------------------------------------------------------

OWN = "{way: own_detection, severity: critical, confidence: 90}"
SURE = {"severity": Severity.CRITICAL, "confidence": 90, "behaviour": FAILED_LOGINS}


@pytest.mark.parametrize(
    ("change", "is_blocked"),
    [
        ({}, True),
        ({"behaviour": ENUMERATION}, True),
        ({"behaviour": ""}, False),  # judged by a signature, say
        ({"confidence": 89}, False),
        ({"confidence": None}, False),
        ({"severity": Severity.HIGH}, False),
    ],
)
def test_own_detection_takes_a_sure_and_critical_verdict_from_behaviour(
    tmp_path: Path, change: dict[str, Any], is_blocked: bool
) -> None:
    found = steps(decide(rules(tmp_path, short=OWN), **{**SURE, **change}))
    assert (Rung.BLOCK_SHORT in found) is is_blocked
    if is_blocked:
        behaviour = change.get("behaviour", FAILED_LOGINS)
        told = f"own detection of {behaviour}: severity critical, confidence 90"
        assert found[Rung.BLOCK_SHORT].ways == (told,)


@pytest.mark.parametrize(
    "item",
    [
        observed(EVIL, sighting(role=Role.DESTINATION)),
        observed(domain("evil.example.net"), sighting(role=Role.ATTACKER)),
    ],
    ids=["no attacker", "no address"],
)
def test_own_detection_is_about_an_attackers_address(tmp_path: Path, item: Observed) -> None:
    assert Rung.BLOCK_SHORT not in steps(decide(rules(tmp_path, short=OWN), item=item, **SURE))


@pytest.mark.parametrize("by", ["a warning list", "a provider"])
def test_who_may_be_many_is_not_blocked_by_own_detection_but_asked_about(tmp_path: Path, by: str) -> None:
    tags = ("Addresses of VPN providers",) if by == "a warning list" else ()
    said = reputation(EVIL, 0).model_copy(update={"tags": ("VPN",)})
    silent = rules(tmp_path, short=OWN)
    given: dict[str, Any] = {"tags": tags, **SURE}
    sources = [said] if by == "a provider" else []
    assert Rung.BLOCK_SHORT not in steps(decide(silent, *sources, **given))
    asked = decide(rules(tmp_path, short=OWN, ask=OWN), *sources, **given)
    assert Rung.BLOCK_SHORT not in steps(asked)
    (waits,) = asked.held
    assert [step.rung for step in waits.steps] == [Rung.BLOCK_SHORT]
    label = "warning list Addresses of VPN providers" if tags else "VPN (abuseipdb)"
    assert waits.steps[0].ways[0].endswith(f", though labelled {label}")


def test_a_label_is_a_word_and_no_part_of_one(tmp_path: Path) -> None:
    found = steps(decide(rules(tmp_path, short=OWN), tags=("Addresses of vpnomics",), **SURE))
    assert Rung.BLOCK_SHORT in found


# --- one very sure source ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "score", "age", "severity", "is_blocked"),
    [
        ("abuseipdb", 90, 24 * HOUR, Severity.HIGH, True),
        ("abuseipdb", 89, 24 * HOUR, Severity.HIGH, False),
        ("abuseipdb", 90, 25 * HOUR, Severity.HIGH, False),
        ("abuseipdb", 90, -HOUR, Severity.CRITICAL, True),  # reported after the sighting
        ("doubtful", 100, HOUR, Severity.CRITICAL, False),
    ],
)
def test_one_ordinary_source_has_to_be_sure_and_fresh(
    tmp_path: Path, provider: str, score: int, age: timedelta, severity: Severity, is_blocked: bool
) -> None:
    own = rules(tmp_path, short="{way: high_score, grade: C, score: 90, fresh_hours: 24, severity: high}")
    said = reputation(EVIL, score, provider=provider).model_copy(update={"last_reported_at": NOW - age})
    assert (Rung.BLOCK_SHORT in steps(decide(own, said, severity=severity))) is is_blocked


def test_a_milder_finding_is_not_enough_for_one_source(tmp_path: Path) -> None:
    own = rules(tmp_path, short="{way: high_score, grade: C, score: 90, fresh_hours: 24, severity: critical}")
    assert Rung.BLOCK_SHORT not in steps(decide(own, reputation(EVIL), severity=Severity.HIGH))


# --- a grade for each list ---------------------------------------------------------------------------------------


def on_lists(**scores: int) -> Reputation:
    said = reputation(EVIL, max(scores.values()), provider="list_feed").to_json()
    return Reputation.model_validate({**said, "lists": [{"name": n, "score": s} for n, s in scores.items()]})


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ("{}", {"list_feed": ("A", "list_feed", 100)}),
        (
            "{weak: {reliability: D}}",
            {"list_feed": ("A", "list_feed", 80), "list_feed.weak": ("D", "list_feed.weak", 100)},
        ),
        (
            "{weak: {reliability: D, family: crowd}, drop: {}}",
            {"list_feed.weak": ("D", "crowd", 100), "list_feed.drop": ("A", "list_feed.drop", 80)},
        ),
    ],
)
def test_a_list_that_is_graded_apart_has_a_voice_of_its_own(
    tmp_path: Path, lists: str, expected: dict[str, tuple[str, str, int]]
) -> None:
    own = policy(tmp_path, f"sources: {{list_feed: {{lists: {lists}}}}}")
    inputs = gather(observed(EVIL), {"f1": finding()}, [on_lists(weak=100, drop=80)], history=None, hit=None)
    found = {v.provider: (v.rule and v.rule.reliability.value, v.family, v.score) for v in voices(inputs, own)}
    assert found == expected
