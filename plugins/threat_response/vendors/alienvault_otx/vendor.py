"""What AlienVault OTX is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import Vendor

VENDOR = Vendor(
    "alienvault_otx",
    "AlienVault OTX",
    "AlienVaultOTXHook",
    host="https://otx.alienvault.com",
    password="API key",  # noqa: S106
)
