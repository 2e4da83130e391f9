"""MISP 2.5, as far as a client of its attribute search needs it.

Imitates what MISP's source and OpenAPI description (https://www.misp-project.org/openapi/) say and PyMISP 2.5 sends.
Paths: ``POST /attributes/restSearch``, and what PyMISP asks when it connects: ``GET /servers/getVersion``,
``/servers/getPyMISPVersion.json``, ``/users/view/me``. The key travels bare in ``Authorization``, or in
``X-MISP-AUTH``.

What matters to a client: a wrong key is 403, not 401; a request that does not accept JSON is redirected to the login;
a list of values is any of them, each compared without regard to case with either half of a composite (``ip|port``);
``!`` before a value excludes it, ``%`` at an end makes it a pattern, and a text that is no list is split at ``&&``;
the warning lists and the limit work after one another, so that a page may be short although others follow; event tags
are mixed with the attribute's, with ``inherited``.

Seed: ``{"events": [...], "warninglist": ["192.0.2.0/24", "good.example"]}``; an event as MISP exports it (with
``Attribute``, ``Object`` and ``Tag``), with or without its wrapper ``{"Event": ...}``. Missing ids are counted up,
missing timestamps are the moment of seeding. ``_available_at`` hides an event until the clock passes it.

Knobs: ``api_key``; ``role_may_search``; ``searches_per_quarter_hour`` (0: no limit); ``tells_skipped`` (whether the
answer has ``X-Skipped-Elements-Count``, as newer versions do); ``refuses`` (a value that makes the search fail with
400, as a value does that MySQL cannot compare).

Not imitated: organisations, sharing groups and who may see what, sightings, decay, correlations, proposals, the
``AND`` of complex queries, other formats than JSON, the server's allow list. Stricter than MISP: an unknown or
unimplemented parameter is refused (it would be ignored, and a typo would pass as no filter). Inferred: the members of
``Event`` with ``includeContext``, the names of the rate limit's headers.
"""

from __future__ import annotations

import ipaddress
import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response

from include.simulators.kit import Clock, Simulator, parse_instant

VERSION = "2.5.34"
UNAUTHENTICATED = (
    "Authentication failed. Please make sure you pass the API key of an API enabled user along in the "
    "Authorization header."
)
NO_SEARCH = "API searches are not allowed for this user role."
RATE_LIMITED = "Rate limit exceeded."
QUARTER = timedelta(minutes=15)
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
#: What PyMISP sends with every search although nobody asked for it, when it is falsy.
IGNORED_WHEN_EMPTY = frozenset(
    [
        *("org", "event_tags", "quickFilter", "from", "to", "withAttachments", "metadata", "uuid", "includeEventUuid"),
        *("event_timestamp", "sgReferenceOnly", "eventinfo", "searchall", "requested_attributes", "headerless"),
        *("includeSightings", "includeDecayScore", "includeCorrelations", "object_name", "excludeDecayed"),
        *("sharinggroup", "deleted"),
    ]
)
IMPLEMENTED = frozenset(
    [
        *("returnFormat", "page", "limit", "value", "type", "category", "tags", "eventid", "to_ids", "published"),
        *("enforceWarninglist", "includeEventTags", "includeContext", "last", "publish_timestamp", "timestamp"),
    ]
)
#: The members of an attribute, in MISP's order.
ATTRIBUTE = {
    "id": None,
    "event_id": None,
    "object_id": "0",
    "object_relation": None,
    "category": "Network activity",
    "type": None,
    "to_ids": False,
    "uuid": None,
    "timestamp": None,
    "distribution": "5",
    "sharing_group_id": "0",
    "comment": "",
    "deleted": False,
    "disable_correlation": False,
    "first_seen": None,
    "last_seen": None,
    "value": None,
}
EVENT_ALWAYS = ("org_id", "distribution", "id", "info", "orgc_id", "uuid")
EVENT_IN_CONTEXT = ("threat_level_id", "analysis", "date", "published", "timestamp", "publish_timestamp")

Test = Callable[[str], bool]


class Refused(Exception):
    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class MispSimulator(Simulator):
    product = "misp"
    prefixes = ("/attributes", "/servers", "/users/view")
    settings = {
        "api_key": "demo-misp-authentication-key",
        "role_may_search": True,
        "searches_per_quarter_hour": 0,
        "tells_skipped": True,
        "refuses": None,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        for method, path, answer in (
            ("POST", "/attributes/restSearch", self.rest_search),
            ("GET", "/servers/getVersion", self.version),
            ("GET", "/servers/getPyMISPVersion.json", self.version),
            ("GET", "/users/view/me", self.me),
        ):
            self.router.add_api_route(path, self._guarded(answer), methods=[method], response_model=None)
        for prefix in self.prefixes:
            self.router.add_api_route(
                prefix + "/{rest:path}", self._guarded(self.nowhere), methods=["GET", "POST"], response_model=None
            )

    def clear(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.attributes: list[dict[str, Any]] = []
        self.warninglist: list[str] = []
        self.searches: list[datetime] = []

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"events", "warninglist"}:
            raise HTTPException(400, f"misp: unknown seed members {sorted(set(data) - {'events', 'warninglist'})}")
        self.warninglist += data.get("warninglist", [])
        for record in data.get("events", []):
            self._add_event(record.get("Event", record))

    def _add_event(self, given: dict[str, Any]) -> None:
        now = str(int(self.clock.timestamp()))
        number = str(len(self.events) + 1)
        event = {
            "id": number,
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"misp-event-{number}")),
            "org_id": "1",
            "orgc_id": "1",
            "distribution": "1",
            "threat_level_id": "4",
            "analysis": "0",
            "date": f"{self.clock.now():%Y-%m-%d}",
            "published": True,
            "timestamp": now,
            "publish_timestamp": given.get("timestamp", now),
            "Tag": [],
            **{k: v for k, v in given.items() if k not in ("Attribute", "Object", "Galaxy", "RelatedEvent")},
        }
        self.events.append(event)
        inside = [a for o in given.get("Object", []) for a in o.get("Attribute", [])]
        for attribute in [*given.get("Attribute", []), *inside]:
            count = str(len(self.attributes) + 1)
            own = {
                "id": count,
                "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"misp-attribute-{count}")),
                "timestamp": event["timestamp"],
                **attribute,
                "event_id": event["id"],
            }
            self.attributes.append(
                {**{k: own.get(k, v) for k, v in ATTRIBUTE.items()}, "Tag": own.get("Tag", []), "_event": event}
            )

    def snapshot(self) -> dict[str, Any]:
        return {"events": len(self.events), "attributes": len(self.attributes), "searches": len(self.searches)}

    def error(self, status: int, detail: str | None = None) -> Response:
        message = detail or {403: UNAUTHENTICATED, 429: RATE_LIMITED}.get(status, "An Internal Error Has Occurred.")
        return _json({"name": message, "message": message, "url": "/attributes/restSearch"}, status)

    def _guarded(self, answer: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def route(request: Request) -> Response:
            if "json" not in request.headers.get("accept", "") and not request.url.path.endswith(".json"):
                return Response(status_code=302, headers={"Location": "/users/login"})
            try:
                if self.knobs["api_key"] not in (
                    request.headers.get("authorization"),
                    request.headers.get("x-misp-auth"),
                ):
                    raise Refused(403, UNAUTHENTICATED)
                found: Response = await answer(request)
                return found
            except Refused as refusal:
                said = {"name": refusal.message, "message": refusal.message, "url": request.url.path}
                return _json(said, refusal.status, refusal.headers)

        return route

    async def nowhere(self, request: Request) -> Response:
        raise Refused(404, "Controller or action not found.")

    async def version(self, request: Request) -> Response:
        rights = {"perm_sync": False, "perm_sighting": True, "perm_galaxy_editor": False}
        return _json(
            {
                "version": VERSION,
                "pymisp_recommended_version": VERSION,
                **rights,
                "request_encoding": [],
                "filter_sightings": True,
            }
        )

    async def me(self, request: Request) -> Response:
        user = {"id": "7", "org_id": "1", "email": "response@misp.example", "role_id": "6", "disabled": False}
        role = {"id": "6", "name": "Read Only", "perm_auth": True, "perm_add": False, "enforce_rate_limit": False}
        return _json({"User": user, "Role": role, "UserSetting": []})

    async def rest_search(self, request: Request) -> Response:
        if not self.knobs["role_may_search"]:
            raise Refused(405, NO_SEARCH)
        headers = self._count_search()
        body = await _body(request)
        unknown = sorted(k for k, v in body.items() if k not in IMPLEMENTED and not (k in IGNORED_WHEN_EMPTY and not v))
        if unknown:
            raise Refused(400, f"Not implemented by this simulator: {unknown}")
        if body.get("returnFormat", "json") != "json":
            raise Refused(404, "Invalid output format.")
        if self.knobs["refuses"] is not None and self.knobs["refuses"] in str(body.get("value")):
            raise Refused(400, "Invalid input.")
        found = self._filter(body)
        limit, page = int(body.get("limit") or 0), int(body.get("page") or 1)
        if limit:
            found = found[(page - 1) * limit : page * limit]
        elif page > 1:
            found = []
        kept = [a for a in found if not (_truth(body.get("enforceWarninglist")) and self._is_warned_of(a["value"]))]
        headers |= {"X-Result-Count": str(len(kept)), "X-Response-Format": "json"}
        if self.knobs["tells_skipped"]:
            headers["X-Skipped-Elements-Count"] = str(len(found) - len(kept))
        return _json({"response": {"Attribute": [_shown(a, body) for a in kept]}}, headers=headers)

    def _count_search(self) -> dict[str, str]:
        limit, now = self.knobs["searches_per_quarter_hour"], self.clock.now()
        if not limit:
            self.searches.append(now)
            return {}
        recent = [at for at in self.searches if now - at < QUARTER]
        reset = int((recent[0] + QUARTER - now).total_seconds()) if recent else int(QUARTER.total_seconds())
        headers = {"X-Rate-Limit-Limit": str(limit), "X-Rate-Limit-Reset": str(reset)}
        if len(recent) >= limit:
            raise Refused(429, RATE_LIMITED, headers | {"X-Rate-Limit-Remaining": "0"})
        self.searches = [*recent, now]
        return headers | {"X-Rate-Limit-Remaining": str(limit - len(recent) - 1)}

    def _filter(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        now = self.clock.now()
        found = [a for a in self.attributes if not a["deleted"] and self._is_there(a["_event"], now)]
        if body.get("value"):
            includes, excludes = _split(body["value"])
            found = [
                a
                for a in found
                if (not includes or any(_matches(f)(half) for f in includes for half in _halves(a)))
                and not any(_matches(f)(half) for f in excludes for half in _halves(a))
            ]
        for name in ("type", "category"):
            if body.get(name):
                includes, excludes = _split(body[name])
                found = [a for a in found if (not includes or a[name] in includes) and a[name] not in excludes]
        if body.get("tags"):
            includes, excludes = _split(body["tags"])
            found = [
                a
                for a in found
                if (not includes or any(_matches(f)(name) for f in includes for name in _tag_names(a)))
                and not any(_matches(f)(name) for f in excludes for name in _tag_names(a))
            ]
        if body.get("eventid"):
            includes, excludes = _split(body["eventid"])
            found = [a for a in found if (not includes or a["event_id"] in includes) and a["event_id"] not in excludes]
        if "to_ids" in body:
            found = [a for a in found if bool(a["to_ids"]) == _truth(body["to_ids"])]
        if "published" in body:
            found = [a for a in found if bool(a["_event"]["published"]) == _truth(body["published"])]
        if since := body.get("publish_timestamp", body.get("last")):
            found = [a for a in found if _is_within(a["_event"]["publish_timestamp"], since, now)]
        if since := body.get("timestamp"):
            found = [a for a in found if _is_within(a["timestamp"], since, now)]
        return sorted(found, key=lambda a: int(a["id"]))

    @staticmethod
    def _is_there(event: dict[str, Any], now: datetime) -> bool:
        return "_available_at" not in event or parse_instant(event["_available_at"]) <= now

    def _is_warned_of(self, value: str) -> bool:
        for half in value.split("|"):
            for entry in self.warninglist:
                if half == entry:
                    return True
                try:
                    if ipaddress.ip_address(half) in ipaddress.ip_network(entry):
                        return True
                except ValueError:
                    continue
        return False


def _shown(attribute: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    event = attribute["_event"]
    members = EVENT_ALWAYS + (EVENT_IN_CONTEXT if _truth(body.get("includeContext")) else ())
    tags = [dict(tag) for tag in attribute["Tag"]]
    if _truth(body.get("includeEventTags")):
        tags += [{**tag, "inherited": 1} for tag in event["Tag"]]
    shown = {k: v for k, v in attribute.items() if k not in ("Tag", "_event")}
    return {**shown, "Event": {k: event.get(k) for k in members}, **({"Tag": tags} if tags else {})}


def _halves(attribute: dict[str, Any]) -> list[str]:
    """``value1`` and ``value2`` of MISP's table."""
    if "|" in attribute["type"] or attribute["type"] == "malware-sample":
        return str(attribute["value"]).split("|", 1)
    return [attribute["value"]]


def _tag_names(attribute: dict[str, Any]) -> list[str]:
    return [tag["name"] for tag in [*attribute["Tag"], *attribute["_event"]["Tag"]]]


def _split(given: Any) -> tuple[list[str], list[str]]:
    """What is wanted and what is not."""
    if isinstance(given, dict):
        if set(given) - {"OR", "NOT"}:
            raise Refused(400, f"Not implemented by this simulator: {sorted(given)}")
        return [str(v) for v in given.get("OR", [])], [str(v) for v in given.get("NOT", [])]
    values = [str(v) for v in given] if isinstance(given, list) else str(given).split("&&")
    return [v for v in values if v and v[0] != "!"], [v[1:] for v in values if v and v[0] == "!"]


def _matches(wanted: str) -> Test:
    if wanted.startswith("%") or wanted.endswith("%"):
        pattern = re.escape(wanted).replace("%", ".*").replace("_", ".")
        return lambda text: re.fullmatch(pattern, text, re.I | re.S) is not None
    return lambda text: text.casefold() == wanted.casefold()


def _truth(value: Any) -> bool:
    return value not in (None, False, 0, "0", "", "false")


def _is_within(stamp: str, since: Any, now: datetime) -> bool:
    first, last = since if isinstance(since, list) else (since, None)
    return _moment(first, now) <= int(stamp) and (last is None or int(stamp) <= _moment(last, now))


def _moment(text: Any, now: datetime) -> float:
    """Epoch seconds, or how long ago: ``7d``."""
    written = str(text)
    if written[-1:].lower() in UNITS and written[:-1].isdigit():
        return now.timestamp() - int(written[:-1]) * UNITS[written[-1].lower()]
    try:
        return float(written)
    except ValueError:
        raise Refused(400, "Invalid time filter format") from None


async def _body(request: Request) -> dict[str, Any]:
    if "json" not in request.headers.get("content-type", ""):
        raise Refused(400, "The content type is not application/json.")
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        raise Refused(
            400, "Invalid JSON input. Make sure that the JSON input is a correctly formatted JSON string."
        ) from None
    if not isinstance(body, dict):
        raise Refused(400, "Invalid JSON input.")
    return body


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(document), status, media_type="application/json", headers=headers)
