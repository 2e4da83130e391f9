"""What MISP is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Number, Switch, Text, Vendor

VENDOR = Vendor(
    "misp",
    "MISP",
    "MispHook",
    host="https://misp.example",
    password="Authentication key",  # noqa: S106
    fields=(
        Switch("published_only", "Published events only", "Leave out drafts", default=True),
        Switch(
            "warning_lists",
            "MISP's warning lists",
            "Leave out what is on one of them (enforceWarninglist)",
            default=True,
        ),
        Text("last", "Published within", "365d, 24h; empty: all events", pattern=r"^[1-9][0-9]*[dhm]$|^$"),
        # One POST takes a list of values; MISP makes one SQL ``IN`` of it.
        Number("values_a_call", "Values a search", "In one call", default=100, low=1, high=1000),
        Number("page_size", "Page size", "Attributes a page", default=1000, low=1, high=10_000),
        *TLS,
    ),
)
