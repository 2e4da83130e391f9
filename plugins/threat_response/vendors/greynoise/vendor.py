"""What GreyNoise is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Limit, Vendor

VENDOR = Vendor(
    "greynoise",
    "GreyNoise",
    "GreyNoiseHook",
    host="https://api.greynoise.io",
    password="API key (optional for the community)",  # noqa: S106
    fields=(
        Choice(
            "plan",
            "Plan",
            "community: some 50 lookups a week with a key, 25 without; paid: API v3",
            choices=("community", "paid"),
            default="community",
        ),
        Limit("lookups_per_day", "Lookups a day", "Paid only; empty: no limit"),
        *TLS,
    ),
)
