"""What the offline AS table is, and what its connection holds."""

from __future__ import annotations

from threat_response.transport.form import Text, Vendor

VENDOR = Vendor(
    "offline_asn",
    "Offline AS table",
    "OfflineAsnHook",
    host="https://iptoasn.com",
    has_host=False,
    is_remote=False,
    has_opinion=False,
    # No TLS fields: no host is talked to, and an object store has an Airflow connection of its own.
    fields=(
        Text("table", "Table", "Path or object-storage URL of a table of iptoasn.com, packed or not", needed=True),
    ),
)
