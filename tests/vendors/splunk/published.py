"""
There is no published file. What https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTkvstore documents, and
of lookup definitions RESTknowledge (``data/transforms/lookups``); the limit of a batch is that of limits.conf.
"""

from __future__ import annotations

from typing import Any

from tests.published import Judge

#: A name with a dot would be read as a path.
DOCUMENT = {
    "type": "object",
    "required": ["_key"],
    "properties": {"_key": {"type": "string", "minLength": 1}},
    "propertyNames": {"pattern": "^[^.$]+$"},
    "additionalProperties": True,
}
BATCH = {"type": "array", "minItems": 1, "maxItems": 1000, "items": DOCUMENT}


def _takes(*names: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {"parameters": [{"name": name, "in": "query"} for name in names]}
    return operation | ({"requestBody": {"content": body}} if body else {})


def judge() -> Judge:
    form: dict[str, Any] = {"application/x-www-form-urlencoded": {}}
    base = "/servicesNS/{owner}/{app}/storage/collections"
    paths = {
        "/services/auth/login": {"post": _takes(body=form)},
        f"{base}/config": {"post": _takes(body=form)},
        f"{base}/config/{{collection}}": {"get": _takes("output_mode")},
        f"{base}/data/{{collection}}": {"get": _takes("query", "fields", "skip", "limit", "sort")},
        f"{base}/data/{{collection}}/batch_save": {"post": _takes(body={"application/json": {"schema": BATCH}})},
        f"{base}/data/{{collection}}/{{key}}": {"delete": _takes()},
    }
    lookups = "/servicesNS/{owner}/{app}/data/transforms/lookups"
    paths |= {lookups: {"post": _takes(body=form)}, f"{lookups}/{{lookup}}": {"get": _takes("output_mode")}}
    return Judge({"paths": paths})
