"""What Splunk is to us, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Text, Vendor

#: Each is a segment of a URL's path.
_NAME = r"^[A-Za-z0-9_-]*$"

VENDOR = Vendor(
    "splunk",
    "Splunk KV store",
    "SplunkHook",
    host="https://splunk.example",
    port=8089,
    login="User (empty: token)",
    password="Token, or the user's password",  # noqa: S106
    fields=(
        Text("collection", "Collection", "Default threat_watchlist", default="threat_watchlist", pattern=_NAME),
        Text("app", "App", "Default search", default="search", pattern=_NAME),
        Text("owner", "Owner", "Default nobody", default="nobody", pattern=_NAME),
        *TLS,
    ),
)
