"""What Akamai Secure Internet Access is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import (
    ACCESS_TOKEN,
    ACCOUNT_SWITCH_KEY,
    SIGNED_BODY,
    TLS,
    Number,
    Text,
    Vendor,
)

VENDOR = Vendor(
    "akamai_sia",
    "Akamai Secure Internet Access",
    "AkamaiSiaHook",
    host="https://akab-xxxx.luna.akamaiapis.net",
    login="Client token",
    password="Client secret",  # noqa: S106
    fields=(
        ACCESS_TOKEN,
        Text(
            "config_id",
            "Configuration id",
            "The SIA (ETP) configuration, digits",
            pattern=r"^\d+$",
            needed=True,
        ),
        ACCOUNT_SWITCH_KEY,
        Number("page_size", "Page size", "Events a call", default=5000, low=1, high=5000),
        SIGNED_BODY,
        *TLS,
    ),
)
