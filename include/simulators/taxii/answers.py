"""Errors of TAXII 2.1, and the reading of a query."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from include.simulators.kit import parse_instant

MEDIA_TYPE = "application/taxii+json;version=2.1"
FILTERS = ("match[id]", "match[type]", "match[version]", "match[spec_version]")
TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    406: "Not acceptable",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
}
Stix = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def query_of(request: Request, *known: str) -> dict[str, str]:
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise Refused(400, f"The server did not understand the filter parameters {unknown}")
    return dict(request.query_params)


def whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise Refused(400, "The limit parameter is a positive number")
    return int(text)


def instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise Refused(400, "added_after is not a timestamp") from None


def text_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def page_token(start: int, same: dict[str, str]) -> str:
    """Where a page goes on. It holds only for the query that it was given for."""
    return f"{start}-{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]}"


def read_token(token: str, same: dict[str, str]) -> int:
    start = token.partition("-")[0]
    if not start.isdigit() or token != page_token(int(start), same):
        raise Refused(400, "next is not valid: the parameters changed over subsequent requests")
    return int(start)
