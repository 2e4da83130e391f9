"""Which calls of a quota are kept for what can become a block."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.soar.enrich.quota import Quota, kept_calls


@pytest.mark.parametrize(
    ("period", "share", "kept"),
    [
        (timedelta(days=1), 0.5, 500),
        (timedelta(weeks=1), 0.25, 250),
        (timedelta(hours=1), 0.5, 500),
        (timedelta(minutes=10), 0.5, 0),
        (timedelta(minutes=1), 1.0, 0),
        (timedelta(days=1), 0.0, 0),
        (timedelta(days=1), 1.0, 1000),
    ],
)
def test_only_of_a_quota_that_nobody_can_wait_for(period: timedelta, share: float, kept: int) -> None:
    """1a, V7: VirusTotal's four a minute have renewed before anybody is hurt, its 500 a day have not."""
    assert kept_calls(Quota("check", 1000, period), 1000, share) == kept


def test_a_quota_too_small_to_share_is_kept_whole() -> None:
    assert kept_calls(Quota("check", 1, timedelta(days=1)), 1, 0.5) == 1
