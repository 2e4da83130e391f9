"""What Akamai Secure Internet Access is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import TLS, Number, Secret, Text, Vendor

VENDOR = Vendor(
    "akamai_sia",
    "Akamai Secure Internet Access",
    "AkamaiSiaHook",
    host="https://akab-xxxx.luna.akamaiapis.net",
    login="Client token",
    password="Client secret",  # noqa: S106
    fields=(
        Secret("access_token", "Access token", "EdgeGrid access_token of the API client (akab-…)", needed=True),
        Text(
            "config_id",
            "Configuration id",
            "The SIA (ETP) configuration, digits",
            pattern=r"^\d+$",
            needed=True,
        ),
        Text("account_switch_key", "Account switch key", "Only for API clients that manage several accounts"),
        Number("page_size", "Page size", "Events a call", default=5000, low=1, high=5000),
        Number(
            "max_body",
            "Signed body",
            "Bytes, where Akamai named another",
            default=131_072,
            low=1,
            high=10**9,
            shown=False,
        ),
        *TLS,
    ),
)
