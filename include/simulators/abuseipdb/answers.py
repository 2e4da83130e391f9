"""Bodies and errors of AbuseIPDB, its limits, and the reading of a request's parameters."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from include.simulators.kit import parse_instant

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Requests a day. https://docs.abuseipdb.com/#api-daily-rate-limits
DAILY_LIMITS = {
    "individual": {"check": 1000, "reports": 100, "blacklist": 5, "report": 1000, "check-block": 100},
    "webmaster": {"check": 3000, "reports": 500, "blacklist": 10, "report": 3000, "check-block": 250},
    "supporter": {"check": 5000, "reports": 1000, "blacklist": 20, "report": 1000, "check-block": 500},
    "basic": {"check": 10000, "reports": 5000, "blacklist": 100, "report": 10000, "check-block": 1000},
    "premium": {"check": 50000, "reports": 25000, "blacklist": 500, "report": 50000, "check-block": 5000},
}
#: These two have the same figures as the blacklist in every plan.
LIKE_BLACKLIST = ("bulk-report", "clear-address")
ENDPOINTS = (*DAILY_LIMITS["individual"], *LIKE_BLACKLIST)
#: Shortest IPv4 prefix and largest maxAgeInDays of check-block; other plans are "standard".
BLOCK_CAPS = {"basic": (20, 60), "premium": (16, 365)}
STANDARD_BLOCK_CAP = (24, 30)
#: Rows of the blacklist; other plans get the free 10,000.
BLACKLIST_ROWS = {"basic": 100_000, "premium": 500_000}
FREE_BLACKLIST_ROWS = 10_000
BLACKLIST_LIFE = {"premium": timedelta(hours=1)}
STANDARD_BLACKLIST_LIFE = timedelta(days=1)
LOWEST_CONFIDENCE = 25
SAME_ADDRESS_PAUSE = timedelta(minutes=15)
MOST_CATEGORIES = 30
MOST_VERBOSE_REPORTS = 10_000
CATEGORIES = range(1, 24)
AUTHENTICATION_FAILED = (
    "Authentication failed. Your API key is either missing, incorrect, or revoked. "
    "Note: The APIv2 key differs from the APIv1 key."
)
NOT_AN_ADDRESS = "must be a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888)."
# Inferred: no vendor page or recording settles these.
#: How long after 00:00 UTC a quota day begins. A third party says midnight UTC; the vendor's own example fits 05:00.
QUOTA_DAY_STARTS = timedelta(0)
PLAN_EXCEEDED = "Your subscription plan does not allow this query. Please upgrade."
#: Plans whose confidenceMinimum below 100 is honoured ("subscriber feature").
SUBSCRIBERS = ("basic", "premium")
#: check-block caps are documented for IPv4 only; the same number of addresses is assumed for IPv6.
IPV6_EXTRA_BITS = 96
#: An address without any report: "may be null if a whitelist lookup was not performed".
UNKNOWN_IS_WHITELISTED = None
#: bulk-report counts lines, and the header is the first.
FIRST_DATA_ROW = 2
SYNTHETIC_SPREAD = timedelta(days=20)
OWN_REPORTER_ID = 70001
#: What a live service said in 2026-09 about the first documentation address (third-party recording).
RECORDED = {
    "192.0.2.1": {
        "isWhitelisted": True,
        "totalReports": 113,
        "numDistinctUsers": 28,
        "lastReportedAt": "2026-09-16T09:47:56+00:00",
    }
}
ADDRESS_MEMBERS = frozenset(
    [
        "isPublic",
        "isWhitelisted",
        "abuseConfidenceScore",
        "countryCode",
        "countryName",
        "usageType",
        "isp",
        "domain",
        "hostnames",
        "isTor",
        "totalReports",
        "numDistinctUsers",
        "lastReportedAt",
        "reports",
        "categories",
        "_available_at",
    ]
)
HTML_TITLES = {401: "Unauthorized", 402: "Payment Required", 422: "Unprocessable Content", 429: "Too Many Requests"}


class Refused(Exception):
    """An answer in the error shape: ``status``, ``detail`` and the offending parameter."""

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter


def reports_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The seeded reports, or as many made-up ones as the totals say."""
    if "reports" in record:
        return list(record["reports"])
    total = record.get("totalReports") or 0
    users = max(1, record.get("numDistinctUsers") or 1)
    last = record.get("lastReportedAt")
    newest = parse_instant(last) if last else record.get("_seeded_at")
    if newest is None or not total:
        return []
    step = min(timedelta(hours=1), SYNTHETIC_SPREAD / total)
    return [
        {
            "reportedAt": iso(newest - number * step),
            "comment": "Synthetic report",
            "categories": record.get("categories", [18]),
            "reporterId": number % users + 1,
            "reporterCountryCode": None,
            "reporterCountryName": None,
        }
        for number in range(total)
    ]


def spent(limit: int) -> str:
    return f"Daily rate limit of {limit} requests exceeded for this endpoint. See headers for additional details."


def iso(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(microsecond=0).isoformat()


def _without_private(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_private(v) for k, v in value.items() if not k.startswith("_")}
    return [_without_private(v) for v in value] if isinstance(value, list) else value


def json_answer(document: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(_without_private(document), separators=(",", ":")).replace("/", "\\/")
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-cache, private"})


def error_page(status: int) -> Response:
    title = HTML_TITLES.get(status, "Error")
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>{status} | {title}</body></html>"
    return Response(page, status, media_type="text/html")


def known(given: dict[str, str], names: set[str]) -> dict[str, str]:
    """Those that an endpoint knows; the service ignores the others."""
    return {name: value for name, value in given.items() if name in names}


def query_of(request: Request, *names: str) -> dict[str, str]:
    return known(dict(request.query_params), {*names, "key"})


def _words(parameter: str) -> str:
    """``maxAgeInDays`` as the vendor's validation texts spell it: ``max age in days``."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in parameter)


def address_of(fields: dict[str, str], parameter: str) -> Address:
    text = fields.get(parameter, "")
    if not text:
        raise Refused(422, f"The {_words(parameter)} field is required.", parameter)
    if not_an_address(text):
        raise Refused(422, f"The ip address {NOT_AN_ADDRESS}", parameter)
    return ipaddress.ip_address(text)


def not_an_address(text: str) -> bool:
    try:
        return "%" in text or not ipaddress.ip_address(text)
    except ValueError:
        return True


def whole(fields: dict[str, str], parameter: str, default: int, low: int, high: int | None) -> int:
    if parameter not in fields:
        return default
    text = fields[parameter]
    if not text.isascii() or not text.lstrip("-").isdigit():
        raise Refused(422, f"The {_words(parameter)} must be an integer.", parameter)
    number = int(text)
    if high is not None and not low <= number <= high:
        raise Refused(422, f"The {_words(parameter)} must be between {low} and {high}.", parameter)
    if number < low:
        raise Refused(422, f"The {_words(parameter)} must be at least {low}.", parameter)
    return number


def countries(fields: dict[str, str], parameter: str) -> set[str]:
    codes = {c.strip().upper() for c in fields.get(parameter, "").split(",") if c.strip()}
    if any(len(c) != 2 or not c.isalpha() for c in codes):
        raise Refused(422, f"The {_words(parameter)} must be ISO 3166 alpha-2 codes.", parameter)
    return codes


def categories_of(text: str) -> list[int]:
    if not text.strip():
        raise Refused(422, "The categories field is required.", "categories")
    parts = [p.strip() for p in text.split(",")]
    if len(parts) > MOST_CATEGORIES or not all(p.isascii() and p.isdigit() and int(p) in CATEGORIES for p in parts):
        raise Refused(422, "The categories must be valid category ids.", "categories")
    return [int(p) for p in parts]
