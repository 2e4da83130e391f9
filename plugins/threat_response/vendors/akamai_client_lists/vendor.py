"""What Akamai Client Lists is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import (
    ACCESS_TOKEN,
    ACCOUNT_SWITCH_KEY,
    SIGNED_BODY,
    TLS,
    Choice,
    Text,
    Vendor,
    Words,
)

VENDOR = Vendor(
    "akamai_client_lists",
    "Akamai Client Lists (WAF)",
    "AkamaiClientListsHook",
    host="https://akab-xxxx.luna.akamaiapis.net",
    login="Client token",
    password="Client secret",  # noqa: S106
    confirms=True,
    fields=(
        ACCESS_TOKEN,
        Text("list_id", "List id", "The IP list that the security policy blocks, e.g. 12345_BLOCKLIST", needed=True),
        Choice("network", "Network", "Where to activate", choices=("PRODUCTION", "STAGING"), default="PRODUCTION"),
        Choice("api_version", "Activation API", "Newer accounts use v2", choices=("v1", "v2"), default="v1"),
        Words("notification_emails", "Notify", "Addresses told of an activation, separated by commas"),
        ACCOUNT_SWITCH_KEY,
        SIGNED_BODY,
        *TLS,
    ),
)
