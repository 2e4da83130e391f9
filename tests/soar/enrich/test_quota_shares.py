"""Which calls of a quota are kept for what can become a block."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from include.soar.enrich.quota import Quota, kept_calls, quotas_of
from tests.soar.examples import policy


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


def test_a_quota_whose_name_the_provider_does_not_have_is_refused(tmp_path: Path) -> None:
    """A slip such as "cheks" would leave the provider without any limit."""
    own = policy(
        tmp_path,
        "enrichment: {quotas: {abuseipdb: [{name: cheks, calls: 5, seconds: 60}], "
        "misp: [{name: x, calls: 1, seconds: 60}]}}",
    ).enrichment
    declared = [Quota("check", 1000, timedelta(days=1)), Quota("blacklist", 5, timedelta(days=1))]
    with pytest.raises(ValueError, match=r"enrichment\.quotas\.abuseipdb: 'cheks' is none of blacklist, check"):
        quotas_of(own, "abuseipdb", declared)
    assert [quota.name for quota in quotas_of(own, "misp", ())] == ["x"]
    assert quotas_of(own, "greynoise", declared) == tuple(declared)
