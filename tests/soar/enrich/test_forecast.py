"""How long a backfill's questions take, and what of them can be asked now."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.soar.enrich.forecast import ASKED, STORED, Cost, Forecast
from include.soar.enrich.quota import Quota
from tests.soar.examples import address

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
DAILY, BURST = Quota("lookup", 500, DAY), Quota("lookup", 4, MINUTE)


@pytest.mark.parametrize(
    ("calls", "quotas", "live_share", "now", "takes"),
    [
        (700, (), 0.3, 700, timedelta(0)),
        (350, ((DAILY, 350),), 0.3, 350, timedelta(0)),
        (351, ((DAILY, 350),), 0.3, 350, DAY),
        (1050, ((DAILY, 0),), 0.3, 0, 3 * DAY),
        # The minute's quota makes it slow, and the day's ends it.
        (100, ((BURST, 4), (DAILY, 500)), 0, 100, 24 * MINUTE),
        (501, ((BURST, 4), (DAILY, 500)), 0, 500, DAY),
        (10, ((DAILY, 0),), 1, 0, None),
    ],
)
def test_what_can_be_asked_now_and_how_long_the_rest_takes(
    calls: int, quotas: tuple[tuple[Quota, int], ...], live_share: float, now: int, takes: timedelta | None
) -> None:
    cost = Cost("lookup", calls, quotas, live_share)
    assert (cost.now, cost.takes) == (now, takes)


def test_a_value_counts_once_by_what_is_done_most_about_it() -> None:
    one, evil = Forecast("p"), address("203.0.113.7")
    for fate in ("TLP", ASKED, STORED):
        one.meets([evil], fate)
    assert (one.count(ASKED), len(one.fates)) == (1, 1)
    one.high.add(evil)
    assert one.asked_for_high == 1
