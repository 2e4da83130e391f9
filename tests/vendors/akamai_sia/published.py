"""Akamai's published file of the ETP reporting API."""

from __future__ import annotations

from typing import Any

from tests.published import Judge, published


def judge() -> Judge:
    document = published("specs/akamai/etp-report-v3/openapi.json")
    for item in document["paths"].values():
        content = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if content:
            _repair(content["schema"])
    return Judge(document, prefix="/etp-report/v3", everywhere=("accountSwitchKey",))


def _repair(schema: dict[str, Any]) -> None:
    """
    Two slips, by which the file refuses its own example: each plain property is wrapped in an object that holds a
    property of the same name, and an empty ``filters`` is forbidden, which the vendor's own cli-etp sends.
    """
    for name, inner in schema.get("properties", {}).items():
        if set(inner.get("properties", ())) == {name}:
            schema["properties"][name] = inner["properties"][name]
    schema.get("properties", {}).get("filters", {}).pop("minProperties", None)
