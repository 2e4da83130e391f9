"""How the texts tell of a plan, of the proof of an action, of who approved what, and of what is in force already."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from include.soar.incident import choices, texts
from include.soar.incident.clean import ROWS
from include.soar.incident.diff import line, summary
from include.soar.incident.inputs import Asking, InForce
from include.soar.incident.plain import render_text
from include.soar.incident.selections import reached_words
from include.soar.model import (
    Action,
    Approval,
    ApprovalAnswer,
    Change,
    ControlPlan,
    Decision,
    IncidentOutcome,
    IncidentRef,
    Indicator,
    Observable,
    Outcome,
    Plan,
    PlanEntry,
    Reached,
    Refusal,
    Role,
    Rung,
    Step,
    Verb,
)
from tests.soar.incident.test_texts import ADDRESS, NOW, state_of, world

LATER = NOW + timedelta(hours=4)
WAF = "akamai_client_lists"


def entry(change: Change, value: str = "203.0.113.10", **more: Any) -> PlanEntry:
    return PlanEntry(observable=Observable(type="ipv4-addr", value=value), change=change, **more)


def indicator(value: str = "203.0.113.10", rung: Rung = Rung.BLOCK_SHORT, **more: Any) -> Indicator:
    fields: dict[str, Any] = {
        "observable": Observable(type="ipv4-addr", value=value),
        "confidence": 80,
        "reasons": ("abuseipdb: 90",),
        "roles": (Role.ATTACKER,),
        "first_seen_at": NOW,
        "last_seen_at": NOW,
        "expires_at": LATER,
        "finding_uids": ("f-1",),
        "steps": (Step(rung=rung, expires_at=LATER, ways=("one source of grade C and a very high score",)),),
    }
    return Indicator(**{**fields, **more})


def report(decision: Decision, **state: Any) -> list[str]:
    batch, _, finding = world("x", "https://evil.example/a", None)
    return render_text(texts.state_report(batch, decision, finding, state_of(**state))).splitlines()


def decision(**changes: Any) -> Decision:
    return world("x", "https://evil.example/a", None)[1].model_copy(update={"refusals": (), **changes})


# --- the plan ----------------------------------------------------------------------------------------------------


def test_a_plan_is_summed_up_as_a_diff_with_its_sizes() -> None:
    entries = [entry(Change.ADD, f"203.0.113.{n}") for n in (1, 2)]
    entries += [entry(Change.PROLONG, "203.0.113.3")]
    entries += [entry(Change.UNCHANGED, f"203.0.113.{n}") for n in range(10, 18)]
    plan = ControlPlan(control=WAF, entries=tuple(entries), size=37, capacity=10_000)
    assert summary(plan) == f"{WAF}: 2 to add, 1 to prolong, 8 unchanged; 37 of 10,000 entries"
    assert summary(ControlPlan(control=WAF, entries=())) == f"{WAF}: nothing to change"


def test_a_plan_says_what_else_would_go_along_and_why_it_is_not_known() -> None:
    assert summary(ControlPlan(control=WAF, entries=(), others_changes=2)).endswith(
        "; 2 changes of other people would go with it"
    )
    unread = ControlPlan(control=WAF, entries=(entry(Change.UNKNOWN),), problem="503")
    assert summary(unread) == f"{WAF}: 1 unknown; it could not be read: 503"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (
            entry(Change.ADD, rung=Rung.BLOCK_SHORT, expires_at=LATER),
            "+ ipv4-addr 203[.]0[.]113[.]10: to add, block short until 2026-01-18 11:38:50 UTC",
        ),
        (
            entry(Change.PROLONG, expires_at=LATER, was_until=NOW, in_force=True),
            "~ ipv4-addr 203[.]0[.]113[.]10: to prolong, until 2026-01-18 11:38:50 UTC; "
            "in force there until 2026-01-18 07:38:50 UTC",
        ),
        (
            entry(Change.REFUSED, rule="capacity", detail="it is full"),
            "! ipv4-addr 203[.]0[.]113[.]10: refused; by the rule capacity: it is full",
        ),
        (
            entry(Change.HELD, rule="held", detail="a cap"),
            "? ipv4-addr 203[.]0[.]113[.]10: held; a cap",
        ),
        (entry(Change.UNCHANGED), "= ipv4-addr 203[.]0[.]113[.]10: unchanged, without an end"),
    ],
    ids=lambda value: value.change.value if isinstance(value, PlanEntry) else "",
)
def test_an_entry_is_one_line_with_change_rung_end_and_rule(one: PlanEntry, words: str) -> None:
    assert line(one) == words


def planned() -> Decision:
    entries = (entry(Change.ADD, rung=Rung.BLOCK_SHORT, expires_at=LATER), entry(Change.ADD, "203.0.113.99"))
    return decision(plan=Plan(controls=(ControlPlan(control=WAF, entries=entries, size=37, capacity=10_000),)))


def test_an_incident_tells_the_plan_of_its_own_values_only() -> None:
    lines = report(planned())
    assert f"Plan: {WAF}: 1 to add; 37 of 10,000 entries" in lines
    assert f"{WAF} | 203[.]0[.]113[.]10 | to add | block short | 2026-01-18 11:38:50 UTC | |" in lines
    assert not any("203[.]0[.]113[.]99" in told for told in lines)


def test_what_a_control_has_done_is_told_as_done_and_not_as_planned() -> None:
    done = Action(control=WAF, verb=Verb.DENY, observable=ADDRESS, outcome=Outcome.BLOCKED, expires_at=LATER)
    assert not any("to add | block short" in told for told in report(planned(), actions=[done]))
    only_planned = done.model_copy(update={"outcome": Outcome.PLANNED})
    assert any("to add | block short" in told for told in report(planned(), actions=[only_planned]))


def test_the_plan_is_no_part_of_the_state() -> None:
    """A window that is run again prolongs where it added before, and tells nothing new."""
    batch, _, finding = world("x", "https://evil.example/a", None)
    with_plan = texts.state_reference(batch, planned(), finding, [])
    assert with_plan == texts.state_reference(batch, decision(), finding, [])


# --- how far, and how far it is proved --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reached", "proof", "words"),
    [
        (None, {}, ""),
        (Reached.INTENDED, {}, "intended; whether it was written is not known"),
        (Reached.ACCEPTED, {"version": 12}, "accepted"),
        (Reached.LISTED, {"version": 12, "network": "PRODUCTION"}, "in version 12"),
        (Reached.LISTED, {}, "reads back"),
        (Reached.STAGING, {"network": "STAGING"}, "active on staging"),
        (Reached.ACTIVE, {"network": "PRODUCTION"}, "active on production"),
        (Reached.ACTIVE, {}, "in force"),
        (Reached.GONE, {}, "seen gone"),
    ],
)
def test_an_incident_tells_the_rung_of_proof_and_never_more(
    reached: Reached | None, proof: dict[str, Any], words: str
) -> None:
    action = Action(
        control=WAF, verb=Verb.DENY, observable=ADDRESS, outcome=Outcome.PENDING, reached=reached, proof=proof
    )
    assert reached_words(action) == words
    row = next(told for told in report(decision(), actions=[action]) if told.startswith(f"{WAF} | deny"))
    assert f"pending | {words} |".replace("  ", " ") in row


def test_every_rung_of_proof_has_words() -> None:
    for reached in Reached:
        action = Action(control=WAF, verb=Verb.DENY, observable=ADDRESS, outcome=Outcome.PENDING, reached=reached)
        assert reached_words(action)


def test_what_is_watched_says_why_it_is_not_blocked_and_what_would_have_been_enough() -> None:
    watched = indicator(rung=Rung.WATCH, enough="a second source of grade C")
    lines = report(decision(indicators=(watched,)))
    place = lines.index("How far, and what would be enough to go further")
    assert lines[place + 2] == (
        "203[.]0[.]113[.]10 | watch | 2026-01-18 11:38:50 UTC | one source of grade C and a very high score | "
        "a second source of grade C"
    )


def test_another_rung_is_another_state() -> None:
    batch, _, finding = world("x", "https://evil.example/a", None)
    marks = {
        texts.state_reference(batch, decision(indicators=(indicator(rung=rung),)), finding, [])
        for rung in (Rung.WATCH, Rung.BLOCK_SHORT)
    }
    assert len(marks) == 2


# --- what is refused and in force ---------------------------------------------------------------------------------

REFUSAL = Refusal(observable=ADDRESS, layer="role", entry="claim", reason="only claimed", finding_uids=("f-1",))


def there(**more: Any) -> InForce:
    fields: dict[str, Any] = {"since": NOW, "until": LATER, "rung": Rung.BLOCK_LONG}
    return InForce(ADDRESS, WAF, **{**fields, **more})


def test_n17_what_is_in_force_is_never_told_as_not_blocked() -> None:
    refused = decision(refusals=(REFUSAL,))
    lines = report(refused, in_force=[there()])
    assert "Not blocked, and why" not in lines
    place = lines.index("No new block, and in force by an earlier one")
    assert lines[place + 2] == (
        f"203[.]0[.]113[.]10 | {WAF}, block long | 2026-01-18 07:38:50 UTC | 2026-01-18 11:38:50 UTC | "
        "role: only claimed"
    )
    assert "Not blocked, and why" in report(refused)


def test_n17_what_is_only_watched_is_not_blocked_and_told_as_both() -> None:
    lines = report(decision(refusals=(REFUSAL,)), in_force=[there(rung=Rung.WATCH)])
    assert "Not blocked, and why" in lines
    assert "No new block, and in force by an earlier one" in lines


def test_n17_that_it_is_in_force_is_part_of_the_state_and_its_start_is_not() -> None:
    batch, _, finding = world("x", "https://evil.example/a", None)
    refused = decision(refusals=(REFUSAL,))

    def mark(*in_force: InForce) -> str:
        return texts.state_reference(batch, refused, finding, [], in_force)

    assert mark() != mark(there()) == mark(there(since=NOW - timedelta(days=1)))
    assert mark(there()) != mark(there(until=NOW))


# --- the question -------------------------------------------------------------------------------------------------


def held(*some: Indicator, **more: Any) -> Decision:
    waiting = tuple(one.model_copy(update={"hold_reasons": ("25 addresses of one /24",)}) for one in some)
    return decision(held=waiting, hold_reasons=("25 addresses of one /24",), **more)


def asked(waiting: Decision, **more: Any) -> str:
    return texts.question(waiting, Asking(timedelta(hours=12), **more))[1].replace("\\", "")


def test_the_question_shows_for_each_value_what_a_person_must_know() -> None:
    ref = IncidentRef(
        finding_uid="f-1",
        marker="m",
        outcome=IncidentOutcome.CREATED,
        title="t",
        unique_id="u",
        readable_id="INC-1",
        url="https://respond.example/incidents/1",
    )
    control = ControlPlan(
        control=WAF,
        entries=(entry(Change.HELD, rung=Rung.BLOCK_LONG, expires_at=LATER, was_until=NOW, in_force=True),),
        size=37,
        capacity=10_000,
    )
    body = asked(held(indicator(rung=Rung.BLOCK_LONG), plan=Plan(controls=(control,))), incidents=(ref,))
    for words in (
        "**1. 203[.]0[.]113[.]10**",
        "block long until 2026-01-18 11:38:50 UTC",
        "waits because: 25 addresses of one /24",
        f"in force already: {WAF} until 2026-01-18 07:38:50 UTC",
        "evidence: one source of grade C and a very high score",
        "sources: abuseipdb 90",
        "incidents: [INC-1](https://respond.example/incidents/1)",
        f"{WAF}: 1 held; 37 of 10,000 entries",
    ):
        assert words in body, words


def test_n13_the_question_says_what_is_in_force_already_and_nothing_that_is_not_so() -> None:
    new = asked(held(indicator()))
    assert "No control that could be read has any of them in force." in new
    assert "new: no control that could be read has it" in new
    control = ControlPlan(control=WAF, entries=(entry(Change.HELD, was_until=NOW, in_force=True),))
    known = held(indicator(), indicators=(indicator(rung=Rung.WATCH),), plan=Plan(controls=(control,)))
    body = asked(known)
    assert "1 of them is in force somewhere already and stays so" in body
    assert "1 of them is acted on at a milder degree without waiting" in body
    assert "Nothing of them is blocked" not in new + body


@pytest.mark.parametrize(
    ("acts", "words"),
    [
        (frozenset[Rung](), "none of it is acted on"),
        (
            frozenset({Rung.BLOCK_SHORT, Rung.WATCH}),
            "what waits for watch or block short is acted on, and nothing else",
        ),
    ],
)
def test_the_question_says_what_happens_without_an_answer(acts: frozenset[Rung], words: str) -> None:
    assert f"Without an answer within 12 hours {words}, and the run ends red." in asked(
        held(indicator()), acts_unanswered=acts
    )


def test_each_value_is_an_option_and_its_number_is_that_of_the_question() -> None:
    waiting = held(indicator(), indicator("203.0.113.11", Rung.BLOCK_LONG, confidence=95))
    assert list(choices.options(waiting)) == [
        "Approve all",
        "Reject all",
        "1: 203[.]0[.]113[.]11 | block long until 2026-01-18 11:38:50 UTC",
        "2: 203[.]0[.]113[.]10 | block short until 2026-01-18 11:38:50 UTC",
    ]
    assert "**1. 203[.]0[.]113[.]11**" in asked(waiting)


def test_beyond_a_hundred_values_the_others_are_one_option() -> None:
    waiting = held(*(indicator(f"203.0.113.{n}") for n in range(ROWS + 5)))
    offered = choices.options(waiting)
    assert len(offered) == ROWS + 3
    assert len(offered["101 to 105: the other 5"]) == 5
    assert sorted(key for keys in list(offered.values())[2:] for key in keys) == sorted(offered["Approve all"])


@pytest.mark.parametrize(
    ("chosen", "answer", "approved"),
    [
        (["Approve all"], ApprovalAnswer.APPROVED, None),
        (["Reject all"], ApprovalAnswer.REJECTED, None),
        ([1], ApprovalAnswer.APPROVED, ("ipv4-addr:203.0.113.10",)),
        ([1, 2], ApprovalAnswer.APPROVED, None),
        (["Approve all", 1], ApprovalAnswer.APPROVED, None),
        ([1, "Reject all"], ApprovalAnswer.REJECTED, None),
        ([], ApprovalAnswer.REJECTED, None),
    ],
)
def test_what_a_choice_means(chosen: list[Any], answer: ApprovalAnswer, approved: tuple[str, ...] | None) -> None:
    waiting = held(indicator(), indicator("203.0.113.11"))
    offered = list(choices.options(waiting))
    picked = [offered[one + 1] if isinstance(one, int) else one for one in chosen]
    assert choices.answered(waiting, picked) == (answer, approved)


def test_an_option_that_was_not_offered_is_no_answer() -> None:
    with pytest.raises(KeyError):
        choices.answered(held(indicator()), ["Approve"])


# --- the answer ---------------------------------------------------------------------------------------------------


def test_who_approved_what_is_told_with_the_comment() -> None:
    approval = Approval(
        answer=ApprovalAnswer.APPROVED, by="jane", at=NOW, chosen=(ADDRESS.key,), comment="seen it before"
    )
    rejected = REFUSAL.model_copy(update={"layer": "approval", "entry": "rejected", "finding_uids": ("f-2",)})
    answered = decision(indicators=(indicator(),), refusals=(rejected,), approval=approval, hold_reasons=("a cap",))
    lines = report(answered)
    assert "Held before blocking, then 1 approved by jane at 2026-01-18 07:38:50 UTC, 1 rejected" in lines
    place = lines.index("Approved of this event:")
    assert lines[place + 2].startswith("203[.]0[.]113[.]10 | block short | ")
    assert "comment | seen it before" in lines


def test_what_was_acted_on_without_an_answer_is_told_so() -> None:
    approval = Approval(answer=ApprovalAnswer.NOBODY, at=NOW, chosen=(ADDRESS.key,))
    lines = report(decision(indicators=(indicator(),), approval=approval))
    assert any("then unanswered at 2026-01-18 07:38:50 UTC, 1 acted on all the same" in told for told in lines)
