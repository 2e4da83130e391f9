"""What a TAXII 2.1 server is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Number, Text, Vendor, Words

VENDOR = Vendor(
    "taxii",
    "TAXII 2.1 server",
    "TaxiiHook",
    host="https://taxii.example",
    login="User (Basic)",
    password="Password or key",  # noqa: S106
    is_remote=False,
    refreshes=True,
    fields=(
        Choice(
            "auth",
            "Authentication",
            "basic: user and password; bearer, token: in Authorization; header: in another header",
            choices=("basic", "bearer", "token", "header"),
            default="basic",
        ),
        Text("key_header", "Key header", "Only for header, e.g. X-Api-Key", needed=("auth", "header")),
        Text("discovery_path", "Discovery path", "Default /taxii2/", default="/taxii2/"),
        Text("api_root", "API root", "Its path or URL; empty: the server's default"),
        Words(
            "collections",
            "Collections",
            "Ids or titles separated by |; empty: all that may be read",
            separator="|",
        ),
        Number("first_days", "First download (days)", "What was added since; 0: all", default=0, low=0, high=36_500),
        Number(
            "stale_after_hours",
            "Stale after (hours)",
            "A collection not read for so long no longer says that something is not listed",
            default=48,
            low=1,
            high=8760,
        ),
        # A server may send fewer; it never sends more.
        Number("page_size", "Page size", "Objects a page", default=1000, low=1, high=100_000),
        *TLS,
    ),
    own_pages=True,
)
