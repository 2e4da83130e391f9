"""What URLhaus is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import Vendor

VENDOR = Vendor(
    "urlhaus",
    "URLhaus (abuse.ch)",
    "URLhausHook",
    host="https://urlhaus-api.abuse.ch",
    password="Auth-Key",  # noqa: S106
)
