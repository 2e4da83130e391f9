"""
There is no published file. What Akamai's own clients send: Go SDK ``pkg/clientlists`` v11, PowerShell
``Akamai.ClientLists`` 3.0; limits of tags from https://techdocs.akamai.com/client-lists.
"""

from __future__ import annotations

from typing import Any

from tests.published import Judge

TEXT = {"type": "string"}
ITEM = {
    "type": "object",
    "required": ["value"],
    "properties": {
        "value": {"type": "string", "minLength": 1},
        "description": TEXT,
        "tags": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 256, "pattern": "^[^,;]+$"}},
        "expirationDate": TEXT,
    },
}
ITEMS = {"type": "array", "items": ITEM}
ACTIVATION = {
    "type": "object",
    "required": ["action", "network"],
    "properties": {
        "action": {"enum": ["ACTIVATE", "DEACTIVATE"]},
        "network": {"enum": ["STAGING", "PRODUCTION"]},
        "comments": TEXT,
        "notificationRecipients": {"type": "array", "items": TEXT},
        "siebelTicketId": TEXT,
    },
}


def _get(*names: str) -> dict[str, Any]:
    return {"get": {"parameters": [{"name": name, "in": "query"} for name in names]}}


def _post(schema: dict[str, Any]) -> dict[str, Any]:
    return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}


def judge() -> Judge:
    one = "/v1/lists/{listId}"
    paths = {
        one: _get("includeItems"),
        f"{one}/environments/{{network}}/status": _get(),
        f"{one}/versions/{{version}}/snapshot": _get("page", "pageSize", "search", "sort"),
        f"{one}/items": _post(
            {"type": "object", "properties": {"append": ITEMS, "update": ITEMS, "delete": ITEMS}},
        ),
        f"{one}/activations": _post(ACTIVATION),
        "/v2/lists/{listId}/activations": _post(ACTIVATION),
    }
    # The other API, of which there is a published file (network-lists v2).
    paths["/network-list/v2/network-lists/{networkListId}"] = _get("extended", "includeElements")
    return Judge({"paths": paths}, prefix="/client-list", everywhere=("accountSwitchKey",))
