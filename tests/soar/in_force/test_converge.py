"""Each pair of what the ledger believes and what a control holds has one fate, and only ours is ever removed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.soar.in_force.converge import Believed, Fate, Memory, Seen, converge, expired_only

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER, EARLIER, LONG_AGO = NOW + timedelta(hours=2), NOW - timedelta(minutes=5), NOW - timedelta(days=1)
KEY = "ipv4-addr:198.51.100.7"


def believed(memory: Memory, ends: datetime | None = LATER, since: datetime = LONG_AGO, by: str = "") -> Believed:
    return Believed(memory, since, ends, by)


def ours(ends: datetime | None = LATER, altered: str = "") -> Seen:
    return Seen(True, altered, ends)


THEIRS = Seen(False, "", LATER)
LEFT, IN, ENDED = Memory.LEFT_TO_PERSON, Memory.IN_FORCE, Memory.ENDED
INTENDED, LIFTING = Memory.INTENDED, Memory.LIFTING


@pytest.mark.parametrize(
    ("known", "seen", "fate"),
    [
        (believed(IN), ours(), Fate.KEEP),
        (believed(IN, EARLIER), ours(EARLIER), Fate.LIFT),
        (believed(IN), ours(EARLIER), Fate.LIFT),
        (believed(IN, EARLIER), None, Fate.LIFT),
        (believed(IN), None, Fate.LEFT_TO_PERSON),
        (believed(IN, since=EARLIER), None, Fate.KEEP),
        (believed(IN), THEIRS, Fate.LEFT_TO_PERSON),
        (believed(IN), ours(altered="end"), Fate.LEFT_TO_PERSON),
        (believed(IN, EARLIER), ours(altered="end"), Fate.LEFT_TO_PERSON),
        (believed(LEFT), ours(), None),
        (believed(LEFT), None, None),
        (believed(ENDED), ours(altered="tags"), None),
        (believed(ENDED), ours(), Fate.LIFT),
        (believed(ENDED), None, None),
        (believed(INTENDED), None, Fate.LIFT),
        (believed(INTENDED, since=EARLIER), None, Fate.KEEP),
        (believed(INTENDED), ours(), Fate.ADOPT),
        (believed(LIFTING), ours(), Fate.LIFT),
        (believed(LIFTING), None, Fate.LIFT),
        (None, ours(), Fate.ADOPT),
        (None, ours(EARLIER), Fate.LIFT),
        (None, ours(None), Fate.STRAY),
        (None, Seen(True, "", None, ended=True), Fate.LIFT),
        (believed(IN), Seen(True, "", LATER, ended=True), Fate.LIFT),
        (None, ours(altered="description"), Fate.STRAY),
        (None, THEIRS, None),
    ],
)
def test_the_fate_of_each_pair(known: Believed | None, seen: Seen | None, fate: Fate | None) -> None:
    moves = converge({KEY: known} if known else {}, {KEY: seen} if seen else {}, lambda _: None, NOW)
    assert (moves[KEY].fate if moves else None) is fate


@pytest.mark.parametrize("known", [believed(IN), believed(INTENDED), None], ids=["in force", "intended", "unknown"])
def test_what_became_protected_is_lifted_and_says_by_what(known: Believed | None) -> None:
    moves = converge({KEY: known} if known else {}, {KEY: ours()}, lambda _: "our own network", NOW)
    assert moves[KEY].fate is Fate.LIFT
    assert "our own network" in moves[KEY].why


def test_an_expired_pass_ends_what_is_over_and_what_a_person_began_to_lift() -> None:
    known = {
        "a": believed(IN, EARLIER),
        "b": believed(IN, EARLIER),
        "c": believed(LIFTING, by="ada"),
        "d": believed(IN),
        "e": believed(IN),
    }
    seen = {"a": ours(EARLIER), "c": ours(), "d": ours(), "f": ours(EARLIER), "g": ours()}
    moves = expired_only(converge(known, seen, lambda key: "x" if key == "d" else None, NOW))
    assert {key: move.fate for key, move in moves.items()} == {
        "a": Fate.LIFT,
        "b": Fate.LIFT,
        "c": Fate.LIFT,
        "f": Fate.LIFT,
    }


TIMES = st.none() | st.sampled_from([LONG_AGO, EARLIER, NOW, LATER])


@given(
    st.none() | st.builds(Believed, st.sampled_from(Memory), st.sampled_from([LONG_AGO, EARLIER]), TIMES),
    st.none() | st.builds(Seen, st.booleans(), st.sampled_from(["", "tags"]), TIMES),
    st.none() | st.just("ours"),
)
def test_only_ours_and_untouched_is_removed_and_a_second_pass_changes_nothing(
    known: Believed | None, seen: Seen | None, why: str | None
) -> None:
    moves = converge({KEY: known} if known else {}, {KEY: seen} if seen else {}, lambda _: why, NOW)
    if KEY not in moves:
        return
    move = moves[KEY]
    if move.fate is Fate.LIFT and seen is not None and seen.is_ours:
        assert not seen.altered
    # What the stages make of it, and then once more, when nothing is on its way any more.
    memory = {Fate.LIFT: ENDED, Fate.ADOPT: IN, Fate.LEFT_TO_PERSON: LEFT}.get(move.fate)
    if memory:
        after = {} if move.fate is Fate.LIFT else {KEY: seen} if seen else {}
        again = converge({KEY: Believed(memory, NOW, move.expires_at)}, after, lambda _: None, NOW)
        assert not any(m.changes for m in again.values())
