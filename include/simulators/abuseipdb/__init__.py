"""AbuseIPDB APIv2, as its documentation describes it (https://docs.abuseipdb.com/).

Paths under ``/api/v2``: ``check``, ``reports``, ``blacklist``, ``check-block``, ``report``, ``bulk-report``,
``clear-address``. The key travels in the ``Key`` header or the ``key`` query parameter. Every endpoint has its own
daily counter; without ``Accept: application/json`` an error is an HTML page; slashes in JSON are escaped, as PHP does.

Seed::

    {"addresses": {"203.0.113.9": {"abuseConfidenceScore": 100, "totalReports": 31, "numDistinctUsers": 7,
                                   "lastReportedAt": "2026-09-16T18:57:24+00:00", "countryCode": "NL", ...}},
     "public_networks": ["203.0.113.0/24"]}

An address takes any member of the ``check`` answer; what is missing is null, zero or empty. ``reports`` (objects as
the verbose answer has them) may be given; otherwise ``totalReports`` reports by ``numDistinctUsers`` people in the
given ``categories`` are made up backwards from ``lastReportedAt`` (default: the moment of seeding), the oldest at
most twenty days earlier. ``public_networks`` are reserved networks to be treated as public, because demo data uses
only documentation addresses. Any other address that is not global answers as a reserved one; a public address that
was never seeded has score 0 and no reports. ``_available_at`` hides an address until the clock passes it.

Knobs: ``api_key``; ``plan`` (individual, webmaster, supporter, basic, premium); ``daily_limits`` (``{"check": 3}``
overrides the plan's table); ``used_elsewhere`` (``{"check": 999}``: requests that somebody else made with this key
on the day on which the knob is turned).

Not imitated: how a score is computed (a report leaves it as it is), its decay, the deduction of whitelisted networks,
country names beyond the seed, the size limits of ``bulk-report``, HTTP caching by the CDN. Stricter than the vendor:
an unknown parameter is refused (it would be ignored, and a typo would pass as a default).
"""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import HTTPException, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from include.simulators.kit import Clock, Simulator, parse_instant

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

Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """An answer in the error shape: ``status``, ``detail`` and the offending parameter."""

    def __init__(self, status: int, detail: str, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.parameter = parameter


class AbuseIpdbSimulator(Simulator):
    product = "abuseipdb"
    prefixes = ("/api/v2",)
    settings = {"api_key": "demo-abuseipdb-key", "plan": "individual", "daily_limits": {}, "used_elsewhere": {}}

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "check", self.check),
            ("GET", "reports", self.reports),
            ("GET", "blacklist", self.blacklist),
            ("GET", "check-block", self.check_block),
            ("POST", "report", self.report),
            ("POST", "bulk-report", self.bulk_report),
            ("DELETE", "clear-address", self.clear_address),
        ]
        for method, endpoint, handler in routes:
            self.router.add_api_route(
                f"/api/v2/{endpoint}", self._guarded(endpoint, handler), methods=[method], response_model=None
            )

        self.router.add_api_route(
            "/api/v2/{rest}", self.nowhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"], response_model=None
        )

    def clear(self) -> None:
        self.addresses: dict[str, dict[str, Any]] = {}
        self.public_networks: list[Network] = []
        self.own_reports: dict[str, list[dict[str, Any]]] = {}
        self.used: dict[tuple[date, str], int] = {}
        self.elsewhere_day: date | None = None
        self.cached_blacklist: tuple[datetime, list[dict[str, Any]]] | None = None

    def configure(self, changes: dict[str, Any]) -> None:
        if changes.get("plan", "individual") not in DAILY_LIMITS:
            raise HTTPException(400, f"abuseipdb: plan is one of {sorted(DAILY_LIMITS)}")
        for knob in ("daily_limits", "used_elsewhere"):
            if not isinstance(changes.get(knob, {}), dict) or set(changes.get(knob, {})) - set(ENDPOINTS):
                raise HTTPException(400, f"abuseipdb: {knob} maps endpoints {ENDPOINTS} to numbers")
        super().configure(changes)
        if "used_elsewhere" in changes:
            self.elsewhere_day = self._today()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"addresses", "public_networks"}
        for text, record in data.get("addresses", {}).items():
            unknown |= set(record) - ADDRESS_MEMBERS
            address = str(ipaddress.ip_address(text))
            self.addresses[address] = {"_seeded_at": self.clock.now(), **record}
        if unknown:
            raise HTTPException(400, f"abuseipdb: unknown seed members {sorted(unknown)}")
        self.public_networks += [ipaddress.ip_network(n) for n in data.get("public_networks", [])]
        self.cached_blacklist = None

    def snapshot(self) -> dict[str, Any]:
        today = self._today()
        return {
            "addresses": {
                address: {k: v for k, v in record.items() if not k.startswith("_")}
                for address, record in self.addresses.items()
            },
            "own_reports": self.own_reports,
            "used_today": {endpoint: n for (day, endpoint), n in self.used.items() if day == today},
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        if status == 429:
            limit = self._limit("check")
            answer = self._error_json(Refused(429, detail or _spent(limit)))
            answer.headers.update(self._until_reset() | {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": "0"})
            return answer
        if status == 401:
            return self._error_json(Refused(401, detail or AUTHENTICATION_FAILED))
        return self._error_json(Refused(status, detail or f"The request failed with status {status}."))

    def _guarded(self, endpoint: str, handler: Handler) -> Handler:
        async def route(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                key = request.headers.get("key") or request.query_params.get("key")
                if key != self.knobs["api_key"]:
                    raise Refused(401, AUTHENTICATION_FAILED)
                headers = self._count(endpoint)
                if "Retry-After" in headers:
                    raise Refused(429, _spent(self._limit(endpoint)))
                answer = await handler(request)
            except Refused as refusal:
                if "application/json" in request.headers.get("accept", ""):
                    answer = self._error_json(refusal)
                else:
                    answer = _error_page(refusal.status)
            answer.headers.update(headers)
            return answer

        return route

    def _count(self, endpoint: str) -> dict[str, str]:
        """Count this request against its endpoint's day, refused or not. Headers; ``Retry-After`` when spent."""
        slot = (self._today(), endpoint)
        elsewhere = self.knobs["used_elsewhere"].get(endpoint, 0) if self.elsewhere_day == slot[0] else 0
        limit = self._limit(endpoint)
        left = limit - elsewhere - self.used.get(slot, 0)
        if left > 0:
            self.used[slot] = self.used.get(slot, 0) + 1
        headers = {"X-RateLimit-Limit": str(limit), "X-RateLimit-Remaining": str(max(left - 1, 0))}
        return headers if left > 0 else headers | self._until_reset()

    def _limit(self, endpoint: str) -> int:
        table = DAILY_LIMITS[self.knobs["plan"]]
        return int(
            self.knobs["daily_limits"].get(endpoint, table["blacklist" if endpoint in LIKE_BLACKLIST else endpoint])
        )

    def _today(self) -> date:
        return (self.clock.now() - QUOTA_DAY_STARTS).date()

    def _until_reset(self) -> dict[str, str]:
        reset = datetime.combine(self._today() + timedelta(days=1), time(), UTC) + QUOTA_DAY_STARTS
        wait = (reset - self.clock.now()).total_seconds()
        return {"Retry-After": str(math.ceil(wait)), "X-RateLimit-Reset": str(int(reset.timestamp()))}

    @staticmethod
    def _error_json(refusal: Refused) -> Response:
        error: dict[str, Any] = {"detail": refusal.detail, "status": refusal.status}
        if refusal.parameter:
            error["source"] = {"parameter": refusal.parameter}
        return _json({"errors": [error]}, refusal.status)

    async def check(self, request: Request) -> Response:
        query = _query(request, "ipAddress", "maxAgeInDays", "verbose")
        address, days = _address(query, "ipAddress"), _whole(query, "maxAgeInDays", 30, 1, 365)
        record = self._record(address)
        reports = self._reports(address, days)
        public = record.get("isPublic", self._is_public(address))
        latest = [r["reportedAt"] for r in self._reports(address, None)[:1]]
        data = {
            "ipAddress": str(address),
            "isPublic": public,
            "ipVersion": address.version,
            "isWhitelisted": record.get("isWhitelisted", UNKNOWN_IS_WHITELISTED if public and not latest else False),
            "abuseConfidenceScore": record.get("abuseConfidenceScore", 0),
            "countryCode": record.get("countryCode"),
            **({"countryName": record.get("countryName")} if "verbose" in query else {}),
            "usageType": record.get("usageType", None if public else "Reserved"),
            "isp": record.get("isp"),
            "domain": record.get("domain"),
            "hostnames": record.get("hostnames", []),
            "isTor": record.get("isTor", False),
            "totalReports": len(reports),
            "numDistinctUsers": len({r["reporterId"] for r in reports}),
            "lastReportedAt": latest[0] if latest else None,
        }
        if "verbose" in query:
            data["reports"] = reports[:MOST_VERBOSE_REPORTS]
        return _json({"data": data})

    async def reports(self, request: Request) -> Response:
        query = _query(request, "ipAddress", "maxAgeInDays", "page", "perPage")
        address, days = _address(query, "ipAddress"), _whole(query, "maxAgeInDays", 30, 1, 365)
        page, size = _whole(query, "page", 1, 1, None), _whole(query, "perPage", 25, 1, 100)
        reports = self._reports(address, days)
        last = max(1, math.ceil(len(reports) / size))
        shown = reports[(page - 1) * size : page * size]

        def url(number: int) -> str:
            asked = {"ipAddress": str(address), "maxAgeInDays": days, "perPage": size, "page": number}
            return f"{request.url.scheme}://{request.url.netloc}/api/v2/reports?{urlencode(asked)}"

        return _json(
            {
                "data": {
                    "total": len(reports),
                    "page": page,
                    "count": len(shown),
                    "perPage": size,
                    "lastPage": last,
                    "nextPageUrl": url(page + 1) if page < last else None,
                    "previousPageUrl": url(page - 1) if page > 1 else None,
                    "results": shown,
                }
            }
        )

    async def blacklist(self, request: Request) -> Response:
        query = _query(
            request, "confidenceMinimum", "limit", "plaintext", "onlyCountries", "exceptCountries", "ipVersion"
        )
        minimum = _whole(query, "confidenceMinimum", 100, LOWEST_CONFIDENCE, 100)
        if self.knobs["plan"] not in SUBSCRIBERS:
            minimum = 100  # no error: a free key silently gets the simple list
        most = BLACKLIST_ROWS.get(self.knobs["plan"], FREE_BLACKLIST_ROWS)
        limit = min(_whole(query, "limit", FREE_BLACKLIST_ROWS, 1, None), most)
        version = _whole(query, "ipVersion", 0, 4, 6)
        if version == 5:
            raise Refused(422, "The selected ip version is invalid.", "ipVersion")
        only, excluded = _countries(query, "onlyCountries"), _countries(query, "exceptCountries")

        generated_at, rows = self._blacklist_of_the_day()
        rows = [
            row
            for row in rows
            if row["abuseConfidenceScore"] >= minimum
            and version in (0, ipaddress.ip_address(row["ipAddress"]).version)
            and (not only or row["countryCode"] in only)
            and row["countryCode"] not in excluded
        ][:limit]
        stamp = _iso(generated_at)
        if "plaintext" in query or "text/plain" in request.headers.get("accept", ""):
            text = "\n".join(row["ipAddress"] for row in rows)
            return Response(text, media_type="text/plain", headers={"X-Generated-At": stamp})
        return _json({"meta": {"generatedAt": stamp}, "data": rows})

    async def check_block(self, request: Request) -> Response:
        query = _query(request, "network", "maxAgeInDays")
        days = _whole(query, "maxAgeInDays", 30, 1, 365)
        if not query.get("network"):
            raise Refused(422, "The network field is required.", "network")
        try:
            if "/" not in query["network"]:
                raise ValueError("a prefix length is needed")
            network = ipaddress.ip_network(query["network"], strict=False)
        except ValueError:
            raise Refused(422, "The network must be a valid CIDR notation.", "network") from None
        shortest, longest_age = BLOCK_CAPS.get(self.knobs["plan"], STANDARD_BLOCK_CAP)
        if network.version == 6:
            shortest += IPV6_EXTRA_BITS
        if network.prefixlen < shortest or days > longest_age:
            raise Refused(402, PLAN_EXCEEDED)

        reported = []
        for text in sorted({*self.addresses, *self.own_reports}, key=lambda t: int(ipaddress.ip_address(t))):
            address = ipaddress.ip_address(text)
            reports = self._reports(address, days) if address in network else []
            if reports:
                record = self._record(address)
                reported.append(
                    {
                        "ipAddress": text,
                        "numReports": len(reports),
                        "mostRecentReport": reports[0]["reportedAt"],
                        "abuseConfidenceScore": record.get("abuseConfidenceScore", 0),
                        "countryCode": record.get("countryCode"),
                    }
                )
        tiny = network.num_addresses <= 2
        return _json(
            {
                "data": {
                    "networkAddress": str(network.network_address),
                    "netmask": str(network.netmask),
                    "minAddress": str(network[0 if tiny else 1]),
                    "maxAddress": str(network[-1 if tiny else -2]),
                    "numPossibleHosts": network.num_addresses - (0 if tiny else 2),
                    "addressSpaceDesc": self._address_space(network),
                    "reportedAddress": reported,
                }
            }
        )

    async def report(self, request: Request) -> Response:
        query = _query(request)
        form = {k: str(v) for k, v in (await request.form()).items()}
        fields = query | _known(form, {"ip", "categories", "comment", "timestamp"})
        address = _address(fields, "ip")
        categories = _categories(fields.get("categories", ""))
        reported_at = self.clock.now()
        if fields.get("timestamp"):
            try:
                reported_at = parse_instant(fields["timestamp"])
            except ValueError:
                raise Refused(422, "The timestamp is not a valid date.", "timestamp") from None
        if reported_at > self.clock.now():
            raise Refused(422, "The timestamp must be a date before or equal to now.", "timestamp")
        if self._reported_just_now(address):
            # A duplicate, not a spent quota: the same status, told apart by source.parameter.
            raise Refused(429, f"You can only report the same IP address (`{address}`) once in 15 minutes.", "ip")
        self._save_report(address, categories, fields.get("comment", ""), reported_at)
        score = self._record(address).get("abuseConfidenceScore", 0)
        return _json({"data": {"ipAddress": str(address), "abuseConfidenceScore": score}})

    async def bulk_report(self, request: Request) -> Response:
        _query(request)
        upload = (await request.form()).get("csv")
        if not isinstance(upload, UploadFile):
            raise Refused(422, "The csv field is required.", "csv")
        rows = list(csv.reader(io.StringIO((await upload.read()).decode("utf-8", "replace"))))
        if not rows or rows[0] != ["IP", "Categories", "ReportDate", "Comment"]:
            raise Refused(422, "The csv must have the header row IP,Categories,ReportDate,Comment.", "csv")
        invalid = []
        for number, row in enumerate(rows[1:], start=FIRST_DATA_ROW):
            error = self._save_row(row)
            if error:
                invalid.append({"error": error, "input": row[0] if row else "", "rowNumber": number})
        return _json({"data": {"savedReports": len(rows) - 1 - len(invalid), "invalidReports": invalid}})

    async def clear_address(self, request: Request) -> Response:
        address = _address(_query(request, "ipAddress"), "ipAddress")
        return _json({"data": {"numReportsDeleted": len(self.own_reports.pop(str(address), []))}})

    async def nowhere(self, request: Request) -> Response:
        return self.error(404)

    def _record(self, address: Address) -> dict[str, Any]:
        record = self.addresses.get(str(address), {})
        if "_available_at" in record and parse_instant(record["_available_at"]) > self.clock.now():
            record = {}
        if not record and not self._is_public(address):
            return RECORDED.get(str(address), {})
        return record

    def _is_public(self, address: Address) -> bool:
        named = any(address in network for network in self.public_networks)
        return named or (address.is_global and not address.is_multicast)

    def _address_space(self, network: Network) -> str:
        if self._is_public(network.network_address):
            return "Internet"
        return "Loopback" if network.is_loopback else "Private" if network.is_private else "Reserved"

    def _reports(self, address: Address, days: int | None) -> list[dict[str, Any]]:
        """Reports about an address, newest first; only those of the last ``days`` when given."""
        reports = [*self.own_reports.get(str(address), []), *_reports_of(self._record(address))]
        reports.sort(key=lambda r: parse_instant(r["reportedAt"]), reverse=True)
        if days is None:
            return reports
        oldest = self.clock.now() - timedelta(days=days)
        return [r for r in reports if parse_instant(r["reportedAt"]) >= oldest]

    def _reported_just_now(self, address: Address) -> bool:
        since = self.clock.now() - SAME_ADDRESS_PAUSE
        return any(parse_instant(r["_saved_at"]) > since for r in self.own_reports.get(str(address), []))

    def _save_report(self, address: Address, categories: list[int], comment: str, reported_at: datetime) -> None:
        self.own_reports.setdefault(str(address), []).append(
            {
                "reportedAt": _iso(reported_at),
                "comment": comment,
                "categories": categories,
                "reporterId": OWN_REPORTER_ID,
                "reporterCountryCode": None,
                "reporterCountryName": None,
                "_saved_at": self.clock.now().isoformat(),
            }
        )

    def _save_row(self, row: list[str]) -> str | None:
        """Save one line of a bulk report, or say what is wrong with it."""
        text, categories, reported_at, comment = (row + [""] * 4)[:4]
        if _not_an_address(text):
            return "Invalid IP"
        address = ipaddress.ip_address(text)
        if self._reported_just_now(address):
            return "Duplicate IP"
        try:
            chosen = _categories(categories)
        except Refused:
            return "Invalid Category"
        try:
            self._save_report(address, chosen, comment, parse_instant(reported_at))
        except ValueError:
            return "Invalid Report Date"
        return None

    def _blacklist_of_the_day(self) -> tuple[datetime, list[dict[str, Any]]]:
        life = BLACKLIST_LIFE.get(self.knobs["plan"], STANDARD_BLACKLIST_LIFE)
        if self.cached_blacklist is None or self.clock.now() >= self.cached_blacklist[0] + life:
            rows = []
            for text in self.addresses:
                address = ipaddress.ip_address(text)
                record, reports = self._record(address), self._reports(address, None)
                if record.get("abuseConfidenceScore", 0) >= LOWEST_CONFIDENCE:
                    rows.append(
                        {
                            "ipAddress": text,
                            "countryCode": record.get("countryCode"),
                            "abuseConfidenceScore": record["abuseConfidenceScore"],
                            "lastReportedAt": reports[0]["reportedAt"] if reports else None,
                        }
                    )
            rows.sort(key=lambda r: (r["abuseConfidenceScore"], r["lastReportedAt"] or ""), reverse=True)
            self.cached_blacklist = (self.clock.now(), rows)
        return self.cached_blacklist


def _reports_of(record: dict[str, Any]) -> list[dict[str, Any]]:
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
            "reportedAt": _iso(newest - number * step),
            "comment": "Synthetic report",
            "categories": record.get("categories", [18]),
            "reporterId": number % users + 1,
            "reporterCountryCode": None,
            "reporterCountryName": None,
        }
        for number in range(total)
    ]


def _spent(limit: int) -> str:
    return f"Daily rate limit of {limit} requests exceeded for this endpoint. See headers for additional details."


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).replace(microsecond=0).isoformat()


def _without_private(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_private(v) for k, v in value.items() if not k.startswith("_")}
    return [_without_private(v) for v in value] if isinstance(value, list) else value


def _json(document: dict[str, Any], status: int = 200) -> Response:
    text = json.dumps(_without_private(document), separators=(",", ":")).replace("/", "\\/")
    return Response(text, status, media_type="application/json", headers={"Cache-Control": "no-cache, private"})


def _error_page(status: int) -> Response:
    title = HTML_TITLES.get(status, "Error")
    page = f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>{status} | {title}</body></html>"
    return Response(page, status, media_type="text/html")


def _known(given: dict[str, str], names: set[str]) -> dict[str, str]:
    for name in given:
        if name not in names:
            raise Refused(422, f"The {name} parameter is not known.", name)
    return given


def _query(request: Request, *names: str) -> dict[str, str]:
    return _known(dict(request.query_params), {*names, "key"})


def _words(parameter: str) -> str:
    """``maxAgeInDays`` as the vendor's validation texts spell it: ``max age in days``."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in parameter)


def _address(fields: dict[str, str], parameter: str) -> Address:
    text = fields.get(parameter, "")
    if not text:
        raise Refused(422, f"The {_words(parameter)} field is required.", parameter)
    if _not_an_address(text):
        raise Refused(422, f"The ip address {NOT_AN_ADDRESS}", parameter)
    return ipaddress.ip_address(text)


def _not_an_address(text: str) -> bool:
    try:
        return "%" in text or not ipaddress.ip_address(text)
    except ValueError:
        return True


def _whole(fields: dict[str, str], parameter: str, default: int, low: int, high: int | None) -> int:
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


def _countries(fields: dict[str, str], parameter: str) -> set[str]:
    codes = {c.strip().upper() for c in fields.get(parameter, "").split(",") if c.strip()}
    if any(len(c) != 2 or not c.isalpha() for c in codes):
        raise Refused(422, f"The {_words(parameter)} must be ISO 3166 alpha-2 codes.", parameter)
    return codes


def _categories(text: str) -> list[int]:
    if not text.strip():
        raise Refused(422, "The categories field is required.", "categories")
    parts = [p.strip() for p in text.split(",")]
    if len(parts) > MOST_CATEGORIES or not all(p.isascii() and p.isdigit() and int(p) in CATEGORIES for p in parts):
        raise Refused(422, "The categories must be valid category ids.", "categories")
    return [int(p) for p in parts]
