"""What a feed of block lists is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Number, Text, Vendor

VENDOR = Vendor(
    "list_feed",
    "Block list feed",
    "ListFeedHook",
    host="https://www.spamhaus.org",
    login="User (optional)",
    password="Password or key (optional)",  # noqa: S106
    is_remote=False,
    refreshes=True,
    fields=(
        Text("lists", "Lists", "name format location [score], several separated by |", needed=True),
        Text("key_header", "Key header", "Header that carries the key, e.g. Auth-Key"),
        Number(
            "stale_after_hours",
            "Stale after (hours)",
            "Then what a list does not name counts as not checked",
            default=48,
            low=1,
            high=8760,
        ),
        Number(
            "largest_loss",
            "Largest loss (%)",
            "A list that lost more of its entries is refused",
            default=50,
            low=0,
            high=100,
        ),
        Number("largest_megabytes", "Largest list (MB)", "A longer one is refused", default=32, low=1, high=1024),
        *TLS,
    ),
    own_pages=True,
)
