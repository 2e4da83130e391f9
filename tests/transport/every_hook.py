"""Every hook that talks HTTP, on a connection to a server of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from threat_response.registry import vendors
from threat_response.transport.form import vendor_of
from threat_response.transport.hook import VendorHook, hook_class

#: With secrets that differ from every word of ours, and from each other.
LOGIN, PASSWORD, ACCESS_TOKEN = "Lq7/vZ+k2%Xw-id", 'Pw9"t&Y\\3é<xK/Rb8', "akab-Jm4Ws6Ht0Gd"
EXTRA: dict[str, dict[str, Any]] = {
    "akamai_sia": {"access_token": ACCESS_TOKEN, "config_id": "41"},
    "akamai_client_lists": {"access_token": ACCESS_TOKEN, "list_id": "1_LIST"},
    "list_feed": {"lists": "drop plain /drop.txt 100"},
    "taxii": {"auth": "basic"},
}
#: Reads files only.
ASKS_NOBODY = {"offline_asn"}
HOOKS = [name for name in vendors() if name not in ASKS_NOBODY]


def hook_to(url: str, vendor: str, monkeypatch: pytest.MonkeyPatch, **extra: Any) -> VendorHook:
    known = {field.name for field in vendor_of(vendor).fields}
    document = {
        "conn_type": vendor,
        "host": url,
        # HTTP headers are Latin-1 at most.
        "login": LOGIN if vendor_of(vendor).login else None,
        "password": PASSWORD,
        "extra": {k: v for k, v in (EXTRA.get(vendor, {}) | extra).items() if k in known},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{vendor_of(vendor).conn_id.upper()}", json.dumps(document))
    return hook_class(vendor)()
