"""AlienVault OTX, ``general`` section of its indicator API (https://otx.alienvault.com/assets/static/external_api.html).

Paths: ``GET /api/v1/indicators/{IPv4|IPv6|domain|hostname|url|file}/{indicator}/general`` and ``GET /api/v1/users/me``,
the key in ``X-OTX-API-KEY``. A URL may stand in the path as it is, as the vendor's SDK sends it, or percent-encoded.

Seed::

    {"indicators": {"203.0.113.9": {"pulses": [{"name": "Botnet of the week", "tags": ["mirai"],
                                                "malware_families": ["Mirai"], "attack_ids": ["T1110"],
                                                "author": "analyst", "created": "2026-09-29T06:07:05.387000"}],
                                    "validation": [{"source": "whitelist", "name": "Whitelisted IP"}],
                                    "false_positive": [{"assessment": "accepted"}]}},
     "public_networks": ["203.0.113.0/24"]}

What a pulse leaves out is made up. ``public_networks`` are reserved networks to be treated as public, because demo
data uses only documentation addresses; any other address that is not global is a 400.

Knobs: ``api_key``; ``username``; ``hourly_limit`` (0: none); ``unknown_status`` (what a value that was never seeded
gets: 200 without pulses, or 404).

Not imitated: every other section, ``cve`` indicators, pulses and their subscription, whois, geography and passive DNS
(null), the cap on the pulses that one answer shows. Inferred: the limit and its period, and the texts of all errors.
Recorded by third parties: the shape of ``general``, 403 for a wrong key (the SDK calls any 403 that), 400 for a private
address, 404 for some unknown values, and that a 429 carries neither ``Retry-After`` nor quota headers.
Stricter than the vendor: an unknown query parameter is refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Clock, Simulator

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TITLES = {
    "IPv4": "IPv4",
    "IPv6": "IPv6",
    "domain": "Domain",
    "hostname": "Hostname",
    "url": "URL",
    "file": "FileHash",
}
SECTIONS = {
    "IPv4": ["general", "geo", "reputation", "url_list", "passive_dns", "malware", "nids_list", "http_scans"],
    "domain": ["general", "geo", "url_list", "passive_dns", "malware", "whois", "http_scans"],
    "url": ["general", "url_list", "http_scans", "screenshot"],
    "file": ["general", "analysis"],
}
HASH_NAMES = {32: "FileHash-MD5", 40: "FileHash-SHA1", 64: "FileHash-SHA256"}
HOST_NAME = re.compile(r"(?=.{4,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.I)
INDICATOR_MEMBERS = frozenset({"pulses", "validation", "false_positive"})
PULSE_MEMBERS = frozenset(
    {"id", "name", "description", "tags", "malware_families", "attack_ids", "author", "created", "modified", "TLP"}
)


class AlienvaultOtxSimulator(Simulator):
    product = "alienvault_otx"
    prefixes = ("/api/v1/indicators", "/api/v1/users")
    settings = {"api_key": "demo-otx-key", "username": "demo-analyst", "hourly_limit": 0, "unknown_status": 200}

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.router.add_api_route("/api/v1/users/me", self.me, methods=["GET"], response_model=None)
        self.router.add_api_route(
            "/api/v1/indicators/{kind}/{rest:path}", self.indicator, methods=["GET"], response_model=None
        )

    def clear(self) -> None:
        self.indicators: dict[str, dict[str, Any]] = {}
        self.public_networks: list[Network] = []
        self.used: dict[datetime, int] = {}

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"indicators", "public_networks"}
        for value, record in data.get("indicators", {}).items():
            unknown |= set(record) - INDICATOR_MEMBERS
            unknown |= {name for pulse in record.get("pulses", []) for name in set(pulse) - PULSE_MEMBERS}
            self.indicators[value] = record
        if unknown:
            raise HTTPException(400, f"alienvault_otx: unknown seed members {sorted(unknown)}")
        self.public_networks += [ipaddress.ip_network(n) for n in data.get("public_networks", [])]

    def snapshot(self) -> dict[str, Any]:
        return {"indicators": self.indicators, "used_this_hour": self.used.get(self._hour(), 0)}

    def error(self, status: int, detail: str | None = None) -> Response:
        return JSONResponse({"detail": detail or f"The request failed with status {status}."}, status)

    async def me(self, request: Request) -> Response:
        if refusal := self._refuse(request):
            return refusal
        return JSONResponse({"username": self.knobs["username"], "user_id": 1, "member_since": "1 day ago"})

    async def indicator(self, request: Request, kind: str, rest: str) -> Response:
        if refusal := self._refuse(request):
            return refusal
        value, _, section = rest.rpartition("/")
        if kind not in TITLES or not value or section != "general":
            return self.error(404, "endpoint not found")
        if self.knobs["hourly_limit"] and self.used.get(self._hour(), 0) >= self.knobs["hourly_limit"]:
            return self.error(429, "Too many requests")
        self.used[self._hour()] = self.used.get(self._hour(), 0) + 1
        if problem := self._problem(kind, value):
            return self.error(400, problem)
        if value not in self.indicators and self.knobs["unknown_status"] == 404:
            return self.error(404, "indicator not found")
        return JSONResponse(self._general(kind, value))

    def _refuse(self, request: Request) -> Response | None:
        if request.headers.get("x-otx-api-key") != self.knobs["api_key"]:
            return self.error(403, "Authentication required: invalid API key")
        if request.query_params:
            return self.error(400, f"unknown parameters {sorted(request.query_params)}")
        return None

    def _problem(self, kind: str, value: str) -> str | None:
        if kind in ("IPv4", "IPv6"):
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                return "malformed address"
            if f"IPv{address.version}" != kind:
                return f"not an {kind} address"
            named = any(address in network for network in self.public_networks)
            return None if named or (address.is_global and not address.is_multicast) else "private address"
        if kind == "file":
            known = len(value) in HASH_NAMES and re.fullmatch(r"[0-9a-fA-F]+", value)
            return None if known else "malformed hash"
        if kind == "url":
            parts = urlsplit(value)
            return None if parts.scheme and parts.netloc else "malformed url"
        return None if HOST_NAME.fullmatch(value) else f"malformed {kind}"

    def _general(self, kind: str, value: str) -> dict[str, Any]:
        record = self.indicators.get(value, {})
        pulses = [self._pulse(pulse) for pulse in record.get("pulses", [])]
        families = sorted({f["display_name"] for pulse in pulses for f in pulse["malware_families"]})
        nobody: dict[str, list[str]] = {"adversary": [], "malware_families": [], "industries": []}
        base = {
            "id": int(hashlib.sha256(value.encode()).hexdigest()[:7], 16),
            "indicator": value,
            "type": HASH_NAMES[len(value)] if kind == "file" else "URL" if kind == "url" else kind,
            "title": "",
            "description": "",
            "content": "",
            "access_type": "public",
            "access_reason": "",
        }
        document: dict[str, Any] = {
            "whois": f"http://whois.domaintools.com/{value}",
            "indicator": value,
            "type": kind,
            "type_title": TITLES[kind],
            "base_indicator": base if pulses else {},
            "pulse_info": {
                "count": len(pulses),
                "pulses": pulses,
                "references": [],
                "related": {"alienvault": nobody, "other": {**nobody, "malware_families": families}},
            },
            "false_positive": record.get("false_positive", []),
            "validation": [
                {"message": v.get("name", ""), "name": "", "source": "", **v} for v in record.get("validation", [])
            ],
            "sections": SECTIONS.get(kind, SECTIONS["IPv4" if kind == "IPv6" else "domain"]),
        }
        if kind in ("IPv4", "IPv6"):
            document |= {"reputation": 0, "asn": None, "country_code": None, "country_name": None, "city": None}
        return document

    def _pulse(self, given: dict[str, Any]) -> dict[str, Any]:
        # OTX writes UTC without a zone.
        now = self.clock.now().replace(tzinfo=None, microsecond=0).isoformat()
        created = given.get("created", now)
        name = given.get("name", "A pulse")
        return {
            "id": given.get("id", hashlib.sha256(f"{name} {created}".encode()).hexdigest()[:24]),
            "name": name,
            "description": given.get("description", ""),
            "modified": given.get("modified", created),
            "created": created,
            "tags": given.get("tags", []),
            "references": [],
            "public": 1,
            "adversary": "",
            "targeted_countries": [],
            "malware_families": [
                {"id": family, "display_name": family, "target": None} for family in given.get("malware_families", [])
            ],
            "attack_ids": [
                {"id": technique, "name": technique, "display_name": f"{technique} - Made up"}
                for technique in given.get("attack_ids", [])
            ],
            "industries": [],
            "TLP": given.get("TLP", "white"),
            "author": {"username": given.get("author", "analyst"), "id": "1", "is_subscribed": False},
            "indicator_type_counts": {},
            "indicator_count": 1,
            "subscriber_count": 1,
        }

    def _hour(self) -> datetime:
        return self.clock.now().replace(minute=0, second=0, microsecond=0)
