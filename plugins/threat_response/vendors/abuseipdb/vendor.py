"""What AbuseIPDB is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Number, Vendor

VENDOR = Vendor(
    "abuseipdb",
    "AbuseIPDB",
    "AbuseIPDBHook",
    host="https://api.abuseipdb.com",
    password="API key",  # noqa: S106
    refreshes=True,
    fields=(
        Number("max_age_days", "Oldest report (days)", "Older reports do not count", default=90, low=1, high=365),
        Choice(
            "blacklist",
            "Blacklist",
            "Downloaded first, at most four times a day: who is on it is not asked about",
            choices=("json", "plaintext", "off"),
            default="json",
        ),
        Number(
            "blacklist_minimum",
            "Blacklist: lowest score",
            "A free key silently gets 100",
            default=100,
            low=25,
            high=100,
        ),
        Number(
            "blacklist_limit",
            "Blacklist: rows",
            "Silently no more than the plan gives",
            default=10_000,
            low=1,
            high=500_000,
        ),
        Number(
            "check_block_from",
            "Ask about a /24 from",
            "So many of its addresses; 0: never, ask about each",
            default=0,
            low=0,
            high=256,
        ),
        *TLS,
    ),
)
