"""The benchmark of the response: the same for the same seed, and it tells profiles and sources apart."""

from __future__ import annotations

import pytest

from include.bench.response.archetypes import KINDS, World, people
from include.bench.response.measured import Outcome, changed, figures, play, policy_of
from include.soar.model import Rung

WORLD = World(attackers=60)


@pytest.fixture(scope="module")
def balanced() -> Outcome:
    return play(policy_of("balanced"), WORLD)


def test_the_kinds_are_whole_shares_and_the_same_people_come_each_time() -> None:
    assert [sum(k.share for k in KINDS if k.bad is bad) for bad in (True, False)] == [100, 100]
    assert people(WORLD) == people(WORLD)
    addresses = [actor.address for actor in people(World(attackers=1000, alarms=1.0))]
    assert len(set(addresses)) == len(addresses)


def test_the_same_seed_gives_the_same_figures(balanced: Outcome) -> None:
    assert figures(play(policy_of("balanced"), WORLD)) == figures(balanced)


def test_balanced_watches_more_and_blocks_more_than_cautious(balanced: Outcome) -> None:
    cautious = play(policy_of("cautious"), WORLD)
    assert balanced.share(Rung.WATCH) > 0.95 > cautious.share(Rung.WATCH)
    assert balanced.share(Rung.BLOCK_SHORT) > cautious.share(Rung.BLOCK_SHORT)


def test_abuseipdb_changes_outcomes(balanced: Outcome) -> None:
    assert changed(balanced, play(policy_of("balanced"), WORLD, ("list_feed",))) >= 0.1


def test_what_the_gate_protects_is_never_acted_on(balanced: Outcome) -> None:
    protected = [f for a, f in zip(balanced.actors, balanced.fates, strict=True) if a.is_gated]
    assert protected
    assert all(not fate.rungs and not fate.asked for fate in protected)
