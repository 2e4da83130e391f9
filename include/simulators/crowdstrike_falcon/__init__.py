"""CrowdStrike Falcon: OAuth2 tokens and IOC Management (custom indicators).

Imitates what the endpoint tables of CrowdStrike's falconpy 1.6.6 and the models of its gofalcon say
(https://github.com/CrowdStrike/falconpy, https://github.com/CrowdStrike/gofalcon); the vendor's own swagger is
behind a login. Paths: ``/oauth2/token``, ``/oauth2/revoke``; under ``/iocs``: ``entities/indicators/v1`` (POST, PATCH,
DELETE, GET), ``queries/indicators/v1``, ``combined/indicator/v1`` (singular), ``queries/{actions,ioc-types,platforms,
severities}/v1`` and ``aggregates/indicators/device-count/v1``.

What matters to a client: a token answers 201 and lives 1799 s; a good write has ``errors: null``; a bad row makes
the whole request fail with 400, and the reason stands in ``resources``, not in ``errors``; ``prevent`` and ``allow``
are for hashes; an expired indicator stays, with ``no_action`` and ``expired: true``; ``X-Ratelimit-Remaining`` counts
a sliding minute, and 429 carries ``X-RateLimit-RetryAfter`` as Unix seconds.

Seed: ``{"indicators": [{"type": "ipv4", "value": "198.51.100.7", ...}], "devices": {"ipv4:198.51.100.7": 3}}``. An
indicator takes any member that the vendor returns; what is missing is filled in. ``_available_at`` hides it until
the clock passes that time. ``devices`` is how many hosts have seen an indicator.

Knobs: ``client_id``, ``client_secret``; ``requests_per_minute``; ``read_only`` (the client lacks the write scope:
403); ``hash_only_prevent`` (a tenant with Firewall Management may differ); ``cs_region`` (sends ``X-Cs-Region`` with
the token: falconpy then leaves for the real cloud, so it is off unless a test is about that; see ``HEADER_NAMES``).

Not imitated: MSSP (``member_cid`` is refused, ``from_parent=true`` finds nothing), the firewall API, devices and
processes that an indicator ran on, aggregates, reports, ``sdmf``, retrodetects (only noted in the audit log),
warnings (so ``ignore_warnings`` changes nothing), full FQL: no ``~``, ``!``, ``*`` or parentheses.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import math
import re
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Clock, Receive, Scope, Send, Simulator, parse_instant

TYPES = ["sha256", "md5", "domain", "ipv4", "ipv6"]
ACTIONS = ["no_action", "allow", "prevent_no_ui", "prevent", "detect"]
MOBILE_ACTIONS = ["no_action", "allow", "detect", "prevent"]
PLATFORMS = ["windows", "mac", "linux", "ios", "android"]
SEVERITIES = ["informational", "low", "medium", "high", "critical"]
HASHES = {"sha256": 64, "md5": 32}
HASH_ONLY_ACTIONS = {"allow", "prevent_no_ui", "prevent"}
ACTIONS_WITH_SEVERITY = {"prevent_no_ui", "prevent", "detect"}
LONGEST_DOMAIN = 200
TOKEN_SECONDS = 1799
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
DATE_FIELDS = frozenset({"created_on", "expiration", "modified_on"})

# Inferred, or from third parties: not settled by a vendor page.
#: From third-party recordings of the vendor's answers.
INVALID_TOKEN = "access denied, invalid bearer token"
NOT_ALLOWED = "access denied, authorization failed"
RATE_LIMITED = "API rate limit exceeded."
REQUESTS_PER_MINUTE = 6000
#: PSFalcon's limit for one POST or PATCH.
MOST_PER_REQUEST = 2000
LONGEST_SOURCE = 256
LONGEST_DESCRIPTION = 200
#: ios and android need Falcon for Mobile, which this tenant does not have.
MOBILE_PLATFORMS = {"ios", "android"}
SEVERITY_NUMBERS = {"informational": 10, "low": 30, "medium": 50, "high": 70, "critical": 90}
INVALID_ROWS = "One or more indicators are invalid"
# Also inferred: a deleted indicator can still be read by id, with deleted: true; unknown ids give 404 when none is
# known and an error entry beside the known ones otherwise; an expiration in the past is refused; a later expiration
# revives an expired indicator; the identity of a value ignores case; an unknown member is refused.

#: falconpy hands headers on in a case-sensitive dictionary, and Starlette writes their names in lower case. Uvicorn
#: sends these spellings only with ``http="h11"``; its httptools writes lower case again.
HEADER_NAMES = {
    name.lower(): name for name in (b"X-Cs-Region", b"X-Cs-Traceid", b"X-Ratelimit-Limit", b"X-Ratelimit-Remaining")
} | {b"x-ratelimit-retryafter": b"X-RateLimit-RetryAfter"}

Indicator = dict[str, Any]
Filter = Callable[[Indicator], bool]
Handler = Callable[[Request], Awaitable[Response]]


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


class CrowdStrikeFalconSimulator(Simulator):
    product = "crowdstrike_falcon"
    prefixes = ("/oauth2", "/iocs")
    settings = {
        "client_id": "demo-falcon-client",
        "client_secret": "demo-falcon-secret",
        "requests_per_minute": REQUESTS_PER_MINUTE,
        "read_only": False,
        "hash_only_prevent": True,
        "cs_region": None,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        entities = "/iocs/entities/indicators/v1"
        self._route("POST", "/oauth2/token", self.token, open_to_all=True)
        self._route("POST", "/oauth2/revoke", self.revoke, open_to_all=True)
        self._route("POST", entities, self.create, write=True)
        self._route("PATCH", entities, self.update, write=True)
        self._route("DELETE", entities, self.delete, write=True)
        self._route("GET", entities, self.get)
        self._route("GET", "/iocs/queries/indicators/v1", self.search)
        self._route("GET", "/iocs/combined/indicator/v1", self.combined)
        self._route("GET", "/iocs/aggregates/indicators/device-count/v1", self.device_count)
        for name, values in (
            ("actions", ACTIONS),
            ("ioc-types", TYPES),
            ("platforms", PLATFORMS),
            ("severities", SEVERITIES),
        ):
            self._route("GET", f"/iocs/queries/{name}/v1", self._vocabulary(values))
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            self._route(method, "/iocs/{rest:path}", self.nowhere)

    def clear(self) -> None:
        self.indicators: dict[str, Indicator] = {}
        self.devices: dict[str, int] = {}
        self.tokens: dict[str, float] = {}
        self.recent: deque[float] = deque()
        self.audit: list[dict[str, Any]] = []

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"indicators", "devices"}:
            raise HTTPException(400, f"crowdstrike_falcon: unknown seed members {sorted(data)}")
        self.devices.update({_identity(*key.split(":", 1)): n for key, n in data.get("devices", {}).items()})
        for given in data.get("indicators", []):
            if self._holder(given["type"], given["value"], hidden_too=True):
                raise HTTPException(400, f"crowdstrike_falcon: {given['type']} {given['value']} is there already")
            self._store({"action": "no_action", "platforms": PLATFORMS[:3], "applied_globally": True} | given)

    def snapshot(self) -> dict[str, Any]:
        self._expire()
        return {"indicators": [_shown(i) for i in self.indicators.values()], "audit": self.audit}

    def error(self, status: int, detail: str | None = None) -> Response:
        messages = {401: INVALID_TOKEN, 403: NOT_ALLOWED, 429: RATE_LIMITED}
        answer = self._answer(status, [], errors=[_error(status, detail or messages.get(status, "Internal error"))])
        if status == 429:
            answer.headers["X-RateLimit-RetryAfter"] = str(math.ceil(self.clock.timestamp() + 60))
        return answer

    def _route(
        self, method: str, path: str, handler: Handler, *, write: bool = False, open_to_all: bool = False
    ) -> None:
        async def route(request: Request) -> Response:
            wait_until = self._count()
            if wait_until is not None:
                answer = self.error(429)
                answer.headers["X-RateLimit-RetryAfter"] = str(math.ceil(wait_until))
            else:
                try:
                    if not open_to_all:
                        self._authorize(request, write)
                    answer = await handler(request)
                except Refused as refusal:
                    answer = self.error(refusal.status, refusal.message)
            limit = self.knobs["requests_per_minute"]
            answer.headers["X-Ratelimit-Limit"] = str(limit)
            answer.headers["X-Ratelimit-Remaining"] = str(max(0, limit - len(self.recent)))
            return answer

        self.router.add_api_route(path, route, methods=[method], response_model=None)

    def _count(self) -> float | None:
        """Count a request in the sliding minute; the Unix time at which to come back when it is full."""
        now = self.clock.timestamp()
        while self.recent and self.recent[0] <= now - 60:
            self.recent.popleft()
        if len(self.recent) >= self.knobs["requests_per_minute"]:
            return self.recent[0] + 60 if self.recent else now + 60
        self.recent.append(now)
        return None

    def _authorize(self, request: Request, write: bool) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or self.tokens.get(token, 0) <= self.clock.timestamp():
            raise Refused(401, INVALID_TOKEN)
        if write and self.knobs["read_only"]:
            raise Refused(403, NOT_ALLOWED)

    async def token(self, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        if not form.get("client_id") or not form.get("client_secret"):
            raise Refused(400, "client_id and client_secret are required")
        if set(form) != {"client_id", "client_secret"} or (form["client_id"], form["client_secret"]) != (
            self.knobs["client_id"],
            self.knobs["client_secret"],
        ):
            raise Refused(403, NOT_ALLOWED)
        token = uuid.uuid4().hex
        self.tokens[token] = self.clock.timestamp() + TOKEN_SECONDS
        answer = Answer({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "bearer"}, 201)
        if self.knobs["cs_region"]:
            answer.headers["X-Cs-Region"] = self.knobs["cs_region"]
        return answer

    async def revoke(self, request: Request) -> Response:
        form = {k: str(v) for k, v in (await request.form()).items()}
        scheme, _, pair = request.headers.get("authorization", "").partition(" ")
        ours = base64.b64encode(f"{self.knobs['client_id']}:{self.knobs['client_secret']}".encode()).decode()
        if scheme.lower() != "basic" or pair != ours:
            raise Refused(403, NOT_ALLOWED)
        if not form.get("token"):
            raise Refused(400, "token is required")
        self.tokens.pop(form["token"], None)
        return self._answer(200, [])

    async def create(self, request: Request) -> Response:
        query = _query(request, "retrodetects", "ignore_warnings")
        body = _body(await request.body(), {"comment", "indicators"})
        rows = _rows(body)
        problems, seen = [], set()
        for number, row in enumerate(rows, start=1):
            try:
                self._check_members(row, EDITABLE | {"type", "value"})
                self._check(row)
                identity = _identity(row["type"], row["value"])
                if identity in seen or self._holder(row["type"], row["value"]):
                    raise RowError("value", f"Duplicate type: '{row['type']}' and value: '{row['value']}' combination.")
                seen.add(identity)
            except RowError as problem:
                problems.append(_row_message(number, row, problem))
        if problems:
            return self._answer(400, problems, errors=[_error(400, INVALID_ROWS)])
        created = [self._store(row) for row in rows]
        self._note("create", created, body.get("comment"), query)
        return self._answer(201, [_shown(i) for i in created], total=len(created))

    async def update(self, request: Request) -> Response:
        query = _query(request, "retrodetects", "ignore_warnings")
        body = _body(await request.body(), {"comment", "indicators", "bulk_update"})
        if ("indicators" in body) == ("bulk_update" in body):
            raise Refused(400, "either indicators or bulk_update is required")
        if "bulk_update" in body:
            changes = dict(body["bulk_update"])
            matches = parse_fql(changes.pop("filter", ""))
            changes.pop("from_parent", None)
            rows = [{"id": i["id"], **changes} for i in self._living() if matches(i)]
        else:
            rows = _rows(body)
        problems, merged = [], []
        for number, row in enumerate(rows, start=1):
            try:
                self._check_members(row, EDITABLE | {"id"})
                known = self.indicators.get(row.get("id", ""))
                if known is None or known["deleted"]:
                    raise RowError("id", "The indicator was not found.")
                merged.append(self._merge(known, row))
            except RowError as problem:
                problems.append(_row_message(number, row, problem))
        if problems:
            return self._answer(400, problems, errors=[_error(400, INVALID_ROWS)])
        for indicator in merged:
            self.indicators[indicator["id"]] = indicator
        self._note("update", merged, body.get("comment"), query)
        return self._answer(200, [_shown(i) for i in merged], total=len(merged))

    async def delete(self, request: Request) -> Response:
        query = _query(request, "ids", "filter", "comment", "from_parent")
        if query.get("filter"):  # wins over ids
            doomed, missing = [i for i in self._living() if parse_fql(query["filter"])(i)], []
            if query.get("from_parent") == "true":
                doomed = []
        else:
            ids = _ids(request)
            doomed = [i for i in self._living() if i["id"] in ids]
            missing = [i for i in ids if i not in {d["id"] for d in doomed}]
        for indicator in doomed:
            indicator.update(deleted=True, modified_on=self._now(), modified_by=self.knobs["client_id"])
        self._note("delete", doomed, query.get("comment"), {})
        return self._found([i["id"] for i in doomed], missing)

    def _store(self, given: Indicator) -> Indicator:
        number = len(self.indicators) + 1
        made_by, made_on = self.knobs["client_id"], self._now()
        indicator = {
            "id": hashlib.sha256(f"{number}:{given['type']}:{given['value']}".encode()).hexdigest(),
            "metadata": {"signed": False, "av_hits": -1} if given["type"] in HASHES else {},
            "deleted": False,
            "expired": False,
            "from_parent": False,
            "created_on": made_on,
            "created_by": made_by,
            "modified_on": made_on,
            "modified_by": made_by,
            "_number": number,
        } | given
        if indicator.get("expiration"):
            indicator["expiration"] = _rfc3339(indicator["expiration"])
        self.indicators[indicator["id"]] = indicator
        return indicator

    def _merge(self, known: Indicator, row: Indicator) -> Indicator:
        merged = known | row
        if "host_groups" in row and "applied_globally" not in row:
            merged["applied_globally"] = False
        if row.get("applied_globally"):
            merged.pop("host_groups", None)
        self._check(merged, changed=set(row))
        if "expiration" in row:
            merged["expired"] = False
            if merged["expiration"]:
                merged["expiration"] = _rfc3339(merged["expiration"])
        return merged | {"modified_on": self._now(), "modified_by": self.knobs["client_id"]}

    @staticmethod
    def _check_members(row: Any, allowed: frozenset[str]) -> None:
        if not isinstance(row, dict):
            raise RowError("", "An indicator must be an object.")
        for name in row:
            if name not in allowed:
                raise RowError(name, f"Unknown field: '{name}'.")

    def _check(self, row: Indicator, changed: set[str] | None = None) -> None:
        """Refuse an indicator that the vendor would not take. ``changed``: only these members are new."""
        kind, action = row.get("type"), row.get("action")
        _one_of(row, "type", TYPES)
        _check_value(row)
        _one_of(row, "action", ACTIONS)
        if action in HASH_ONLY_ACTIONS and kind not in HASHES and self.knobs["hash_only_prevent"]:
            raise RowError("action", f"Action '{action}' applies to hashes only, not to type '{kind}'.")
        if "mobile_action" in row:
            _one_of(row, "mobile_action", MOBILE_ACTIONS)
        if "severity" in row or action in ACTIONS_WITH_SEVERITY:
            _one_of(row, "severity", SEVERITIES)
        platforms = row.get("platforms")
        if not isinstance(platforms, list) or not platforms or not set(map(str, platforms)) <= set(PLATFORMS):
            raise RowError("platforms", f"Platforms must be a non-empty list of {PLATFORMS}.")
        if MOBILE_PLATFORMS & set(platforms):
            raise RowError("platforms", "Platforms ios and android need Falcon for Mobile.")
        _check_scope(row)
        _check_texts(row)
        if row.get("expiration") and (changed is None or "expiration" in changed):
            try:
                expires_at = _instant(row["expiration"])
            except (ValueError, TypeError, AttributeError):
                raise RowError("expiration", "Expiration must be an RFC 3339 date in UTC.") from None
            if expires_at <= self.clock.now():
                raise RowError("expiration", "Expiration must be in the future.")

    def _note(self, operation: str, indicators: list[Indicator], comment: str | None, query: dict[str, str]) -> None:
        self.audit.append(
            {
                "operation": operation,
                "ids": [i["id"] for i in indicators],
                "comment": comment,
                "retrodetects": query.get("retrodetects") == "true",
            }
        )

    async def get(self, request: Request) -> Response:
        _query(request, "ids")
        self._expire()
        ids = _ids(request)
        known = [_shown(self.indicators[i]) for i in ids if i in self.indicators and self._visible(self.indicators[i])]
        return self._found(known, [i for i in ids if i not in {k["id"] for k in known}])

    async def search(self, request: Request) -> Response:
        page, pagination = self._page(request)
        return self._answer(200, [i["id"] for i in page], pagination=pagination)

    async def combined(self, request: Request) -> Response:
        page, pagination = self._page(request)
        return self._answer(200, [_shown(i) for i in page], pagination=pagination)

    async def device_count(self, request: Request) -> Response:
        query = _query(request, "type", "value")
        try:
            _one_of(query, "type", TYPES)
            _check_value(query)
        except RowError as problem:
            raise Refused(400, problem.message) from None
        count = self.devices.get(_identity(query["type"], query["value"]), 0)
        key = f"{query['type']}:{query['value']}"
        resource = {"id": key, **query, "limit_exceeded": False, "device_count": count}
        return self._answer(200, [resource])

    def _vocabulary(self, values: list[str]) -> Handler:
        async def handler(request: Request) -> Response:
            query = _query(request, "limit", "offset")
            limit = _whole(query, "limit", DEFAULT_PER_PAGE, 1, MOST_PER_PAGE)
            offset = _whole(query, "offset", 0, 0, DEEPEST_OFFSET)
            pagination = {"limit": limit, "offset": offset, "total": len(values)}
            return self._answer(200, values[offset : offset + limit], pagination=pagination)

        return handler

    async def nowhere(self, request: Request) -> Response:
        raise Refused(404, "404: Page Not Found")

    def _page(self, request: Request) -> tuple[list[Indicator], dict[str, Any]]:
        query = _query(request, "filter", "limit", "offset", "after", "sort", "from_parent")
        if "offset" in query and "after" in query:
            raise Refused(400, "offset and after are mutually exclusive")
        limit = _whole(query, "limit", DEFAULT_PER_PAGE, 1, MOST_PER_PAGE)
        offset = _whole(query, "offset", 0, 0, DEEPEST_OFFSET)
        if "offset" in query and offset + limit > DEEPEST_OFFSET:
            raise Refused(400, f"offset + limit must not exceed {DEEPEST_OFFSET}; use after")
        matches = parse_fql(query["filter"]) if query.get("filter") else lambda _: True
        key, descending = _order(query.get("sort"))
        found = sorted((i for i in self._living() if matches(i)), key=key, reverse=descending)
        if query.get("from_parent") == "true":
            found = []
        pagination: dict[str, Any] = {"limit": limit, "total": len(found)}
        if "offset" in query:
            return found[offset : offset + limit], pagination | {"offset": offset}
        if query.get("after"):
            # The token names the last record shown, so that deleting while paging skips nothing.
            last = _decode_after(query["after"])
            found = [i for i in found if ([*key(i)] < last if descending else [*key(i)] > last)]
        page = found[:limit]
        if len(found) > limit:
            pagination["after"] = _encode_after([*key(page[-1])])
        return page, pagination

    def _living(self) -> list[Indicator]:
        self._expire()
        return [i for i in self.indicators.values() if not i["deleted"] and self._visible(i)]

    def _visible(self, indicator: Indicator) -> bool:
        return "_available_at" not in indicator or parse_instant(indicator["_available_at"]) <= self.clock.now()

    def _holder(self, kind: str, value: str, *, hidden_too: bool = False) -> Indicator | None:
        identity = _identity(kind, value)
        known = self.indicators.values() if hidden_too else self._living()
        return next((i for i in known if not i["deleted"] and _identity(i["type"], i["value"]) == identity), None)

    def _expire(self) -> None:
        now = self.clock.now()
        for indicator in self.indicators.values():
            ends = indicator.get("expiration")
            if ends and not indicator["expired"] and parse_instant(ends) <= now:
                indicator.update(expired=True, action="no_action")

    def _now(self) -> str:
        """Nanoseconds, of which the clock knows the microseconds; the rest tells records apart."""
        return f"{self.clock.now():%Y-%m-%dT%H:%M:%S.%f}{len(self.audit) % 1000:03d}Z"

    def _found(self, resources: list[Any], missing: list[str]) -> Response:
        errors = [_error(404, "The indicator was not found.") | {"id": i} for i in missing]
        if missing and not resources:
            return self._answer(404, [], errors=errors)
        return self._answer(200, resources, errors=errors or None, total=len(resources))

    @staticmethod
    def _answer(
        status: int,
        resources: list[Any],
        *,
        errors: list[dict[str, Any]] | None = None,
        total: int | None = None,
        pagination: dict[str, Any] | None = None,
    ) -> Response:
        meta: dict[str, Any] = {"query_time": 0.012, "powered_by": "ioc-manager", "trace_id": str(uuid.uuid4())}
        if total is not None:
            pagination = {"limit": 0, "total": total}
        if pagination is not None:
            meta["pagination"] = pagination
        document = {"meta": meta, "errors": errors, "resources": resources}
        return Answer(document, status, headers={"X-Cs-Traceid": meta["trace_id"]})


def _error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def _row_message(number: int, row: Any, problem: RowError) -> dict[str, Any]:
    members = row if isinstance(row, dict) else {}
    return {
        "row": number,
        "type": members.get("type", ""),
        "value": members.get("value", ""),
        "field_name": problem.field_name,
        "message_type": "error",
        "message": problem.message,
    }


def _shown(indicator: Indicator) -> Indicator:
    return {k: v for k, v in indicator.items() if not k.startswith("_")}


def _identity(kind: str, value: str) -> str:
    if kind == "ipv6":
        value = str(ipaddress.IPv6Address(value))
    return f"{kind}:{value.lower()}"


def _query(request: Request, *names: str) -> dict[str, str]:
    query = dict(request.query_params)
    for name in query:
        if name not in names:
            raise Refused(400, f"Unknown query parameter: '{name}'")
    for name in ("retrodetects", "ignore_warnings", "from_parent"):
        if name in query:
            query[name] = query[name].lower()  # falconpy sends Python's True
            if query[name] not in ("true", "false"):
                raise Refused(400, f"{name} must be a boolean")
    return query


def _ids(request: Request) -> list[str]:
    ids = request.query_params.getlist("ids")
    if not ids:
        raise Refused(400, "ids is required")
    return ids


def _whole(query: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise Refused(400, f"{name} must be an integer between {low} and {high}")
    return int(text)


def _body(content: bytes, members: set[str]) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        raise Refused(400, "The body is not valid JSON") from None
    if not isinstance(body, dict) or set(body) - members:
        raise Refused(400, f"The body must be an object with {sorted(members)}")
    if not isinstance(body.get("bulk_update", {}), dict) or not isinstance(body.get("comment", ""), str):
        raise Refused(400, "bulk_update must be an object and comment a string")
    return body


def _rows(body: dict[str, Any]) -> list[Any]:
    rows = body.get("indicators")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_PER_REQUEST:
        raise Refused(400, f"indicators must be a list of 1 to {MOST_PER_REQUEST} indicators")
    return rows


def _one_of(row: dict[str, Any], name: str, values: list[str]) -> None:
    if row.get(name) not in values:
        raise RowError(name, f"Invalid {name}: must be one of {values}.")


def _check_value(row: dict[str, Any]) -> None:
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


def _check_scope(row: Indicator) -> None:
    everywhere, groups = row.get("applied_globally", False), row.get("host_groups")
    if not isinstance(everywhere, bool):
        raise RowError("applied_globally", "applied_globally must be a boolean.")
    if groups is not None and (
        not isinstance(groups, list) or not all(isinstance(g, str) and re.fullmatch("[0-9a-f]{32}", g) for g in groups)
    ):
        raise RowError("host_groups", "host_groups must be a list of host group ids.")
    if everywhere == bool(groups):
        raise RowError("applied_globally", "Exactly one of applied_globally and host_groups is required.")


def _check_texts(row: Indicator) -> None:
    for name, longest in (("source", LONGEST_SOURCE), ("description", LONGEST_DESCRIPTION)):
        if name in row and not (isinstance(row[name], str) and len(row[name]) <= longest):
            raise RowError(name, f"{name} must be a string of at most {longest} characters.")
    tags = row.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(t, str) for t in tags):
        raise RowError("tags", "tags must be a list of strings.")
    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict) or (metadata.get("filename") and row["type"] not in HASHES):
        raise RowError("metadata", "metadata.filename applies to hashes only.")


def _instant(text: str) -> datetime:
    """RFC 3339 in UTC, or a date."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d+)?Z)?", text):
        raise ValueError(text)
    return parse_instant(re.sub(r"(\.\d{6})\d+", r"\1", text))


def _rfc3339(text: str) -> str:
    return _instant(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _order(sort: str | None) -> tuple[Callable[[Indicator], tuple[str | int, int]], bool]:
    """``field``, ``field|desc`` or ``field.asc``; without one, in the order of creation."""
    if not sort:
        return lambda i: (0, i["_number"]), False
    match = re.fullmatch(r"([\w.]+?)(?:[.|](asc|desc))?", sort)
    if not match or match[1] not in FILTER_FIELDS:
        raise Refused(400, f"Invalid sort: '{sort}'")
    name = match[1]

    def key(indicator: Indicator) -> tuple[str | int, int]:
        value = _member(indicator, name)
        return (value if isinstance(value, int) else str(value or "")), indicator["_number"]

    return key, match[2] == "desc"


def _encode_after(last: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()


def _decode_after(token: str) -> list[Any]:
    try:
        value, number = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise Refused(400, "Invalid after") from None
    return [value, number]


_TOKEN = re.compile(
    r"""\s*(?:(?P<field>[a-z][\w.]*):(?P<op><=|>=|<|>)?|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    r"""|(?P<bare>true|false|\d+)|(?P<mark>[\[\],+]))"""
)


def parse_fql(text: str) -> Filter:
    """
    A subset of Falcon Query Language: ``field:'value'``, ``field:['a','b']``, ``field:<='value'`` (also ``<``,
    ``>``, ``>=``; dates and severity_number only), ``+`` for and, ``,`` for or (binding less tightly).

    :raises Refused: 400 for everything else
    """
    tokens, position = [], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise Refused(400, f"Invalid filter at position {position}")
        tokens.append(match)
        position = match.end()
    groups: list[list[Filter]] = [[]]
    while True:
        groups[-1].append(_fql_term(tokens))
        if not tokens:
            return lambda indicator: any(all(term(indicator) for term in group) for group in groups)
        mark = tokens.pop(0)["mark"]
        if mark == ",":
            groups.append([])
        elif mark != "+":
            raise Refused(400, "Invalid filter: expected + or ,")


def _fql_term(tokens: list[re.Match[str]]) -> Filter:
    if not tokens or tokens[0]["field"] not in FILTER_FIELDS:
        raise Refused(400, "Invalid filter: expected a field that can be filtered on")
    head = tokens.pop(0)
    name, operator = head["field"], head["op"]
    values = []
    if tokens and tokens[0]["mark"] == "[":
        tokens.pop(0)
        values.append(_fql_value(tokens))
        while tokens and tokens[0]["mark"] == ",":
            tokens.pop(0)
            values.append(_fql_value(tokens))
        if not tokens or tokens.pop(0)["mark"] != "]" or operator:
            raise Refused(400, "Invalid filter: a list must be closed and takes no operator")
    else:
        values.append(_fql_value(tokens))
    wanted = [_comparable(name, v) for v in values]
    if operator is None:
        return lambda indicator: _comparable(name, _member(indicator, name)) in wanted
    if name not in DATE_FIELDS | {"severity_number"}:
        raise Refused(400, f"Invalid filter: {name} cannot be compared with {operator}")
    compare = {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }[operator]

    def term(indicator: Indicator) -> bool:
        value = _comparable(name, _member(indicator, name))
        return value is not None and compare(value, wanted[0])

    return term


def _fql_value(tokens: list[re.Match[str]]) -> str:
    token = tokens.pop(0) if tokens else None
    if token is None or not (token["text"] or token["bare"]):
        raise Refused(400, "Invalid filter: expected a quoted value")
    return token["bare"] or re.sub(r"\\(.)", r"\1", token["text"][1:-1])


def _member(indicator: Indicator, name: str) -> Any:
    if name == "severity_number":
        return SEVERITY_NUMBERS.get(indicator.get("severity", ""), 0)
    if name == "metadata.filename.raw":
        return indicator.get("metadata", {}).get("filename")
    return indicator.get(name)


def _comparable(name: str, value: Any) -> Any:
    """A stored member and a filter's text in the same form."""
    if value is None or value == "":
        return None
    try:
        if name in DATE_FIELDS:
            return _instant(value)
        if name == "severity_number":
            return int(value)
    except ValueError:
        raise Refused(400, f"Invalid filter: bad value for {name}") from None
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).lower() if name == "value" else str(value)
