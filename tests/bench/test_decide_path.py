"""The way of one address through ``decide`` stays short."""

from __future__ import annotations

from include.bench.decide_path import caused_by_one, measure

#: 59 before the case was parsed once and each value gated and gathered once, then 40; each text of the model passes the
#: check in model/text.py since (46). One bar became four rungs with eight ways to evidence, each of which looks at the
#: sources, the findings and the past (docs/decisions/0021-response-by-degrees.md).
MOST_CHANGES = 150


def test_one_address_changes_the_file_few_times_on_its_way_through_decide() -> None:
    (measured,) = measure(findings=60, rounds=1).values()
    assert 0 < caused_by_one(measured) <= MOST_CHANGES
    assert 0 < measured["own"] < measured["seconds"]
