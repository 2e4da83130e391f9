"""GreyNoise API v3, as its published OpenAPI describes it (https://api.greynoise.io/v3/openapi.yaml).

``GET /ping``; ``GET /v3/community/{ip}``, also without a key; ``GET /v3/ip/{ip}`` and ``POST /v3/ip`` with
``{"ips": […]}`` for up to 10,000 addresses, both with ``quick`` and for paid plans only. The key travels in the ``key``
header. An address that was not seen is 404 with a body for the community, and 200 with two times ``found: false`` for
a paid key; in the bulk answer it is named in ``request_metadata.ips_not_found``.

Seed::

    {"addresses": {"203.0.113.7": {"internet_scanner_intelligence": {"classification": "malicious", ...},
                                   "business_service_intelligence": {"name": "…", "trust_level": "1", ...}}},
     "public_networks": ["203.0.113.0/24"]}

One truth for all calls: a section that is given is found. ``first_seen`` and ``last_seen`` are the day of seeding
unless given. ``public_networks`` are reserved networks to be treated as public, because demo data uses only
documentation addresses. ``_available_at`` hides an address until the clock passes it.

Knobs: ``api_key``; ``plan`` of the key (``community``, ``paid``); ``weekly_limit`` (null: the plan's; a paid plan has
none); ``used_elsewhere`` (lookups that others made in the week in which the knob is turned);
``restricted_fields`` (of ``internet_scanner_intelligence``: left out, and the answer is 206).

Not imitated: GNQL, timelines, tags, callbacks and the v2 calls, which ended on 2026-01-01; workspace labels.
Stricter than the vendor: an unknown parameter is refused.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Clock, Simulator, parse_instant

MOST_AT_ONCE = 10_000
NOT_ROUTABLE = "Request is not a valid routable IPv4 address"
NOT_OBSERVED = "IP not observed scanning the internet or contained in RIOT data set."
SECTIONS = ("business_service_intelligence", "internet_scanner_intelligence")

# Third parties say so, or it is inferred: no page of the vendor settles these. Neither does one name the Retry-After of
# the community's 429; with it on a paid call, the vendor's own client would sleep until the week ends.
WEEKLY_LIMITS = {"community": 50, "keyless": 25}
#: When the week ends.
WEEK_STARTS_ON_MONDAY = 0
#: The community's word for a business service that does not scan, by its trust level.
SERVICE_CLASSIFICATION = {"1": "benign", "2": "benign"}
#: A refused address counts, a refused key does not; every address of a bulk call counts.
EXPIRES_AFTER = timedelta(days=365)

EMPTY_SERVICE = {
    "found": False,
    "category": "",
    "name": "",
    "description": "",
    "explanation": "",
    "last_updated": "",
    "reference": "",
    "trust_level": "",
}
EMPTY_SCANNER: dict[str, Any] = {
    "found": False,
    "first_seen": "",
    "last_seen": "",
    "last_seen_timestamp": "",
    "classification": "",
    "actor": "",
    "spoofable": False,
    "bot": False,
    "tor": False,
    "vpn": False,
    "vpn_service": "",
    "cves": [],
    "tags": [],
    "metadata": {},
    "raw_data": {},
}
QUICK = {SECTIONS[0]: ("found", "trust_level"), SECTIONS[1]: ("found", "classification")}

Handler = Callable[[Request, str], Awaitable[Response]]


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class GreyNoiseSimulator(Simulator):
    product = "greynoise"
    prefixes = ("/v3/community", "/v3/ip", "/ping")
    settings = {
        "api_key": "demo-greynoise-key",
        "plan": "community",
        "weekly_limit": None,
        "used_elsewhere": 0,
        "restricted_fields": [],
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        for method, path, handler in (
            ("GET", "/ping", self._ping),
            ("GET", "/v3/community/{ip}", self._community),
            ("GET", "/v3/ip/{ip}", self._one),
            ("POST", "/v3/ip", self._many),
        ):
            self.router.add_api_route(path, self._guarded(handler), methods=[method], response_model=None)

    def clear(self) -> None:
        self.addresses: dict[str, dict[str, Any]] = {}
        self.public_networks: list[ipaddress.IPv4Network] = []
        #: Monday of the week -> lookups
        self.used: dict[str, int] = {}
        self.elsewhere_week: str | None = None

    def configure(self, changes: dict[str, Any]) -> None:
        if changes.get("plan", "paid") not in ("community", "paid"):
            raise HTTPException(400, "greynoise: plan is community or paid")
        super().configure(changes)
        if "used_elsewhere" in changes:
            self.elsewhere_week = self._week()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"addresses", "public_networks"}
        today = f"{self.clock.now():%Y-%m-%d}"
        for text, record in data.get("addresses", {}).items():
            unknown |= set(record) - {*SECTIONS, "_available_at"}
            service, scanner = (record.get(section) for section in SECTIONS)
            seen = {"first_seen": today, "last_seen": today, "classification": "unknown", "actor": "unknown"}
            address = str(ipaddress.IPv4Address(text))
            self.addresses[address] = {
                "_available_at": record.get("_available_at", "1970-01-01T00:00:00Z"),
                SECTIONS[0]: EMPTY_SERVICE if service is None else EMPTY_SERVICE | {"found": True} | service,
                SECTIONS[1]: EMPTY_SCANNER if scanner is None else EMPTY_SCANNER | {"found": True} | seen | scanner,
            }
        if unknown:
            raise HTTPException(400, f"greynoise: unknown seed members {sorted(unknown)}")
        self.public_networks += [ipaddress.IPv4Network(n) for n in data.get("public_networks", [])]

    def snapshot(self) -> dict[str, Any]:
        return {"addresses": self.addresses, "used_this_week": self.used.get(self._week(), 0)}

    def error(self, status: int, detail: str | None = None) -> Response:
        messages = {
            400: "Invalid parameter",
            401: "Unauthorized",
            403: "Forbidden",
            429: "You've hit the rate limit for this endpoint.",
            500: "Encountered error while performing request",
        }
        message = detail or messages.get(status, f"The request failed with status {status}.")
        return JSONResponse({"message": message}, status)

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            try:
                key = request.headers.get("key")
                if key and key != self.knobs["api_key"]:
                    raise Refused(401, "Unauthorized")
                return await handler(request, self.knobs["plan"] if key else "keyless")
            except Refused as refusal:
                return self.error(refusal.status, refusal.message)

        return route

    async def _ping(self, request: Request, plan: str) -> Response:
        if plan == "keyless":
            raise Refused(401, "Unauthorized")
        return JSONResponse(
            {
                "message": "pong",
                "expiration": f"{self.clock.now() + EXPIRES_AFTER:%Y-%m-%d}",
                "offering": "enterprise",
                "address": "192.0.2.10",
                "plan": "Elite" if plan == "paid" else "Community",
                "modules": "",
            }
        )

    async def _community(self, request: Request, plan: str) -> Response:
        _flags(request)
        if spent := self._spent(plan, 1):
            return spent
        ip = request.path_params["ip"]
        if not self._is_routable(ip):
            raise Refused(400, NOT_ROUTABLE)
        record = self._record(ip)
        if record is None:
            return JSONResponse({"ip": ip, "noise": False, "riot": False, "message": NOT_OBSERVED}, 404)
        service, scanner = (record[section] for section in SECTIONS)
        return JSONResponse(
            {
                "ip": ip,
                "noise": scanner["found"],
                "riot": service["found"],
                "classification": scanner["classification"]
                or SERVICE_CLASSIFICATION.get(service["trust_level"], "unknown"),
                "name": service["name"] or scanner["actor"],
                "link": f"https://viz.greynoise.io/{'riot' if service['found'] else 'ip'}/{ip}",
                "last_seen": scanner["last_seen"] or service["last_updated"][:10],
                "message": "Success",
            }
        )

    async def _one(self, request: Request, plan: str) -> Response:
        quick = _flags(request, "quick")
        self._must_be_paid(plan)
        if spent := self._spent(plan, 1):
            return spent
        ip = request.path_params["ip"]
        if not self._is_routable(ip):
            raise Refused(400, NOT_ROUTABLE)
        profile = self._profile(ip, quick)
        if self.knobs["restricted_fields"]:
            restricted = {"request_metadata": {"restricted_fields": self.knobs["restricted_fields"]}}
            return JSONResponse(profile | restricted, 206)
        return JSONResponse(profile)

    async def _many(self, request: Request, plan: str) -> Response:
        quick = _flags(request, "quick")
        self._must_be_paid(plan)
        try:
            body = json.loads(await request.body())
        except ValueError:
            raise Refused(400, "Invalid parameter") from None
        ips = body.get("ips") if isinstance(body, dict) else None
        if not isinstance(ips, list) or not 0 < len(ips) <= MOST_AT_ONCE or set(body) != {"ips"}:
            raise Refused(400, "Invalid parameter")
        if not all(isinstance(ip, str) and self._is_routable(ip) for ip in ips):
            raise Refused(400, NOT_ROUTABLE)
        if spent := self._spent(plan, len(ips)):
            return spent
        restricted = self.knobs["restricted_fields"]
        return JSONResponse(
            {
                "data": [self._profile(ip, quick) for ip in ips if self._record(ip)],
                "request_metadata": {
                    "restricted_fields": restricted,
                    "message": "ok",
                    "ips_not_found": [ip for ip in ips if not self._record(ip)],
                },
            },
            206 if restricted else 200,
        )

    def _profile(self, ip: str, quick: bool) -> dict[str, Any]:
        record = self._record(ip) or {SECTIONS[0]: EMPTY_SERVICE, SECTIONS[1]: EMPTY_SCANNER}
        profile: dict[str, Any] = {"ip": ip}
        for section in SECTIONS:
            wanted = QUICK[section] if quick else tuple(record[section])
            hidden = self.knobs["restricted_fields"] if section == SECTIONS[1] else ()
            if section not in self.knobs["restricted_fields"]:
                profile[section] = {k: record[section][k] for k in wanted if k not in hidden}
        return profile

    def _record(self, ip: str) -> dict[str, Any] | None:
        record = self.addresses.get(ip)
        return record if record and parse_instant(record["_available_at"]) <= self.clock.now() else None

    def _is_routable(self, text: str) -> bool:
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            return False
        named = any(address in network for network in self.public_networks)
        return named or (address.is_global and not address.is_multicast)

    @staticmethod
    def _must_be_paid(plan: str) -> None:
        if plan == "keyless":
            raise Refused(401, "Unauthorized")
        if plan != "paid":
            raise Refused(403, "Forbidden")

    def _spent(self, plan: str, lookups: int) -> Response | None:
        """Count the lookups, or the answer that says that there are not so many left."""
        week = self._week()
        limit = self.knobs["weekly_limit"]
        if limit is None:
            limit = WEEKLY_LIMITS.get(plan, math.inf)
        elsewhere = self.knobs["used_elsewhere"] if self.elsewhere_week == week else 0
        if self.used.get(week, 0) + elsewhere + lookups <= limit:
            self.used[week] = self.used.get(week, 0) + lookups
            return None
        if plan == "paid":
            return self.error(429)
        named = "unauthenticated" if plan == "keyless" else plan
        return JSONResponse(
            {
                "plan": named,
                "rate-limit": f"{limit}-lookups/week",
                "plan_url": "https://greynoise.io/pricing",
                "message": f"You have hit your weekly rate limit of {limit} requests per week. "
                "Please upgrade your plan at https://greynoise.io/pricing.",
            },
            429,
            {"Retry-After": str(math.ceil((self._monday() + timedelta(weeks=1) - self.clock.now()).total_seconds()))},
        )

    def _monday(self) -> datetime:
        midnight = self.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=(midnight.weekday() - WEEK_STARTS_ON_MONDAY) % 7)

    def _week(self) -> str:
        return f"{self._monday():%Y-%m-%d}"


def _flags(request: Request, *known: str) -> bool:
    """Whether the answer is to be quick; refuses every parameter but the known ones."""
    for name, value in request.query_params.items():
        if name not in known or value not in ("true", "false"):
            raise Refused(400, "Invalid parameter")
    return request.query_params.get("quick") == "true"
