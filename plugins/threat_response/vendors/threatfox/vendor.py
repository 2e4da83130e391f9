"""What ThreatFox is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import Vendor

VENDOR = Vendor(
    "threatfox",
    "ThreatFox (abuse.ch)",
    "ThreatFoxHook",
    host="https://threatfox-api.abuse.ch",
    password="Auth-Key",  # noqa: S106
)
