"""What Cyware Respond is, and what its connection holds.

The fields that are not shown, and the defaults of all but ``auth``, are those of ``tenant.py``: None means "as there".
"""

from __future__ import annotations

from threat_response.transport.form import TLS, Choice, Field, Json, Number, Text, Vendor

#: Where a tenant's words and names differ, one text each.
_WORDS = (
    "base_path",
    "incident_type",
    "label_blocked",
    "label_pending",
    "status_open",
    "status_closed",
    "status_merged",
    "closure",
    "ioc_value_key",
    "ioc_component",
    "incident_component",
)
_MAPS = ("sources", "incident_types", "source_labels", "ioc_keys", "hash_keys")
_OVERRIDES: tuple[Field, ...] = (
    *(Text(name, name, "As tenant.py says", shown=False) for name in _WORDS),
    *(Json(name, name, "As tenant.py says", shown=False) for name in _MAPS),
    Json("labels", "labels", "As tenant.py says", kind=list, shown=False),
    Number("maximum_pages", "Pages", "A longer list is a fault", default=200, low=1, high=100_000, shown=False),
)

VENDOR = Vendor(
    "cyware_respond",
    "Cyware Respond (CFTR)",
    "CywareRespondHook",
    host="https://tenant.cyware.example",
    login="Access id",
    password="Secret key",  # noqa: S106
    fields=(
        Choice(
            "auth",
            "Authentication",
            "signature: AccessID, Expires, Signature; bearer: the secret key field holds a token",
            choices=("signature", "bearer"),
            default="signature",
        ),
        Text("assigned_group", "Assigned group", "Group that gets new incidents"),
        Json("levels", "Severities", 'JSON, ours to the tenant\'s words, e.g. {"critical": "Very High"}'),
        Text("phase", "Phase", "Of new incidents; - leaves it out"),
        Number("page_size", "Page size", "Incidents a call", default=100, low=1, high=100),
        Choice(
            "relate_call",
            "Relationship call",
            "advanced links exactly the pair (inferred); flat is the documented call",
            choices=("advanced", "flat"),
            default="advanced",
        ),
        Json("extra_fields", "Further fields", "JSON object sent with every new incident"),
        Text("portal_url", "Incident page", "Template of an incident's address, with {unique_id}"),
        *_OVERRIDES,
        *TLS,
    ),
)
