"""VirusTotal API v3 lookups, as its documentation describes them (https://docs.virustotal.com/reference/overview).

``GET`` of ``/api/v3/ip_addresses/{ip}``, ``/domains/{domain}``, ``/urls/{id}`` and ``/files/{hash}``; the key travels
in the ``x-apikey`` header. A URL's id is base64url without padding, or the SHA-256 of the canonical URL that answers
carry. What is not known answers 404 with ``NotFoundError``, which is an answer. A spent quota answers 429 with
``QuotaExceededError``, the same for minute, day and month, and no header says how much is left or when it returns.

Seed::

    {"ip_addresses": {"203.0.113.7": {"last_analysis_stats": {"malicious": 7, "harmless": 60}, "as_owner": "…"}},
     "domains": {"evil.example": {...}}, "urls": {"http://evil.example/a": {...}},
     "files": {"<sha256>": {"md5": "…", "sha1": "…", ...}}}

A record takes any attribute of the vendor's object. Missing statistics are zero, and the engines' single results are
made up from them; ``last_analysis_date`` is the moment of seeding. A file is found by each of its hashes.
``_available_at`` hides a record until the clock passes it.

Knobs: ``api_key``; ``plan`` (``public``, or ``premium``, which has no limits of its own); ``limits``
(``{"day": 3}`` overrides the plan's; null takes a limit away); ``used_elsewhere`` (``{"day": 499}``: lookups that
others made with this key in the period in which the knob is turned).

Not imitated: scanning and uploading (refused: a client that only asks has no use for them), relationships, premium-only
attributes, 424 and 503 (inject them). Unlike the live service, which knows nearly every public address, an address that
was not seeded is not known. Stricter than the vendor: an unknown parameter is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Clock, Simulator, parse_instant

#: Lookups by plan and period. https://docs.virustotal.com/reference/public-vs-premium-api and
#: https://docs.virustotal.com/docs/consumption-quotas-handled; a third party's figure for the month.
LIMITS: dict[str, dict[str, int]] = {"public": {"minute": 4, "day": 500, "month": 15_500}, "premium": {}}
PERIODS = ("minute", "day", "month")
#: "at most 4 requests of any nature in any given 1 minute time frame": https://docs.virustotal.com/docs/api-overview
MINUTE = timedelta(minutes=1)

#: Collection of the path -> ``type`` of its objects.
TYPES = {"ip_addresses": "ip_address", "domains": "domain", "urls": "url", "files": "file"}
STATS = ("malicious", "suspicious", "undetected", "harmless", "timeout")
FILE_STATS = ("confirmed-timeout", "failure", "type-unsupported")

#: https://docs.virustotal.com/reference/errors
CODES = {
    400: "BadRequestError",
    401: "WrongCredentialsError",
    403: "ForbiddenError",
    404: "NotFoundError",
    409: "AlreadyExistsError",
    424: "FailedDependencyError",
    429: "QuotaExceededError",
    503: "TransientError",
    504: "DeadlineExceededError",
}

# Inferred: no page or recording settles these.
WRONG_KEY = "Wrong API key"
#: A 404 counts as a lookup, and so does a refused value; a wrong key does not.
NAMES = {"ip_address": "IP address", "domain": "Domain", "url": "URL", "file": "File"}
NOT_A_DOMAIN = re.compile(r"[^a-z0-9._-]|^[.-]|\.\.|^[^.]*$")


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code


class VirusTotalSimulator(Simulator):
    product = "virustotal"
    prefixes = tuple(f"/api/v3/{collection}" for collection in TYPES)
    settings = {"api_key": "demo-virustotal-key", "plan": "public", "limits": {}, "used_elsewhere": {}}

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        for collection in TYPES:
            path = f"/api/v3/{collection}"
            self.router.add_api_route(
                path + "/{name}", self._guarded(self._lookup(collection)), methods=["GET"], response_model=None
            )
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                self.router.add_api_route(
                    path + "{rest:path}", self._guarded(_not_imitated), methods=[method], response_model=None
                )

    def clear(self) -> None:
        #: collection -> name -> attributes
        self.objects: dict[str, dict[str, dict[str, Any]]] = {collection: {} for collection in TYPES}
        self.asked: list[datetime] = []
        self.elsewhere_at: datetime | None = None

    def configure(self, changes: dict[str, Any]) -> None:
        if changes.get("plan", "public") not in LIMITS:
            raise HTTPException(400, f"virustotal: plan is one of {sorted(LIMITS)}")
        for knob in ("limits", "used_elsewhere"):
            if not isinstance(changes.get(knob, {}), dict) or set(changes.get(knob, {})) - set(PERIODS):
                raise HTTPException(400, f"virustotal: {knob} maps periods {PERIODS} to numbers")
        super().configure(changes)
        if "used_elsewhere" in changes:
            self.elsewhere_at = self.clock.now()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - set(TYPES)
        for collection in set(data) & set(TYPES):
            for name, attributes in data[collection].items():
                known = (*STATS, *FILE_STATS) if collection == "files" else STATS
                unknown |= set(attributes.get("last_analysis_stats", {})) - set(known)
                full = self._object(collection, name, known, attributes)
                for key in _names(collection, name, full):
                    self.objects[collection][key] = full
        if unknown:
            raise HTTPException(400, f"virustotal: unknown seed members {sorted(unknown)}")

    def snapshot(self) -> dict[str, Any]:
        return {**self.objects, "used": {period: self._used(period) for period in PERIODS}}

    def error(self, status: int, detail: str | None = None) -> Response:
        messages = {401: WRONG_KEY, 429: "Quota exceeded"}
        code = CODES.get(status, "InternalError")
        message = detail or messages.get(status, f"The request failed with status {status}.")
        return JSONResponse({"error": {"code": code, "message": message}}, status)

    def _guarded(self, handler: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def route(request: Request) -> Response:
            try:
                self._admit(request)
                return handler(request)
            except Refused as refusal:
                code = refusal.code or CODES[refusal.status]
                return JSONResponse({"error": {"code": code, "message": refusal.message}}, refusal.status)

        return route

    def _admit(self, request: Request) -> None:
        key = request.headers.get("x-apikey")
        if not key:
            raise Refused(401, "X-Apikey header is missing", "AuthenticationRequiredError")
        if key != self.knobs["api_key"]:
            raise Refused(401, WRONG_KEY)
        for period, limit in {**LIMITS[self.knobs["plan"]], **self.knobs["limits"]}.items():
            if limit is not None and self._used(period) >= limit:
                raise Refused(429, "Quota exceeded")
        self.asked.append(self.clock.now())
        if request.query_params:
            raise Refused(400, f"Unknown parameter {next(iter(request.query_params))!r}", "InvalidArgumentError")

    def _used(self, period: str) -> int:
        """Lookups of the minute that ends now, of today, or of this month."""
        used = sum(self._is_in(period, at) for at in self.asked)
        if self.elsewhere_at is not None and self._is_in(period, self.elsewhere_at):
            used += self.knobs["used_elsewhere"].get(period, 0)
        return used

    def _is_in(self, period: str, at: datetime) -> bool:
        now = self.clock.now()
        if period == "minute":
            return now - MINUTE < at <= now
        form = "%Y%m%d" if period == "day" else "%Y%m"
        return f"{at:{form}}" == f"{now:{form}}"

    def _lookup(self, collection: str) -> Callable[[Request], Response]:
        def lookup(request: Request) -> Response:
            name = request.path_params["name"]
            record = self.objects[collection].get(_key(collection, name))
            if record is None or parse_instant(record["_available_at"]) > self.clock.now():
                raise Refused(404, f'{NAMES[TYPES[collection]]} "{name}" not found')
            attributes = {k: v for k, v in record.items() if not k.startswith("_")}
            link = f"{request.url.scheme}://{request.url.netloc}/api/v3/{collection}/{record['_id']}"
            document = {"type": TYPES[collection], "id": record["_id"], "links": {"self": link}}
            return JSONResponse({"data": {**document, "attributes": attributes}})

        return lookup

    def _object(self, collection: str, name: str, known: tuple[str, ...], attributes: dict[str, Any]) -> dict[str, Any]:
        stats = dict.fromkeys(known, 0) | attributes.get("last_analysis_stats", {})
        now = int(self.clock.timestamp())
        own: dict[str, Any] = {}
        if collection == "urls":
            canonical = _canonical(name)
            own = {"url": canonical, "last_final_url": canonical, "first_submission_date": now, "times_submitted": 1}
        elif collection == "files":
            own = {"sha256": name.lower(), "names": [], "first_submission_date": now, "times_submitted": 1}
        return {
            "reputation": 0,
            "total_votes": {"harmless": 0, "malicious": 0},
            "tags": [],
            "last_modification_date": now,
            "last_analysis_date": now,
            "last_analysis_results": _results(stats),
            "_available_at": "1970-01-01T00:00:00Z",
            **own,
            **attributes,
            "last_analysis_stats": stats,
            "_id": _sha256(_canonical(name)) if collection == "urls" else _key(collection, name),
        }


def _not_imitated(request: Request) -> Response:
    raise Refused(403, "Not available to this key: only lookups are imitated")


def _results(stats: dict[str, int]) -> dict[str, Any]:
    """One made-up engine for each that the statistics count."""
    words = {"malicious": "malware", "suspicious": "suspicious", "harmless": "clean", "undetected": "unrated"}
    found: dict[str, Any] = {}
    for category, count in stats.items():
        for _ in range(count):
            name = f"Engine {len(found) + 1:02d}"
            result = {"category": category, "result": words.get(category), "method": "blacklist", "engine_name": name}
            found[name] = result
    return found


def _names(collection: str, name: str, record: dict[str, Any]) -> list[str]:
    if collection == "files":
        return [record[h].lower() for h in ("sha256", "sha1", "md5") if h in record]
    return [_key(collection, _url_id(name) if collection == "urls" else name)]


def _key(collection: str, name: str) -> str:
    """
    What a name of the path is kept under.

    :raises Refused: it is no such name
    """
    if collection == "ip_addresses":
        try:
            return str(ipaddress.ip_address(name))
        except ValueError:
            raise Refused(400, f"{name!r} is not a valid IP address", "InvalidArgumentError") from None
    if collection == "domains":
        if NOT_A_DOMAIN.search(name.lower()):
            raise Refused(400, f"{name!r} is not a valid domain pattern", "InvalidArgumentError")
        return name.lower()
    if collection == "files":
        return name.lower()
    if re.fullmatch("[0-9a-f]{64}", name):
        return name
    return _sha256(_canonical(_from_url_id(name)))


def _from_url_id(name: str) -> str:
    """The URL of an id. A padded one is no id (RFC 4648 section 3.2, as the vendor's page says)."""
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError("not unpadded base64url")
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (ValueError, binascii.Error):
        raise Refused(404, f'URL "{name}" not found') from None


def _url_id(url: str) -> str:
    return base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")


def _canonical(url: str) -> str:
    """Inferred: the vendor does not say how it canonises; scheme and host in lower case, a path, no fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path or "/", parts.query, ""))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
