"""Whose an event's attackers and severities are: the first window's that read them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from include.soar.extract import growth
from include.soar.extract.case import case_of
from include.soar.model import FetchBatch, Finding, Role, Severity, Window
from tests.soar.examples import at, finding, mention

HOURS = [f"2026-11-24T{hour:02}:00" for hour in range(10, 16)]


def window(number: int) -> Window:
    return Window(start_at=at(HOURS[number]), end_at=at(HOURS[number + 1]), chosen_by="test")


def event(attackers: tuple[str, ...], severity: Severity = Severity.HIGH) -> Finding:
    mentions = (
        *(mention(text, role=Role.ATTACKER) for text in attackers),
        mention("api.shop.example", role=Role.VICTIM),
        mention("evidence", role=Role.MENTIONED),
    )
    return finding("1", seen=at("2026-11-24T10:10"), severity=severity, mentions=mentions)


def read(owners: dict[str, str], seen: Finding, number: int) -> Finding | None:
    """As a window's fetch does: what nobody has claimed is this window's."""
    for one in [seen, *growth.parts([seen])]:
        owners.setdefault(one.uid, window(number).key)
    mine = {uid for uid, owner in owners.items() if owner == window(number).key}
    shares = growth.shares([seen], mine, window(number))
    return shares[0] if shares else None


def attackers(share: Finding | None) -> set[str]:
    return {m.text for m in share.mentions if m.role is Role.ATTACKER} if share else set()


@given(st.lists(st.frozensets(st.sampled_from("ABCD"), min_size=1), min_size=1, max_size=5))
def test_each_attacker_is_given_once_and_repeats_give_the_same(reads: list[frozenset[str]]) -> None:
    owners: dict[str, str] = {}
    given_out: list[set[str]] = []
    for number, seen in enumerate(reads):
        given_out.append(attackers(read(owners, event(tuple(sorted(seen))), number)))
    assert set().union(*given_out) == set().union(*reads)
    assert sum(map(len, given_out)) == len(set().union(*reads))
    # A repeat finds the event as it is now, with all that was added meanwhile.
    everything = event(tuple(sorted(set().union(*reads))))
    for number, before in enumerate(given_out):
        assert attackers(read(owners, everything, number)) == before


def test_a_later_share_has_who_attacked_and_whom_and_the_time_of_its_window() -> None:
    owners: dict[str, str] = {}
    first = read(owners, event(("A",)), 0)
    assert first == event(("A",))
    later = read(owners, event(("A", "B")), 2)
    assert later is not None
    assert [m.text for m in later.mentions] == ["B", "api.shop.example"]
    assert (later.uid, later.grown_at, later.seen_at) == ("1", at(HOURS[2]), at(HOURS[2]))


def test_what_grows_while_it_is_unfinished_is_finished_together() -> None:
    known = event(("203.0.113.1",))
    grown = event(("203.0.113.2",)).model_copy(update={"grown_at": at(HOURS[2])})
    batch = FetchBatch(source="a", window=window(2), pages=1, records=1, archive=(), digest="d", findings=(grown,))
    case = case_of([batch], carried_over=[known])
    seen = {o.observable.value: o.last_seen_at for o in case.observed if o.observable.is_address}
    assert set(seen) == {"203.0.113.1", "203.0.113.2"}
    assert case.carried_over == ()
