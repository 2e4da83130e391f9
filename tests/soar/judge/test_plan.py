"""What a run would change at a control, and what of a plan may not be written any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.soar.judge.plan import Standing, Wanted, drift, plan_for_control
from include.soar.model import Change, ControlPlan, Indicator, PlanEntry, Reached, Role, Rung, Step
from tests.soar.examples import NOW, address, gate_at, policy

A, B, C = (f"203.0.113.{n}" for n in (1, 2, 3))
LATER = NOW + timedelta(hours=4)
PROTECTED = "10.1.2.3"


@dataclass(frozen=True)
class Item:
    expires_at: datetime | None = LATER
    is_ours: bool = True
    altered: str = ""
    ended: bool = False


@dataclass(frozen=True)
class Reading:
    held: Mapping[str, Item] = field(default_factory=dict)
    size: int | None = None
    capacity: int | None = None
    others_changes: int | None = None


@dataclass(frozen=True)
class Known:
    expires_at: datetime | None = LATER
    reached: Reached | None = Reached.ACTIVE
    updated_at: datetime = NOW
    lifting: bool = False


def key(value: str) -> str:
    return address(value).key


def wanted(value: str, *, until: datetime = LATER, **more: Any) -> Indicator:
    fields: dict[str, Any] = {
        "observable": address(value),
        "confidence": 80,
        "reasons": (),
        "roles": (Role.ATTACKER,),
        "first_seen_at": NOW - timedelta(hours=2),
        "last_seen_at": NOW - timedelta(hours=1),
        "expires_at": until,
        "finding_uids": ("f1",),
        "steps": (Step(rung=Rung.BLOCK_SHORT, expires_at=until),),
    }
    return Indicator(**{**fields, **more})


def at(reading: Reading | None = None, **more: Any) -> Standing:
    return Standing("waf", NOW, reading if reading is not None else Reading(), **more)


def the_only(plan: ControlPlan) -> PlanEntry:
    (entry,) = plan.entries
    return entry


def planned(one: Indicator, standing: Standing) -> tuple[str, str]:
    entry = the_only(plan_for_control(Wanted([one]), standing))
    return entry.change.value, entry.rule


@pytest.mark.parametrize(
    ("item", "change"),
    [
        (None, "add"),
        (Item(ended=True), "add"),
        (Item(expires_at=LATER - timedelta(hours=1)), "prolong"),
        (Item(), "unchanged"),
        (Item(expires_at=None), "unchanged"),
        (Item(expires_at=NOW + timedelta(minutes=1), is_ours=False), "unchanged"),
    ],
)
def test_what_is_there_says_what_changes(item: Item | None, change: str) -> None:
    held = {key(A): item} if item else {}
    assert planned(wanted(A), at(Reading(held))) == (change, "")


def test_an_entry_says_what_is_in_force_and_until_when_it_will_be() -> None:
    before = LATER - timedelta(hours=1)
    entry = the_only(plan_for_control(Wanted([wanted(A)]), at(Reading({key(A): Item(expires_at=before)}))))
    assert (entry.rung, entry.was_until, entry.expires_at) == (Rung.BLOCK_SHORT, before, LATER)
    unchanged = the_only(plan_for_control(Wanted([wanted(A, until=before)]), at(Reading({key(A): Item()}))))
    assert (unchanged.change, unchanged.expires_at) == (Change.UNCHANGED, LATER)  # it is not shortened


def test_what_a_control_holds_in_whole_seconds_is_not_prolonged_by_a_fraction() -> None:
    fraction = LATER + timedelta(microseconds=999_999)
    assert planned(wanted(A, until=fraction), at(Reading({key(A): Item(LATER)})))[0] == "unchanged"
    assert planned(wanted(A, until=LATER + timedelta(seconds=1)), at(Reading({key(A): Item(LATER)})))[0] == "prolong"


def test_a_control_that_could_not_be_read_is_unknown_and_says_why() -> None:
    plan = plan_for_control(Wanted([wanted(A)]), Standing("waf", NOW, problem="503"))
    entry = the_only(plan)
    assert (plan.problem, entry.change, entry.expires_at) == ("503", Change.UNKNOWN, None)


def test_what_a_person_removed_or_changed_stays_theirs_until_it_is_seen_again() -> None:
    ours = {key(A): Known()}
    assert planned(wanted(A), at(ours=ours)) == ("refused", "lifted by a person")
    changed = Reading({key(A): Item(altered="its end was moved")})
    assert planned(wanted(A), at(changed, ours=ours)) == ("refused", "altered by a person")
    seen_again = wanted(A, last_seen_at=NOW + timedelta(minutes=1))
    assert planned(seen_again, at(ours=ours)) == ("add", "")
    assert planned(seen_again, at(changed, ours=ours)) == ("unchanged", "")


@pytest.mark.parametrize(
    "known",
    [Known(reached=Reached.INTENDED), Known(expires_at=NOW - timedelta(minutes=1)), Known(lifting=True)],
    ids=["intended", "ended", "lifting"],
)
def test_what_may_never_have_been_written_or_has_ended_was_not_removed_by_a_person(known: Known) -> None:
    assert planned(wanted(A), at(ours={key(A): known})) == ("add", "")


def test_a_protected_value_is_refused_and_what_is_in_force_of_it_is_to_be_lifted() -> None:
    gate = gate_at(policy(), NOW)
    assert planned(wanted(PROTECTED), at(gate=gate)) == ("refused", "special-purpose")
    assert planned(wanted(PROTECTED), at(gate=gate, ours={key(PROTECTED): Known()})) == ("lift", "special-purpose")
    nobody_wants_it = plan_for_control(Wanted([]), at(gate=gate, ours={key(PROTECTED): Known()}))
    assert (the_only(nobody_wants_it).change, the_only(nobody_wants_it).was_until) == (Change.LIFT, LATER)


def test_what_has_ended_and_is_still_there_is_to_be_lifted() -> None:
    over = NOW - timedelta(minutes=1)
    ours = {key(A): Known(expires_at=over), key(B): Known(expires_at=over), key(C): Known()}
    there = Reading({key(A): Item(expires_at=over, ended=True), key(C): Item()})
    plan = plan_for_control(Wanted([]), at(there, ours=ours))
    assert [(e.observable.value, e.change.value, e.rule) for e in plan.entries] == [(A, "lift", "expired")]


def test_an_indicator_that_has_expired_is_refused() -> None:
    assert planned(wanted(A, until=NOW), at()) == ("refused", "expired")


def test_where_not_all_fits_the_surest_go_first() -> None:
    three = [wanted(A, confidence=70), wanted(B, confidence=90), wanted(C, confidence=80)]
    plan = plan_for_control(Wanted(three), at(Reading(size=8, capacity=10)))
    assert {e.observable.value: e.change.value for e in plan.entries} == {A: "refused", B: "add", C: "add"}
    refused = next(e for e in plan.entries if e.change is Change.REFUSED)
    assert (refused.rule, refused.detail, refused.expires_at) == ("capacity", "it is full: 8 of 10 entries", None)
    # Ours that have ended make room; another's do not.
    ended = {key("203.0.113.9"): Item(ended=True), key("203.0.113.8"): Item(ended=True, is_ours=False)}
    plan = plan_for_control(Wanted(three), at(Reading(ended, size=8, capacity=10)))
    assert plan.count(Change.ADD) == 3
    over_full = plan_for_control(Wanted(three), at(Reading(size=12, capacity=10)))
    assert over_full.count(Change.REFUSED) == 3


def test_others_changes_hold_everything_back_where_the_policy_says_so() -> None:
    reading = Reading(others_changes=2)
    assert planned(wanted(A), at(reading)) == ("add", "")
    assert planned(wanted(A), at(reading, refuse_others_changes=True)) == ("refused", "others_changes")


def test_what_is_held_is_in_the_plan_beside_what_is_not() -> None:
    long = wanted(A, until=LATER + timedelta(days=1), hold_reasons=("a cap",))
    plan = plan_for_control(Wanted([wanted(A)], [long]), at())
    assert [(e.change.value, e.detail) for e in plan.entries] == [("add", ""), ("held", "a cap")]
    in_force = plan_for_control(Wanted([], [long]), at(Reading({key(A): Item()})))
    assert the_only(in_force).was_until == LATER


# --- drift --------------------------------------------------------------------------------------------------

PLANNED = plan_for_control(Wanted([wanted(A), wanted(B)]), at(Reading({key(B): Item()}, size=2, capacity=10)))


def test_a_plan_that_still_holds_has_no_drift() -> None:
    found = drift(PLANNED, [wanted(A), wanted(B)], at(Reading({key(B): Item()}, size=2, capacity=10)))
    assert (found.values, found.whole) == ({}, "")


def test_what_another_run_did_meanwhile_is_no_drift() -> None:
    there = Reading({key(A): Item(), key(B): Item(expires_at=NOW + timedelta(minutes=1))}, size=3, capacity=10)
    assert drift(PLANNED, [wanted(A), wanted(B)], at(there)).values == {}


def test_what_would_not_be_right_any_more_is_not_written() -> None:
    full = at(Reading({key(B): Item()}, size=10, capacity=10))
    assert drift(PLANNED, [wanted(A), wanted(B)], full).values == {
        key(A): "drift: capacity: it is full: 10 of 10 entries"
    }
    removed = at(ours={key(A): Known(), key(B): Known()})
    found = drift(PLANNED, [wanted(A), wanted(B)], removed).values
    assert all(why.startswith("drift: lifted by a person: ") for why in found.values())
    assert drift(PLANNED, [wanted(A), wanted(B)], removed).persons == found.keys()
    assert set(found) == {key(A), key(B)}
    someone_elses = drift(PLANNED, [wanted(A), wanted(B)], at()).values
    assert list(someone_elses) == [key(B)]  # it was in force by another's item, and nobody planned to write it


def test_what_became_protected_is_not_written() -> None:
    plan = plan_for_control(Wanted([wanted(PROTECTED)]), at())
    gate = gate_at(policy(), NOW)
    assert list(drift(plan, [wanted(PROTECTED)], at(gate=gate)).values) == [key(PROTECTED)]


def test_only_what_is_planned_or_approved_is_written() -> None:
    assert drift(PLANNED, [wanted(C)], at()).values == {
        key(C): "drift: the plan has nothing about it at this control; run plan_blocks again"
    }
    held = plan_for_control(Wanted([], [wanted(C)]), at())
    assert drift(held, [wanted(C)], at()).values == {}
    refused = plan_for_control(Wanted([wanted(C)]), at(Reading(size=1, capacity=1)))
    found = drift(refused, [wanted(C)], at(Reading(size=0, capacity=1)))
    assert found.values == {key(C): "refused in the plan: capacity: it is full: 1 of 1 entries"}


def test_what_could_not_be_planned_may_be_written() -> None:
    unread = plan_for_control(Wanted([wanted(A)]), Standing("waf", NOW, problem="503"))
    assert drift(unread, [wanted(A)], at()).values == {}


def test_more_changes_of_others_stop_the_whole_control_where_the_policy_refuses_them() -> None:
    more = at(Reading({key(B): Item()}, others_changes=1))
    assert drift(PLANNED, [wanted(A)], more).whole == ""
    found = drift(PLANNED, [wanted(A)], replace(more, refuse_others_changes=True))
    assert found.whole == "drift: 1 changes of other people would go with ours, 0 when the plan was made"
