"""Bodies and errors of Falcon's custom indicators, and what its requests may hold."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from include.simulators.kit import Receive, Scope, Send, parse_instant

TYPES = ["sha256", "md5", "domain", "ipv4", "ipv6"]
ACTIONS = ["no_action", "allow", "prevent_no_ui", "prevent", "detect"]
MOBILE_ACTIONS = ["no_action", "allow", "detect", "prevent"]
PLATFORMS = ["windows", "mac", "linux", "ios", "android"]
SEVERITIES = ["informational", "low", "medium", "high", "critical"]
HASHES = {"sha256": 64, "md5": 32}
HASH_ONLY_ACTIONS = {"allow", "prevent_no_ui", "prevent"}
ACTIONS_WITH_SEVERITY = {"prevent_no_ui", "prevent", "detect"}
LONGEST_DOMAIN = 200
MOST_PER_PAGE = 500
DEFAULT_PER_PAGE = 100
#: Further results need ``after``.
DEEPEST_OFFSET = 10_000
EDITABLE = frozenset(
    [
        "action",
        "applied_globally",
        "description",
        "expiration",
        "host_groups",
        "metadata",
        "mobile_action",
        "platforms",
        "severity",
        "source",
        "tags",
    ]
)
#: Members of an indicator that FQL may name.
FILTER_FIELDS = frozenset(
    [
        "action",
        "applied_globally",
        "created_by",
        "created_on",
        "expiration",
        "expired",
        "metadata.filename.raw",
        "modified_by",
        "modified_on",
        "severity_number",
        "source",
        "type",
        "value",
    ]
)
#: What a search may be sorted by besides: PSFalcon's list.
SORT_FIELDS = FILTER_FIELDS | {
    f"metadata.{name}"
    for name in (
        "av_hits",
        "company_name.raw",
        "file_description.raw",
        "file_version.raw",
        "original_filename.raw",
        "product_name.raw",
        "product_version",
        "signed",
    )
}
DATE_FIELDS = frozenset({"created_on", "expiration", "modified_on"})
# Inferred, or from third parties: not settled by a vendor page.
#: From third-party recordings of the vendor's answers.
INVALID_TOKEN = "access denied, invalid bearer token"
NOT_ALLOWED = "access denied, authorization failed"
RATE_LIMITED = "API rate limit exceeded."
#: PSFalcon's limit for one POST or PATCH.
MOST_PER_REQUEST = 2000
LONGEST_SOURCE = 256
LONGEST_DESCRIPTION = 200
#: ios and android need Falcon for Mobile, which this tenant does not have.
MOBILE_PLATFORMS = {"ios", "android"}
SEVERITY_NUMBERS = {"informational": 10, "low": 30, "medium": 50, "high": 70, "critical": 90}
INVALID_ROWS = "One or more indicators are invalid"
#: falconpy hands headers on in a case-sensitive dictionary, and Starlette writes their names in lower case. Uvicorn
#: sends these spellings only with ``http="h11"``; its httptools writes lower case again.
HEADER_NAMES = {
    name.lower(): name for name in (b"X-Cs-Region", b"X-Cs-Traceid", b"X-Ratelimit-Limit", b"X-Ratelimit-Remaining")
} | {b"x-ratelimit-retryafter": b"X-RateLimit-RetryAfter"}
Indicator = dict[str, Any]
Filter = Callable[[Indicator], bool]


class Answer(JSONResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.raw_headers = [(HEADER_NAMES.get(name, name), value) for name, value in self.raw_headers]
        await super().__call__(scope, receive, send)


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RowError(Exception):
    """What is wrong with one member of one indicator."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(message)
        self.field_name = field_name
        self.message = message


def error_row(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def row_message(number: int, row: Any, problem: RowError) -> dict[str, Any]:
    members = row if isinstance(row, dict) else {}
    return {
        "row": number,
        "type": members.get("type", ""),
        "value": members.get("value", ""),
        "field_name": problem.field_name,
        "message_type": "error",
        "message": problem.message,
    }


def shown(indicator: Indicator) -> Indicator:
    return {k: v for k, v in indicator.items() if not k.startswith("_")}


def identity_of(kind: str, value: str) -> str:
    if kind == "ipv6":
        value = str(ipaddress.IPv6Address(value))
    return f"{kind}:{value.lower()}"


def new_row(row: Any) -> Any:
    """A row of a create, of what a client may set; what it leaves out is as the service fills it in."""
    if not isinstance(row, dict):
        return row
    given = {name: value for name, value in row.items() if name in EDITABLE | {"type", "value"}}
    return {"action": "no_action", "severity": ""} | given


def changed_members(known: Indicator, row: Indicator) -> Indicator:
    """
    What an update changes.

    :raises RowError: it names another type or value
    """
    for name in ("type", "value"):
        if name in row and row[name] != known[name]:
            raise RowError(name, f"The {name} of an indicator cannot be changed.")
    return {name: value for name, value in row.items() if name in EDITABLE}


def query_of(request: Request) -> dict[str, str]:
    query = dict(request.query_params)
    for name in ("retrodetects", "ignore_warnings", "from_parent"):
        if name in query:
            query[name] = query[name].lower()  # falconpy sends Python's True
            if query[name] not in ("true", "false"):
                raise Refused(400, f"{name} must be a boolean")
    return query


def ids_of(request: Request) -> list[str]:
    ids = request.query_params.getlist("ids")
    if not ids:
        raise Refused(400, "ids is required")
    return ids


def whole(query: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise Refused(400, f"{name} must be an integer between {low} and {high}")
    return int(text)


def body_of(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        raise Refused(400, "The body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be an object")
    if not isinstance(body.get("bulk_update") or {}, dict) or not isinstance(body.get("comment") or "", str):
        raise Refused(400, "bulk_update must be an object and comment a string")
    return body


def rows_of(body: dict[str, Any]) -> list[Any]:
    rows = body.get("indicators")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PER_REQUEST:
        raise Refused(400, f"indicators must be a list of 1 to {MOST_PER_REQUEST} indicators")
    return rows


def one_of(row: dict[str, Any], name: str, values: list[str]) -> None:
    if row.get(name) not in values:
        raise RowError(name, f"Invalid {name}: must be one of {values}.")


def check_value(row: dict[str, Any]) -> None:
    kind, value = row["type"], row.get("value")
    good = isinstance(value, str)
    if good and kind in HASHES:
        good = re.fullmatch(f"[0-9a-fA-F]{{{HASHES[kind]}}}", value) is not None
    elif good and kind == "domain":
        good = 1 <= len(value) <= LONGEST_DOMAIN and re.fullmatch(r"[\w-]+(\.[\w-]+)+", value) is not None
    elif good:
        try:
            good = ipaddress.ip_address(value).version == int(kind[-1]) and "%" not in value
        except ValueError:
            good = False
    if not good:
        raise RowError("value", f"Invalid value for type '{kind}'.")


def check_scope(row: Indicator) -> None:
    everywhere, groups = row.get("applied_globally", False), row.get("host_groups")
    if not isinstance(everywhere, bool):
        raise RowError("applied_globally", "applied_globally must be a boolean.")
    if groups is not None and (
        not isinstance(groups, list) or not all(isinstance(g, str) and re.fullmatch("[0-9a-f]{32}", g) for g in groups)
    ):
        raise RowError("host_groups", "host_groups must be a list of host group ids.")
    if everywhere == bool(groups):
        raise RowError("applied_globally", "Exactly one of applied_globally and host_groups is required.")


def check_texts(row: Indicator) -> None:
    for name, longest in (("source", LONGEST_SOURCE), ("description", LONGEST_DESCRIPTION)):
        if name in row and not (isinstance(row[name], str) and len(row[name]) <= longest):
            raise RowError(name, f"{name} must be a string of at most {longest} characters.")
    tags = row.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(t, str) for t in tags):
        raise RowError("tags", "tags must be a list of strings.")
    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict) or (metadata.get("filename") and row["type"] not in HASHES):
        raise RowError("metadata", "metadata.filename applies to hashes only.")


def instant(text: str) -> datetime:
    """RFC 3339 in UTC, or a date."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?Z)?", text):
        raise ValueError(text)
    return parse_instant(re.sub(r"(\.\d{6})\d+", r"\1", text))


def rfc3339(text: str) -> str:
    return instant(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
