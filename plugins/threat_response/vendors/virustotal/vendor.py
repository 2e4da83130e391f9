"""What VirusTotal is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Limit, Vendor

VENDOR = Vendor(
    "virustotal",
    "VirusTotal",
    "VirusTotalHook",
    host="https://www.virustotal.com",
    password="API key (a public one must not be used commercially)",  # noqa: S106
    fields=(
        Choice(
            "plan",
            "Plan",
            "A public (free) key must not be used in commercial products, services or business workflows",
            choices=("public", "premium"),
            default="public",
        ),
        Limit("calls_per_minute", "Calls a minute", "Premium only; empty: no limit"),
        Limit("calls_per_day", "Calls a day", "Premium only; empty: no limit"),
        *TLS,
    ),
)
