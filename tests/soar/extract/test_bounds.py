"""An attacker's texts cost a bounded number of values, however many they hold, and what is left out is counted."""

from __future__ import annotations

import json
import tracemalloc
from datetime import timedelta

import pytest

from include.soar.extract.bounds import BOUNDS, OF_EACH_FINDING, Bounds
from include.soar.extract.case import case_of
from include.soar.extract.findings import observe_within
from include.soar.incident import texts
from include.soar.incident.gather import ROWS
from include.soar.model import CaseBatch, FetchBatch, Finding, LeftOutValues, Mention, Observed, Role, Severity
from tests.soar.deciding import decided
from tests.soar.examples import NOW, finding, mention, policy, window

#: Addresses that fill a text of 64 kB.
PER_TEXT = 4_600
CLAIMED, MENTIONED, ATTACKER, RESOLVED = Role.CLAIM, Role.MENTIONED, Role.ATTACKER, Role.RESOLVED


def addresses(count: int, first: int = 0) -> list[str]:
    return [f"45.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in range(first, first + count)]


def text(count: int, first: int = 0, role: Role = CLAIMED, field: str = "header") -> Mention:
    return mention(", ".join(addresses(count, first)), role, field)


def flood(texts: int, role: Role = CLAIMED) -> Finding:
    """One event with so many texts of 64 kB, each full of other addresses."""
    mentions = [text(PER_TEXT, n * PER_TEXT, role, f"header {n}") for n in range(texts)]
    assert all(55_000 < len(one.text) <= 65_536 for one in mentions)
    return finding("flood", mentions=(*mentions, mention("203.0.113.7", ATTACKER, "attacker")))


def case(*findings: Finding) -> CaseBatch:
    fields = {"source": "s", "window": window(), "pages": 1, "records": 1, "archive": (), "digest": "d"}
    return case_of([FetchBatch.model_validate(fields | {"findings": findings})])


def in_roles(observed: tuple[Observed, ...], *roles: Role) -> set[str]:
    return {item.observable.value for item in observed if item.roles & set(roles)}


@pytest.mark.parametrize(("role", "count"), [(CLAIMED, 20), (MENTIONED, 2), (Role.VICTIM, 2), (Role.INTERNAL, 2)])
def test_texts_of_64_kb_become_two_thousand_values_and_a_count(role: Role, count: int) -> None:
    """1f, V8."""
    one = case(flood(count, role))
    assert len(one.observed) == BOUNDS.harmless_per_finding + 1
    assert in_roles(one.observed, ATTACKER) == {"203.0.113.7"}
    assert one.left_out == (LeftOutValues(finding_uid="flood", values=count * PER_TEXT - 2_000),)
    assert CaseBatch.model_validate(one.to_json()) == one


def test_the_case_does_not_grow_with_what_the_attacker_sends() -> None:
    """1f, V8: beyond the bound, a text more changes nothing of the size, and next to nothing of the memory."""

    def measured(texts: int) -> tuple[int, int, int]:
        sent = flood(texts)
        tracemalloc.start()
        seen = observe_within([sent])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        sightings = sum(len(item.sightings) for item in seen.observed)
        return sightings, len(json.dumps([item.to_json() for item in seen.observed])), peak

    few, many = measured(5), measured(20)
    assert many[0] == few[0] == BOUNDS.harmless_per_finding + 1
    assert many[1] == pytest.approx(few[1], rel=0.05)
    assert many[2] < 3 * few[2], "four times the text"
    assert many[2] < 64_000_000


def test_decision_and_texts_end_where_the_case_does() -> None:
    """1f, V8: verdicts, decision and incident texts of four times the text; the incident counts what it lacks."""

    def made(texts_sent: int) -> tuple[int, int, int, str]:
        one = case(flood(texts_sent))
        decision = decided(one.to_json(), {}, policy(), now=NOW + timedelta(hours=1)).decision
        told = texts.description(one, decision, one.findings[0], source="s", mark="TR-x")
        return len(decision.verdicts), len(json.dumps(decision.to_json())), len(told), told

    few, many = made(5), made(20)
    assert many[0] == few[0] == BOUNDS.harmless_per_finding + 1
    assert many[1] == pytest.approx(few[1], rel=0.05)
    assert many[2] == pytest.approx(few[2], rel=0.05)
    shown = 20 * PER_TEXT + 1 - ROWS
    assert f"and {shown} more" in many[3]


def test_more_text_than_is_read_is_counted_by_the_text() -> None:
    """1f, V8: a thousand texts of 64 kB in one record."""
    bounds = Bounds(characters_per_finding=300_000, characters_per_run=0)
    sent = finding("1", mentions=(*(text(PER_TEXT, n * PER_TEXT) for n in range(6)), mention("203.0.113.7", ATTACKER)))
    seen = observe_within([sent], bounds=bounds)
    (left,) = seen.left_out
    assert (left.texts, left.values) == (2, 4 * PER_TEXT - bounds.harmless_per_finding)
    assert in_roles(seen.observed, ATTACKER) == {"203.0.113.7"}


def test_what_the_vendor_names_is_never_cut_for_what_is_claimed() -> None:
    """1f: 3,000 attackers behind 92,000 claims; the first half of them is claimed as well."""
    claims = tuple(text(PER_TEXT, n * PER_TEXT) for n in range(20))
    named = addresses(3_000, 20 * PER_TEXT - 1_500)
    seen = observe_within([finding("1", mentions=(*claims, *(mention(one, ATTACKER) for one in named)))])
    assert in_roles(seen.observed, ATTACKER) == set(named)
    (left,) = seen.left_out
    assert left.values == 20 * PER_TEXT + 1_500 - len(seen.observed)
    assert left.acting == 0


def test_acting_values_have_a_bound_of_their_own_and_it_is_told() -> None:
    seen = observe_within([finding("1", mentions=(text(30, role=RESOLVED), text(7, 500)))], bounds=Bounds(5, 5, 20))
    assert len(in_roles(seen.observed, RESOLVED)) == 20
    assert len(in_roles(seen.observed, CLAIMED)) == 5
    assert seen.left_out == (LeftOutValues(finding_uid="1", values=12, acting=10),)


def test_a_text_that_is_full_hides_nothing_of_the_others() -> None:
    """V8."""
    last = mention("evil.example 203.0.113.9", MENTIONED, "body")
    seen = observe_within([finding("1", mentions=(text(PER_TEXT), last))])
    assert {"evil.example", "203.0.113.9"} <= in_roles(seen.observed, MENTIONED)
    assert len(seen.observed) == BOUNDS.harmless_per_finding


def test_up_to_the_bound_nothing_is_left_out() -> None:
    seen = observe_within([finding("1", mentions=(text(1_500), text(500, 1_500, MENTIONED, "body")))])
    assert (len(seen.observed), seen.left_out) == (2_000, ())


def test_the_same_values_again_and_again_are_few_sightings() -> None:
    """V8: 200 texts with the same 1,200 addresses would be 240,000 sightings."""
    seen = observe_within([finding("1", mentions=tuple(text(1_200, field=f"h{n}") for n in range(200)))])
    assert len(seen.observed) == 1_200
    assert sum(len(item.sightings) for item in seen.observed) <= 5 * BOUNDS.harmless_per_finding


def test_many_findings_share_what_a_run_may_bring_and_the_severe_come_first() -> None:
    """1f: 50 findings with 1,200 claimed addresses each would be 60,000 observables."""
    low = [finding(f"low {n}", severity=Severity.LOW, mentions=(text(1_200, n * 1_200),)) for n in range(50)]
    severe = finding(
        "severe", severity=Severity.CRITICAL, mentions=(text(1_200, 100_000),), seen=NOW + timedelta(minutes=59)
    )
    seen = observe_within([*low, severe])
    assert len(seen.observed) == BOUNDS.harmless_per_run + 51 * OF_EACH_FINDING
    of = {uid: sum(uid in {s.finding_uid for s in o.sightings} for o in seen.observed) for uid in ("severe", "low 49")}
    assert of == {"severe": 1_200, "low 49": OF_EACH_FINDING}
    assert sum(left.values for left in seen.left_out) + len(seen.observed) == 51 * 1_200
    assert observe_within([severe, *reversed(low)]) == seen
