"""Akamai API Security: both API families that exist under that name. Neither speaks EdgeGrid.

The vendor publishes no specification. Imitated from what third-party clients of the real service send and expect,
and from the vendor-written Neosec integration in demisto/content (``Packs/Neosec``).

**Noname lineage** (the product bought as Noname Security; bearer token; errors in the manner of NestJS):

* ``POST /auth/token`` ``{"client_id","client_secret"}`` of a service account -> ``{"accessToken"}``. The path is an
  INFERENCE (one sample marked as a placeholder).
* ``GET /api/v4/incidents``, ``GET /api/v4/findings`` -> ``{"entities": [...], "moreEntities": bool}``, with ``limit``,
  ``offset``, ``sortDesc``, repeated ``returnFields``, and ISO 8601 date windows (see :data:`DATE_FILTERS`);
  ``hoursAgo`` for findings only
* ``GET /api/v4/incidents/{id}``, ``GET /api/v4/findings/{id}`` (INFERENCE)
* ``PATCH /api/v4/incidents/{id}`` ``{"status"}``; ``PATCH /api/v4/findings/{id}/tags`` ``{"tagIds"}``

**Neosec lineage** (``X-API-Key``, tenant in the path):

* ``POST /v4/organizations/{tenant}/alerts/query`` with ``alert_filters``, ``offset``, ``limit``, ``sort_by`` ->
  ``{"items","count","total"}``
* ``PATCH /v4/organizations/{tenant}/alerts/{id}`` ``{"status": "Open"|"Closed"}``

Seed: ``{"incidents": [...], "findings": [...], "alerts": [...]}``, raw records in the vendor's shape, each with an
``id``; a record may carry ``_available_at`` (ISO 8601): nobody sees it earlier. A record with a known id is that one's
next state, and takes its place from its ``_available_at`` on (an incident grows while the attack goes on); what a
PATCH has set meanwhile stays. ``_grows`` spells such states more shortly: ``[{"at": "2026-01-02T05:00:00Z",
"attackerIps": [...], "severity": "Critical"}, ...]`` adds these addresses to the record's at that time, sets what else
is named, and moves ``lastUpdate``.

Knobs: ``client_id``, ``client_secret``, ``token_seconds`` (life of an access token by the simulated clock),
``token_status`` (the real service answers 200 or 201), ``user_token`` (a user's own token, accepted too),
``can_read`` and ``can_write`` (False: the role lacks the permission, 403), ``max_limit`` and ``default_limit``
(INFERRED), ``incident_fields`` (the names that ``returnFields`` may hold for incidents; None: our guess; the two
that public clients are known to get beside ``id`` are ``responseCodes`` and ``status``), ``says_more`` (False: lists of
incidents come without ``moreEntities``, as the one public client of them expects), ``empty_body`` (True: an empty list
has no body at all), ``update_dates`` (False: no list can be asked for ``lastUpdate``; "ignored": its bounds are
taken and have no effect), ``statuses`` (values that an incident may be set to; only ``resolved`` is known),
``rate_limit`` requests per ``rate_window_seconds`` over all routes (None: unlimited; the real limits are unknown),
``api_key``, ``tenant``.

Not imitated: the API inventory, tags and groups, the v3 issues and attackers, generation of user tokens and their
two days of life, webhooks and syslog export, Neosec's detokenising node. A field that a record does not have is left
out of it, even when ``returnFields`` names it.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.akamai_api_security.answers import (
    DATE_FILTERS,
    END,
    EQUALITY_FILTERS,
    FINDING_FIELDS,
    INCIDENT_FIELDS,
    NEOSEC_FILTERS,
    NEOSEC_MAX_LIMIT,
    NEOSEC_ORDER,
    NEOSEC_TIME,
    SORT_FIELD,
    START,
    Refused,
    read_instant,
)
from include.simulators.akamai_api_security.state import Records
from include.simulators.kit import Clock, parse_instant

Handler = Callable[[Request, bytes], Response]


class AkamaiApiSecuritySimulator(Records):
    product = "akamai_api_security"
    prefixes = ("/api/v3", "/api/v4", "/auth/token", "/v4/organizations")
    settings = {
        "client_id": "service-account-of-the-simulator",
        "client_secret": "client-secret-of-the-simulator",
        "token_seconds": 8 * 3600,
        "token_status": 201,
        "user_token": "user-token-of-the-simulator",
        "can_read": True,
        "can_write": True,
        "max_limit": 500,
        "default_limit": 50,
        "incident_fields": None,
        "says_more": True,
        "empty_body": False,
        "update_dates": True,
        "statuses": ["open", "resolved"],
        "rate_limit": None,
        "rate_window_seconds": 60,
        "api_key": "api-key-of-the-simulator",
        "tenant": "tenant-of-the-simulator",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._on("POST", "/auth/token", self._token)
        self._on("GET", "/api/v4/incidents", self._incidents)
        self._on("GET", "/api/v4/findings", self._findings)
        self._on("GET", "/api/v4/{kind}/{record_id}", self._one)
        self._on("PATCH", "/api/v4/incidents/{record_id}", self._set_status)
        self._on("PATCH", "/api/v4/findings/{record_id}/tags", self._set_tags)
        self._on("POST", "/v4/organizations/{tenant}/alerts/query", self._query_alerts)
        self._on("PATCH", "/v4/organizations/{tenant}/alerts/{record_id}", self._set_alert_status)
        for prefix in self.prefixes:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                self._on(method, prefix + "{rest:path}", self._nothing)

    def error(self, status: int, detail: str | None = None) -> Response:
        """INFERRED: NestJS's shape, but for a 400's ``message``."""
        names = {400: "Bad Request", 404: "Not Found", 415: "Unsupported Media Type", 500: "Internal Server Error"}
        bodies: dict[int, dict[str, Any]] = {
            401: {"statusCode": 401, "message": "Unauthorized"},
            403: {"statusCode": 403, "message": "Forbidden resource", "error": "Forbidden"},
            429: {"statusCode": 429, "message": "ThrottlerException: Too Many Requests"},
        }
        name = names.get(status, "Error")
        body = dict(bodies.get(status, {"statusCode": status, "message": name, "error": name}))
        if detail:
            body["message"] = detail
        return JSONResponse(body, status)

    def _on(self, method: str, path: str, handler: Handler) -> None:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            try:
                self._throttle()
                return handler(request, body)
            except Refused as refused:
                response = self.error(refused.status, refused.messages[0] if len(refused.messages) == 1 else None)
                if len(refused.messages) > 1:
                    listed = {"statusCode": refused.status, "message": [*refused.messages], "error": "Bad Request"}
                    response = JSONResponse(listed, refused.status)
                if refused.status == 429:
                    opens = self._window_start + self.knobs["rate_window_seconds"]
                    response.headers["Retry-After"] = str(max(1, math.ceil(opens - self.clock.timestamp())))
                return response

        self.router.add_api_route(path, endpoint, methods=[method])

    def _throttle(self) -> None:
        limit, now = self.knobs["rate_limit"], self.clock.timestamp()
        if not 0 <= now - self._window_start < self.knobs["rate_window_seconds"]:
            self._window_start, self._window_used = now, 0
        self._window_used += 1
        if limit is not None and self._window_used > limit:
            raise Refused(429)

    def _nothing(self, request: Request, body: bytes) -> Response:
        if request.url.path.startswith("/v4/"):
            self._check_key(request)
        elif request.url.path.startswith("/api/"):
            self._check_bearer(request)
        raise Refused(404, f"Cannot {request.method} {request.url.path}")

    @staticmethod
    def _json(request: Request, body: bytes, allowed: tuple[str, ...]) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415)
        try:
            document = json.loads(body)
        except ValueError as problem:
            raise Refused(400, str(problem)) from None
        if not isinstance(document, dict):
            raise Refused(400, "body must be an object")
        unknown = [f"property {name} should not exist" for name in document if name not in allowed]
        if unknown:
            raise Refused(400, *unknown)
        return document

    def _token(self, request: Request, body: bytes) -> Response:
        given = self._json(request, body, ("client_id", "client_secret"))
        if (given.get("client_id"), given.get("client_secret")) != (
            self.knobs["client_id"],
            self.knobs["client_secret"],
        ):
            raise Refused(401)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = self.clock.timestamp() + self.knobs["token_seconds"]
        return JSONResponse({"accessToken": token}, self.knobs["token_status"])

    def _check_bearer(self, request: Request, *, to_write: bool = False) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = token == self.knobs["user_token"] or self._tokens.get(token, -math.inf) > self.clock.timestamp()
        if scheme.lower() != "bearer" or not known:
            raise Refused(401)
        if not self.knobs["can_write" if to_write else "can_read"]:
            raise Refused(403)

    def _incidents(self, request: Request, body: bytes) -> Response:
        fields = tuple(self.knobs["incident_fields"] or INCIDENT_FIELDS)
        return self._list(request, "incidents", fields, tuple(DATE_FILTERS), hours_ago=False)

    def _findings(self, request: Request, body: bytes) -> Response:
        return self._list(request, "findings", FINDING_FIELDS, ("detection", "lastUpdate"), hours_ago=True)

    def _query(self, request: Request) -> dict[str, list[str]]:
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
            if self.knobs["update_dates"] != "ignored" or not name.startswith("lastUpdate"):
                query.setdefault(name, []).append(value)
        return query

    def _list(
        self, request: Request, kind: str, fields: tuple[str, ...], dates: tuple[str, ...], *, hours_ago: bool
    ) -> Response:
        self._check_bearer(request)
        query = self._query(request)
        dates = tuple(stem for stem in dates if stem != "lastUpdate" or self.knobs["update_dates"])
        bounds = {f"{stem}{side}Date": (stem, side) for stem in dates for side in ("Start", "End")}
        single = {"limit", "offset", "sortDesc", *bounds, *(("hoursAgo",) if hours_ago else ())}
        problems = [
            f"property {name} should not exist"
            for name in query
            if name not in (*single, "returnFields", *EQUALITY_FILTERS)
        ]
        problems += [f"{name} must be given once" for name in sorted(single & query.keys()) if len(query[name]) > 1]

        limit = self._whole(query, "limit", self.knobs["default_limit"], 1, self.knobs["max_limit"], problems)
        offset = self._whole(query, "offset", 0, 0, None, problems)
        hours = self._whole(query, "hoursAgo", 0, 1, None, problems)
        descending = query.get("sortDesc", ["false"])[0]
        if descending not in ("true", "false"):
            problems.append("sortDesc must be a boolean value")
        wanted = query.get("returnFields", list(fields))
        if not set(wanted) <= set(fields):
            problems.append(f"each value in returnFields must be one of the following values: {', '.join(fields)}")
        conditions: list[tuple[str, Callable[[Any, Any], bool], datetime]] = []
        for name, (stem, side) in bounds.items():
            if name in query:
                try:
                    instant = read_instant(query[name][0])
                except ValueError:
                    problems.append(f"{name} must be a valid ISO 8601 date string")
                else:
                    conditions.append((DATE_FILTERS[stem], START if side == "Start" else END, instant))
        if problems:
            raise Refused(400, *problems)
        if hours:
            since = datetime.fromtimestamp(self.clock.timestamp() - hours * 3600, UTC)
            conditions.append((SORT_FIELD, START, since))

        found = [
            record
            for record in self._visible(kind)
            if all(f in record and compare(parse_instant(record[f]), at) for f, compare, at in conditions)
            and all(str(record.get(f)) in query[f] for f in EQUALITY_FILTERS if f in query)
        ]
        found.sort(key=lambda r: (r.get(SORT_FIELD, ""), r["id"]), reverse=descending == "true")
        page = found[offset : offset + limit]
        entities = [{name: record[name] for name in wanted if name in record} for record in page]
        if "returnFields" not in query:
            entities = [self._shown(record) for record in page]
        if not entities and self.knobs["empty_body"]:
            return Response(status_code=200)
        if kind == "incidents" and not self.knobs["says_more"]:
            return JSONResponse({"entities": entities})
        return JSONResponse({"entities": entities, "moreEntities": offset + limit < len(found)})

    @staticmethod
    def _whole(
        query: dict[str, list[str]], name: str, default: int, least: int, most: int | None, problems: list[str]
    ) -> int:
        if name not in query:
            return default
        text = query[name][0]
        if not text.isdecimal():
            problems.append(f"{name} must be an integer number")
        elif int(text) < least:
            problems.append(f"{name} must not be less than {least}")
        elif most is not None and int(text) > most:
            problems.append(f"{name} must not be greater than {most}")
        else:
            return int(text)
        return default

    def _one(self, request: Request, body: bytes) -> Response:
        self._check_bearer(request)
        kind = request.path_params["kind"]
        if kind not in ("incidents", "findings"):
            raise Refused(404, f"Cannot GET {request.url.path}")
        return JSONResponse(self._shown(self._find(kind, request.path_params["record_id"])))

    def _set_status(self, request: Request, body: bytes) -> Response:
        """INFERRED: that the answer is the changed incident, and that ``lastUpdate`` moves."""
        self._check_bearer(request, to_write=True)
        incident = self._find("incidents", request.path_params["record_id"])
        status = self._json(request, body, ("status",)).get("status")
        if status not in self.knobs["statuses"]:
            allowed = ", ".join(self.knobs["statuses"])
            raise Refused(400, f"status must be one of the following values: {allowed}")
        self._set("incidents", incident, "status", status)
        self._touch(incident)
        return JSONResponse(self._shown(incident))

    def _set_tags(self, request: Request, body: bytes) -> Response:
        self._check_bearer(request, to_write=True)
        finding = self._find("findings", request.path_params["record_id"])
        tags = self._json(request, body, ("tagIds",)).get("tagIds")
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise Refused(400, "each value in tagIds must be a string")
        self._set("findings", finding, "tagsIds", tags)
        self._touch(finding)
        return JSONResponse(self._shown(finding))

    def _check_key(self, request: Request) -> None:
        """INFERRED: the texts; the vendor's integration looks for "Forbidden" and "Authorization" in them."""
        if request.headers.get("x-api-key") != self.knobs["api_key"]:
            raise Refused(401, "Authorization failed")
        if request.path_params.get("tenant", self.knobs["tenant"]) != self.knobs["tenant"]:
            raise Refused(403, "Forbidden")

    def _query_alerts(self, request: Request, body: bytes) -> Response:
        self._check_key(request)
        given = self._json(request, body, ("alert_filters", "offset", "limit", "sort_by"))
        offset, limit = given.get("offset", 0), given.get("limit", NEOSEC_MAX_LIMIT)
        if type(offset) is not int or offset < 0 or type(limit) is not int or not 1 <= limit <= NEOSEC_MAX_LIMIT:
            raise Refused(400, f"offset must be 0 or more, limit 1 to {NEOSEC_MAX_LIMIT}")
        order = re.fullmatch(r"(asc|desc)\((triggered_at|timestamp)\)", str(given.get("sort_by", "desc(triggered_at)")))
        if not order:
            raise Refused(400, "Invalid sort_by")
        equal, ordered = self._alert_filters(given.get("alert_filters", []))
        found = [
            alert
            for alert in self._visible("alerts")
            if all(alert.get(name) in values for name, values in equal.items())
            and all(compare(parse_instant(alert["triggered_at"]), at) for compare, at in ordered)
        ]
        found.sort(key=lambda a: (parse_instant(a[order[2]]), a["id"]), reverse=order[1] == "desc")
        items = [self._shown(alert) for alert in found[offset : offset + limit]]
        return JSONResponse({"items": items, "count": len(items), "total": len(found)})

    @staticmethod
    def _alert_filters(given: Any) -> tuple[dict[str, set[str]], list[tuple[Callable[[Any, Any], bool], datetime]]]:
        """Values by name (several Eq of one name: any of them), and comparisons of triggered_at (all of them)."""
        equal: dict[str, set[str]] = {}
        ordered: list[tuple[Callable[[Any, Any], bool], datetime]] = []
        for condition in given if isinstance(given, list) else [given]:
            if not isinstance(condition, dict) or set(condition) != {"name", "operator", "value"}:
                raise Refused(400, "A filter has name, operator and value")
            name, kind, value = condition["name"], condition["operator"], condition["value"]
            if name not in NEOSEC_FILTERS or not isinstance(value, str):
                raise Refused(400, f"Invalid filter {name}")
            if name == "triggered_at" and kind in NEOSEC_ORDER:
                try:
                    instant = datetime.strptime(value, NEOSEC_TIME).replace(tzinfo=UTC)
                except ValueError:
                    raise Refused(400, f"Invalid time {value}") from None
                ordered.append((NEOSEC_ORDER[kind], instant))
            elif kind == "Eq":
                equal.setdefault(name, set()).add(value)
            else:
                raise Refused(400, f"Invalid operator {kind} for {name}")
        return equal, ordered

    def _set_alert_status(self, request: Request, body: bytes) -> Response:
        """INFERRED: that the answer is the changed alert."""
        self._check_key(request)
        alert = self._find("alerts", request.path_params["record_id"])
        status = self._json(request, body, ("status",)).get("status")
        if status not in ("Open", "Closed"):
            raise Refused(400, "status must be Open or Closed")
        self._set("alerts", alert, "status", status)
        return JSONResponse(self._shown(alert))
