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
overrides the plan's table); ``used_elsewhere`` (``{"check": 999}``: requests that others made with this key
on the day on which the knob is turned).

Not imitated: how a score is computed (a report leaves it as it is), its decay, the deduction of whitelisted networks,
country names beyond the seed, the size limits of ``bulk-report``, HTTP caching by the CDN. A parameter that is not
known is ignored, as the service does; that ours are known is a test's business (tests/vendors/abuseipdb/test_hook.py).
"""

from __future__ import annotations

import csv
import io
import ipaddress
import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from include.simulators.abuseipdb.answers import (
    AUTHENTICATION_FAILED,
    BLACKLIST_ROWS,
    BLOCK_CAPS,
    FIRST_DATA_ROW,
    FREE_BLACKLIST_ROWS,
    IPV6_EXTRA_BITS,
    LOWEST_CONFIDENCE,
    MOST_VERBOSE_REPORTS,
    PLAN_EXCEEDED,
    STANDARD_BLOCK_CAP,
    SUBSCRIBERS,
    UNKNOWN_IS_WHITELISTED,
    Refused,
    address_of,
    categories_of,
    countries,
    error_page,
    iso,
    json_answer,
    known,
    query_of,
    spent,
    whole,
)
from include.simulators.abuseipdb.state import Reports
from include.simulators.kit import Clock, parse_instant

Handler = Callable[[Request], Awaitable[Response]]


class AbuseIpdbSimulator(Reports):
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

    def error(self, status: int, detail: str | None = None) -> Response:
        if status == 429:
            limit = self._limit("check")
            answer = self._error_json(Refused(429, detail or spent(limit)))
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
                    raise Refused(429, spent(self._limit(endpoint)))
                answer = await handler(request)
            except Refused as refusal:
                if "application/json" in request.headers.get("accept", ""):
                    answer = self._error_json(refusal)
                else:
                    answer = error_page(refusal.status)
            answer.headers.update(headers)
            return answer

        return route

    @staticmethod
    def _error_json(refusal: Refused) -> Response:
        error: dict[str, Any] = {"detail": refusal.detail, "status": refusal.status}
        if refusal.parameter:
            error["source"] = {"parameter": refusal.parameter}
        return json_answer({"errors": [error]}, refusal.status)

    async def check(self, request: Request) -> Response:
        query = query_of(request, "ipAddress", "maxAgeInDays", "verbose")
        address, days = address_of(query, "ipAddress"), whole(query, "maxAgeInDays", 30, 1, 365)
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
        return json_answer({"data": data})

    async def reports(self, request: Request) -> Response:
        query = query_of(request, "ipAddress", "maxAgeInDays", "page", "perPage")
        address, days = address_of(query, "ipAddress"), whole(query, "maxAgeInDays", 30, 1, 365)
        page, size = whole(query, "page", 1, 1, None), whole(query, "perPage", 25, 1, 100)
        reports = self._reports(address, days)
        last = max(1, math.ceil(len(reports) / size))
        shown = reports[(page - 1) * size : page * size]

        def url(number: int) -> str:
            asked = {"ipAddress": str(address), "maxAgeInDays": days, "perPage": size, "page": number}
            return f"{request.url.scheme}://{request.url.netloc}/api/v2/reports?{urlencode(asked)}"

        return json_answer(
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
        query = query_of(
            request, "confidenceMinimum", "limit", "plaintext", "onlyCountries", "exceptCountries", "ipVersion"
        )
        minimum = whole(query, "confidenceMinimum", 100, LOWEST_CONFIDENCE, 100)
        if self.knobs["plan"] not in SUBSCRIBERS:
            minimum = 100  # no error: a free key silently gets the simple list
        most = BLACKLIST_ROWS.get(self.knobs["plan"], FREE_BLACKLIST_ROWS)
        limit = min(whole(query, "limit", FREE_BLACKLIST_ROWS, 1, None), most)
        version = whole(query, "ipVersion", 0, 4, 6)
        if version == 5:
            raise Refused(422, "The selected ip version is invalid.", "ipVersion")
        only, excluded = countries(query, "onlyCountries"), countries(query, "exceptCountries")

        generated_at, rows = self._blacklist_of_the_day()
        rows = [
            row
            for row in rows
            if row["abuseConfidenceScore"] >= minimum
            and version in (0, ipaddress.ip_address(row["ipAddress"]).version)
            and (not only or row["countryCode"] in only)
            and row["countryCode"] not in excluded
        ][:limit]
        stamp = iso(generated_at)
        if "plaintext" in query or "text/plain" in request.headers.get("accept", ""):
            text = "\n".join(row["ipAddress"] for row in rows)
            return Response(text, media_type="text/plain", headers={"X-Generated-At": stamp})
        return json_answer({"meta": {"generatedAt": stamp}, "data": rows})

    async def check_block(self, request: Request) -> Response:
        query = query_of(request, "network", "maxAgeInDays")
        days = whole(query, "maxAgeInDays", 30, 1, 365)
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
        return json_answer(
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
        names = ("ip", "categories", "comment", "timestamp")  # in the query (as many clients do), or in a form
        form = {k: str(v) for k, v in (await request.form()).items()}
        fields = query_of(request, *names) | known(form, set(names))
        address = address_of(fields, "ip")
        categories = categories_of(fields.get("categories", ""))
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
        return json_answer({"data": {"ipAddress": str(address), "abuseConfidenceScore": score}})

    async def bulk_report(self, request: Request) -> Response:
        query_of(request)
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
        return json_answer({"data": {"savedReports": len(rows) - 1 - len(invalid), "invalidReports": invalid}})

    async def clear_address(self, request: Request) -> Response:
        address = address_of(query_of(request, "ipAddress"), "ipAddress")
        return json_answer({"data": {"numReportsDeleted": len(self.own_reports.pop(str(address), []))}})

    async def nowhere(self, request: Request) -> Response:
        return self.error(404)
