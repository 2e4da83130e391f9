"""The judgement: what speaks against a value, how strongly, and whether a person can work it out again."""

from __future__ import annotations

import json
import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.gate.layers import Hit
from include.soar.judge.verdict import History, Inputs, gather, judge
from include.soar.model import (
    Answer,
    Finding,
    Observable,
    ObservableType,
    Observed,
    Reputation,
    Role,
    Severity,
    Standing,
    Verdict,
)
from include.soar.policy.rules import Policy
from tests.soar.examples import NOW, address, finding, observed, policy, reputation, sighting

EVIL = address("203.0.113.7")
DAY = timedelta(days=1)

#: Four sources: two of grade C that copy each other, one B, one F. Beside abuseipdb (C) and list_feed (A).
MORE_SOURCES = """
sources:
  copy_one: {reliability: C, malicious_from: 75, suspicious_from: 25, family: copies}
  copy_two: {reliability: C, malicious_from: 75, suspicious_from: 25, family: copies}
  usual: {reliability: B, malicious_from: 50, suspicious_from: 50}
  doubtful: {reliability: D, malicious_from: 50, suspicious_from: 50}
  nobody: {reliability: F, malicious_from: 50, suspicious_from: 50}
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return policy(tmp_path_factory.mktemp("policy"), MORE_SOURCES)


def given_(
    *reputations: Reputation,
    item: Observed | None = None,
    findings: tuple[Finding, ...] = (),
    history: History | None = None,
    hit: Hit | None = None,
) -> Inputs:
    """Seen as an attacker in one finding that adds nothing, unless said otherwise."""
    by_uid = {f.uid: f for f in findings or (finding(severity=Severity.LOW),)}
    return gather(item or observed(EVIL), by_uid, reputations, history=history, hit=hit)


def said(*pairs: tuple[str, int], **more: Any) -> list[Reputation]:
    return [reputation(EVIL, score, provider=provider, **more) for provider, score in pairs]


# --- sources -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "standing", "confidence"),
    [
        ([], Standing.UNKNOWN, 0),
        ([("abuseipdb", 100)], Standing.MALICIOUS, 60),  # grade C
        ([("abuseipdb", 75)], Standing.MALICIOUS, 45),
        ([("abuseipdb", 74)], Standing.SUSPICIOUS, 44),  # 44.4
        ([("abuseipdb", 25)], Standing.SUSPICIOUS, 15),
        ([("abuseipdb", 24)], Standing.UNKNOWN, 0),
        ([("abuseipdb", 0)], Standing.UNKNOWN, 0),
        ([("list_feed", 100)], Standing.MALICIOUS, 90),  # grade A
        ([("abuseipdb", 100), ("list_feed", 100)], Standing.MALICIOUS, 96),  # 1 - 0.4 * 0.1
        ([("abuseipdb", 0), ("list_feed", 100)], Standing.MALICIOUS, 90),  # a clean answer takes nothing away
        ([("abuseipdb", 50), ("list_feed", 100)], Standing.MALICIOUS, 93),  # 1 - 0.7 * 0.1
        ([("usual", 100), ("list_feed", 60)], Standing.MALICIOUS, 89),  # 1 - 0.25 * 0.46 = 88.5
        ([("someone_new", 100)], Standing.UNKNOWN, 0),  # a source without a rule has no voice
        ([("nobody", 100)], Standing.UNKNOWN, 0),  # grade F adds nothing
    ],
)
def test_the_verdict_of_scores(
    rules: Policy, answers: list[tuple[str, int]], standing: Standing, confidence: int
) -> None:
    verdict = judge(given_(*said(*answers)), rules)
    assert (verdict.standing, verdict.confidence) == (standing, confidence)
    assert len(verdict.reasons) >= max(1, len(answers))


@pytest.mark.parametrize("silence", [Answer.NOT_CHECKED, Answer.ERROR, Answer.NOT_APPLICABLE])
def test_silence_is_never_clean_and_never_malicious(rules: Policy, silence: Answer) -> None:
    silent = reputation(EVIL, None, answer=silence)
    verdict = judge(given_(silent), rules)
    assert (verdict.standing, verdict.confidence) == (Standing.UNKNOWN, 0)
    assert verdict.reasons == (
        f"abuseipdb: {silence.value}, which says nothing good or bad",
        "no source could be asked",
    )
    # Beside a real answer it changes nothing but the reasons.
    for score in (0, 60, 100):
        (other,) = said(("list_feed", score))
        alone, beside = judge(given_(other), rules), judge(given_(silent, other), rules)
        assert (alone.standing, alone.confidence) == (beside.standing, beside.confidence)
        assert beside.reasons == (verdict.reasons[0], *alone.reasons)


def test_not_listed_anywhere_is_not_benign(rules: Policy) -> None:
    verdict = judge(given_(*said(("abuseipdb", 0), ("list_feed", 0))), rules)
    assert verdict.standing is Standing.UNKNOWN
    assert verdict.reasons[-1] == "no source speaks against it, and none vouches for it"


def test_a_score_counts_only_where_the_provider_lists_the_value(rules: Policy) -> None:
    odd = Reputation(observable=EVIL, provider="list_feed", answer=Answer.NOT_LISTED, score=100, known_at=NOW)
    assert judge(given_(odd), rules).standing is Standing.UNKNOWN


def test_sources_that_copy_each_other_are_one_voice(rules: Policy) -> None:
    one = judge(given_(*said(("copy_one", 100))), rules)
    both = judge(given_(*said(("copy_one", 100), ("copy_two", 90))), rules)
    independent = judge(given_(*said(("copy_one", 100), ("abuseipdb", 90))), rules)
    assert both.confidence == one.confidence == 60
    assert independent.confidence == 82  # 1 - 0.4 * 0.46 = 81.6
    assert any("copy_two" in r and "not counted: one voice with copy_one" in r for r in both.reasons)


def test_one_source_is_one_voice_however_often_it_speaks(rules: Policy) -> None:
    twice = judge(given_(*said(("abuseipdb", 100), ("abuseipdb", 100))), rules)
    assert twice.confidence == judge(given_(*said(("abuseipdb", 100))), rules).confidence


# --- freshness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "standing", "confidence"),
    [
        (-3 * DAY, Standing.MALICIOUS, 60),  # reported after the sighting
        (DAY - timedelta(seconds=1), Standing.MALICIOUS, 60),
        (15 * DAY, Standing.MALICIOUS, 43),  # freshness 71: 60 * 100 * 71 = 42.6
        (30 * DAY, Standing.MALICIOUS, 30),
        (60 * DAY, Standing.MALICIOUS, 15),  # 25 is not below 25
        (63 * DAY, Standing.SUSPICIOUS, 14),  # 23: stale
        (600 * DAY, Standing.UNKNOWN, 0),
    ],
)
def test_an_address_reported_long_ago_may_be_someone_elses(
    rules: Policy, age: timedelta, standing: Standing, confidence: int
) -> None:
    (fresh,) = said(("abuseipdb", 100))
    old = fresh.model_copy(update={"last_reported_at": NOW - age})
    verdict = judge(given_(old), rules)
    assert (verdict.standing, verdict.confidence) == (standing, confidence)
    # A stored answer without the time of a report is as old as itself.
    stored = fresh.model_copy(update={"known_at": NOW - age})
    assert judge(given_(stored), rules).confidence == confidence


def test_a_hash_does_not_age(rules: Policy) -> None:
    file = Observable(type=ObservableType.FILE, value="a" * 30 + "b9")
    old = reputation(file, 100, provider="list_feed").model_copy(update={"last_reported_at": NOW - 900 * DAY})
    assert judge(given_(old, item=observed(file)), rules).confidence == 90


def test_age_counts_to_the_last_sighting_so_that_deciding_again_gives_the_same(rules: Policy) -> None:
    """There is no clock in it; and whoever writes an address into a header does not make our answers look old."""
    (reported,) = said(("abuseipdb", 100))
    reported = reported.model_copy(update={"last_reported_at": NOW - 10 * DAY})
    seen = observed(EVIL, sighting("f1", seen=NOW - 10 * DAY), sighting("f2", role=Role.CLAIM, seen=NOW))
    findings = (finding("f1", severity=Severity.LOW), finding("f2", severity=Severity.LOW))
    assert judge(given_(reported, item=seen, findings=findings), rules).confidence == 60


# --- the finding and its roles -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "sure", "confidence"),
    [
        (Severity.LOW, 100, 60),
        (Severity.MEDIUM, 100, 62),  # 1 - 0.4 * 0.95
        (Severity.HIGH, 100, 64),
        (Severity.HIGH, 50, 62),
        (Severity.HIGH, None, 62),
        (Severity.CRITICAL, 100, 68),
        (Severity.CRITICAL, 0, 60),
    ],
)
def test_the_finding_adds_its_severity_times_its_confidence(
    rules: Policy, severity: Severity, sure: int | None, confidence: int
) -> None:
    inputs = given_(*said(("abuseipdb", 100)), findings=(finding(severity=severity, confidence=sure),))
    assert judge(inputs, rules).confidence == confidence


def test_a_finding_alone_judges_nobody(rules: Policy) -> None:
    inputs = given_(*said(("abuseipdb", 0)), findings=(finding(severity=Severity.CRITICAL, confidence=100),))
    assert judge(inputs, rules).standing is Standing.UNKNOWN


@pytest.mark.parametrize("role", [Role.CLAIM, Role.MENTIONED, Role.VICTIM, Role.INTERNAL])
def test_a_claim_adds_nothing(rules: Policy, role: Role) -> None:
    critical = finding(severity=Severity.CRITICAL, confidence=100)
    verdict = judge(
        given_(*said(("abuseipdb", 100)), item=observed(EVIL, sighting(role=role)), findings=(critical,)), rules
    )
    assert verdict.confidence == 60
    assert f"finding: seen as {role.value} only, which adds nothing" in verdict.reasons


def test_the_worst_finding_counts_and_not_their_number(rules: Policy) -> None:
    many = tuple(finding(f"f{n}", severity=Severity.MEDIUM, confidence=100) for n in range(20))
    item = observed(EVIL, *(sighting(f.uid) for f in many))
    assert judge(given_(*said(("abuseipdb", 100)), item=item, findings=many), rules).confidence == 62


# --- history -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "confidence"),
    [
        (History(malicious=2, malicious_last_at=NOW - DAY / 2), 62),  # 1 - 0.4 * 0.95
        (History(malicious=2, malicious_last_at=NOW, blocked=1, blocked_last_at=NOW), 64),  # the stronger: 10
        (History(blocked=1, blocked_last_at=NOW - 30 * DAY), 62),  # half of it after a half-life
        (History(benign=1, benign_last_at=NOW), 30),  # half off
        (History(benign=1, benign_last_at=NOW - 30 * DAY), 45),
        (History(benign=1, benign_last_at=NOW - DAY, malicious=1, malicious_last_at=NOW), 62),  # the later word
        (History(), 60),
        (None, 60),
    ],
)
def test_our_own_history_weighs_a_little(rules: Policy, history: History | None, confidence: int) -> None:
    assert judge(given_(*said(("abuseipdb", 100)), history=history), rules).confidence == confidence


def test_history_is_no_source(rules: Policy) -> None:
    """Or yesterday's mistake would prove itself today."""
    past = History(malicious=9, malicious_last_at=NOW, blocked=9, blocked_last_at=NOW)
    assert judge(given_(*said(("abuseipdb", 0)), history=past), rules).standing is Standing.UNKNOWN


def test_a_deduction_never_reads_as_unknown(tmp_path: Path) -> None:
    all_off = policy(tmp_path, "verdict: {history: {benign: 100}}")
    verdict = judge(given_(*said(("abuseipdb", 100)), history=History(benign=1, benign_last_at=NOW)), all_off)
    assert (verdict.standing, verdict.confidence) == (Standing.MALICIOUS, 1)


# --- benign ------------------------------------------------------------------------------------------------------


def test_benign_needs_something_that_vouches(rules: Policy) -> None:
    own = Hit(layer="own", entry="192.0.2.0/28", reason="ours")
    verdict = judge(given_(*said(("abuseipdb", 0)), hit=own), rules)
    assert (verdict.standing, verdict.confidence) == (Standing.BENIGN, 95)
    assert judge(given_(hit=own), rules).standing is Standing.BENIGN
    # Protected is not always good: a reserved address means nothing.
    special = Hit(layer="special-purpose", entry="10.0.0.0/8", reason="private")
    assert judge(given_(hit=special), rules).standing is Standing.UNKNOWN


@pytest.mark.parametrize("score", [50, 100])
def test_a_protected_value_is_judged_by_what_is_said_of_it(rules: Policy, score: int) -> None:
    """A partner's address may well be misused. It is not blocked, and people should know."""
    hit = Hit(layer="partner", entry="198.51.100.200/29", reason="a partner's")
    verdict = judge(given_(*said(("abuseipdb", score)), hit=hit), rules)
    assert verdict.standing is (Standing.MALICIOUS if score == 100 else Standing.SUSPICIOUS)
    assert verdict.reasons[-1] == (
        "gate: protected (partner, 198.51.100.200/29): never blocked, whatever is said of it"
    )


# --- the same bytes, and a person's arithmetic -------------------------------------------------------------------

REPUTATIONS = st.builds(
    lambda provider, score, age, silence: Reputation(
        observable=EVIL,
        provider=provider,
        answer=silence or (Answer.LISTED if score else Answer.NOT_LISTED),
        score=None if silence else score,
        known_at=NOW,
        last_reported_at=None if age is None else NOW - age * DAY,
    ),
    st.sampled_from(["abuseipdb", "list_feed", "copy_one", "copy_two", "usual", "nobody", "someone_new"]),
    st.integers(0, 100),
    st.none() | st.integers(-5, 200),
    st.none() | st.sampled_from([Answer.NOT_CHECKED, Answer.ERROR]),
)
HISTORIES = st.none() | st.builds(
    lambda bad, acted, good: History(
        malicious=bool(bad),
        malicious_last_at=bad and NOW - bad * DAY,
        blocked=bool(acted),
        blocked_last_at=acted and NOW - acted * DAY,
        benign=bool(good),
        benign_last_at=good and NOW - good * DAY,
    ),
    *[st.none() | st.integers(1, 80)] * 3,
)
FINDINGS = st.lists(
    st.tuples(st.sampled_from(list(Severity)), st.none() | st.integers(0, 100), st.sampled_from(list(Role))),
    min_size=1,
    max_size=4,
)


@given(st.lists(REPUTATIONS, max_size=5), FINDINGS, HISTORIES, st.randoms(use_true_random=False))
def test_the_same_inputs_give_the_same_bytes_in_any_order(
    rules: Policy, reputations: list[Reputation], rows: list[Any], history: History | None, chance: Any
) -> None:
    findings = [finding(f"f{n}", severity=severity, confidence=sure) for n, (severity, sure, _) in enumerate(rows)]
    item = observed(EVIL, *(sighting(f"f{n}", role=role) for n, (_, _, role) in enumerate(rows)))
    inputs = given_(*reputations, item=item, findings=tuple(findings), history=history)
    verdict = judge(inputs, rules)
    chance.shuffle(reputations)
    chance.shuffle(findings)
    shuffled = given_(*reputations, item=item, findings=tuple(findings), history=history)
    assert shuffled.digest == inputs.digest
    assert judge(shuffled, rules).model_dump_json() == verdict.model_dump_json()
    stored = Inputs.model_validate(json.loads(json.dumps(inputs.to_json())))
    assert judge(stored, rules).model_dump_json() == verdict.model_dump_json()
    assert (verdict.standing is Standing.UNKNOWN) == (verdict.confidence == 0)
    assert verdict.confidence == by_hand(verdict)


def half_up(value: float) -> int:
    # A hair for what binary fractions lose: 44.5 is 45.
    return math.floor(value + 0.5 + 1e-9)


def by_hand(verdict: Verdict) -> int:
    """
    The confidence, worked out from nothing but the reasons' text, as a person would with a pocket calculator.

    Also checks each product that a reason states.
    """
    strengths, deduction = [], 0
    counted: dict[str, int] = {}
    for reason in verdict.reasons:
        stated = re.search(r"((?:[^×=]* \d+ %[^×=]* × )+[^×=]* \d+ %[^×=]*) = (\d+) %", reason.split("; ")[-1])
        if not stated:
            continue
        factors = [int(n) / 100 for n in re.findall(r"(\d+) %", stated.group(1))]
        result = int(stated.group(2))
        assert result == half_up(100 * math.prod(factors)), reason
        aged = re.search(r"freshness (\d+) % \(\w+ (\d+) d before the sighting, half-life (\d+) d\)", reason)
        if aged:
            percent, days, half_life = map(int, aged.groups())
            assert percent == half_up(100 * 0.5 ** (days / half_life)), reason
        if "% less" in reason:
            deduction = result
        elif reason.startswith("history"):
            counted["history"] = max(counted.get("history", 0), result)
        elif "not counted" not in reason:
            strengths.append(result)
    doubt = math.prod(1 - s / 100 for s in [*strengths, *counted.values()])
    if not any(r.startswith("together") for r in verdict.reasons):
        return 0
    whole = half_up(100 * (1 - doubt))
    return max(1, half_up(whole * (100 - deduction) / 100))


def test_what_an_older_release_stored_still_has_its_digest() -> None:
    """Written by the release before there were rungs, or explaining it would say that its inputs were changed."""
    stored = json.loads((Path(__file__).parent / "old_inputs.json").read_text("utf-8"))
    inputs = Inputs.model_validate(stored["inputs"])
    assert inputs.to_json() == stored["inputs"]
    assert inputs.digest == stored["digest"]
