"""CrowdStrike Falcon: OAuth2 tokens and IOC Management (custom indicators).

Imitates what the endpoint tables of CrowdStrike's falconpy 1.6.6 and the models of its gofalcon say
(https://github.com/CrowdStrike/falconpy, https://github.com/CrowdStrike/gofalcon); the vendor's own swagger is
behind a login. Paths: ``/oauth2/token``, ``/oauth2/revoke``; under ``/iocs``: ``entities/indicators/v1`` (POST, PATCH,
DELETE, GET), ``queries/indicators/v1``, ``combined/indicator/v1`` (singular), ``queries/{actions,ioc-types,platforms,
severities}/v1`` and ``aggregates/indicators/device-count/v1``.

What matters to a client: a token answers 201 and lives 1799 s; a good write has ``errors: null``; a bad row makes
the whole request fail with 400, and the reason stands in ``resources``, not in ``errors``; ``prevent`` and ``allow``
are for hashes; an indicator made without an action does nothing (``no_action``, severity empty); an expired indicator
stays, with ``no_action`` and ``expired: true``; a search that found anything gives ``after`` on its last page too, so
that who reads until there is none never ends; ``X-Ratelimit-Remaining`` counts a sliding minute, and 429 carries
``X-RateLimit-RetryAfter`` as Unix seconds. Recorded: OpenCTI-Platform/connectors
``stream/crowdstrike-endpoint-security``, SEKOIA-IO/automation-library, TheHive-Project/Cortex-Analyzers,
demisto/content ``CrowdStrikeFalcon``.

INFERRED: that parameters and members that the service does not know are ignored (those that it sets itself are: OpenCTI
repeats ``type`` and ``value`` in every update). Pages of at most 500: falconpy says so, PSFalcon allows 2,000.

Seed: ``{"indicators": [{"type": "ipv4", "value": "198.51.100.7", ...}], "devices": {"ipv4:198.51.100.7": 3}}``. An
indicator takes any member that the vendor returns; what is missing is filled in. ``_available_at`` hides it until
the clock passes that time. ``devices`` is how many hosts have seen an indicator.

Knobs: ``client_id``, ``client_secret``; ``requests_per_minute``; ``read_only`` (the client lacks the write scope:
403); ``hash_only_prevent`` (a tenant with Firewall Management may differ); ``cs_region`` (sends ``X-Cs-Region`` with
every answer, as the cloud does: falconpy then leaves for the real cloud, so it is off unless a test is about that; see
``HEADER_NAMES``).

Not imitated: MSSP (``member_cid`` is refused, ``from_parent=true`` finds nothing), the firewall API, devices and
processes that an indicator ran on, aggregates, reports, ``sdmf``, retrodetects (only noted in the audit log),
warnings (so ``ignore_warnings`` changes nothing), full FQL: no ``~``, ``!``, ``*`` or parentheses.
"""

from __future__ import annotations

import base64
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from include.simulators.crowdstrike_falcon.answers import (
    ACTIONS,
    DEEPEST_OFFSET,
    DEFAULT_PER_PAGE,
    INVALID_ROWS,
    INVALID_TOKEN,
    MOST_PER_PAGE,
    NOT_ALLOWED,
    PLATFORMS,
    RATE_LIMITED,
    SEVERITIES,
    TYPES,
    Answer,
    Indicator,
    Refused,
    RowError,
    body_of,
    changed_members,
    check_value,
    error_row,
    identity_of,
    ids_of,
    new_row,
    one_of,
    query_of,
    row_message,
    rows_of,
    shown,
    whole,
)
from include.simulators.crowdstrike_falcon.fql import decode_after, encode_after, order, parse_fql
from include.simulators.crowdstrike_falcon.state import IndicatorState
from include.simulators.kit import Clock

TOKEN_SECONDS = 1799
REQUESTS_PER_MINUTE = 6000
Handler = Callable[[Request], Awaitable[Response]]


class CrowdStrikeFalconSimulator(IndicatorState):
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

    def error(self, status: int, detail: str | None = None) -> Response:
        messages = {401: INVALID_TOKEN, 403: NOT_ALLOWED, 429: RATE_LIMITED}
        answer = self._answer(status, [], errors=[error_row(status, detail or messages.get(status, "Internal error"))])
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
            if self.knobs["cs_region"]:
                answer.headers["X-Cs-Region"] = self.knobs["cs_region"]
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
        return Answer({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "bearer"}, 201)

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
        query = query_of(request)
        body = body_of(await request.body())
        rows = [new_row(row) for row in rows_of(body)]
        problems, seen = [], set()
        for number, row in enumerate(rows, start=1):
            try:
                self._check(row)
                identity = identity_of(row["type"], row["value"])
                if identity in seen or self._holder(row["type"], row["value"]):
                    raise RowError("value", f"Duplicate type: '{row['type']}' and value: '{row['value']}' combination.")
                seen.add(identity)
            except RowError as problem:
                problems.append(row_message(number, row, problem))
        if problems:
            return self._answer(400, problems, errors=[error_row(400, INVALID_ROWS)])
        created = [self._store(row) for row in rows]
        self._note("create", created, body.get("comment"), query)
        return self._answer(201, [shown(i) for i in created], total=len(created))

    async def update(self, request: Request) -> Response:
        query = query_of(request)
        body = body_of(await request.body())
        bulk = body.get("bulk_update") or {}  # gofalcon requires both members, and sends one of them empty
        if bool(body.get("indicators")) == bool(bulk):
            raise Refused(400, "either indicators or bulk_update is required")
        if bulk:
            changes = dict(bulk)
            matches = parse_fql(changes.pop("filter", ""))
            rows = [{"id": i["id"], **changes} for i in self._living() if matches(i)]
        else:
            rows = rows_of(body)
        problems, merged = [], []
        for number, row in enumerate(rows, start=1):
            try:
                known = self.indicators.get(row.get("id", "")) if isinstance(row, dict) else None
                if known is None or known["deleted"]:
                    raise RowError("id", "The indicator was not found.")
                merged.append(self._merge(known, changed_members(known, row)))
            except RowError as problem:
                problems.append(row_message(number, row, problem))
        if problems:
            return self._answer(400, problems, errors=[error_row(400, INVALID_ROWS)])
        for indicator in merged:
            self.indicators[indicator["id"]] = indicator
        self._note("update", merged, body.get("comment"), query)
        return self._answer(200, [shown(i) for i in merged], total=len(merged))

    async def delete(self, request: Request) -> Response:
        query = query_of(request)
        if query.get("filter"):  # wins over ids
            doomed, missing = [i for i in self._living() if parse_fql(query["filter"])(i)], []
            if query.get("from_parent") == "true":
                doomed = []
        else:
            ids = ids_of(request)
            doomed = [i for i in self._living() if i["id"] in ids]
            missing = [i for i in ids if i not in {d["id"] for d in doomed}]
        for indicator in doomed:
            indicator.update(deleted=True, modified_on=self._now(), modified_by=self.knobs["client_id"])
        self._note("delete", doomed, query.get("comment"), {})
        return self._found([i["id"] for i in doomed], missing)

    async def get(self, request: Request) -> Response:
        self._expire()
        ids = ids_of(request)
        known = [shown(self.indicators[i]) for i in ids if i in self.indicators and self._visible(self.indicators[i])]
        return self._found(known, [i for i in ids if i not in {k["id"] for k in known}])

    async def search(self, request: Request) -> Response:
        page, pagination = self._page(request)
        return self._answer(200, [i["id"] for i in page], pagination=pagination)

    async def combined(self, request: Request) -> Response:
        page, pagination = self._page(request)
        return self._answer(200, [shown(i) for i in page], pagination=pagination)

    async def device_count(self, request: Request) -> Response:
        query = {name: value for name, value in query_of(request).items() if name in ("type", "value")}
        try:
            one_of(query, "type", TYPES)
            check_value(query)
        except RowError as problem:
            raise Refused(400, problem.message) from None
        count = self.devices.get(identity_of(query["type"], query["value"]), 0)
        key = f"{query['type']}:{query['value']}"
        resource = {"id": key, **query, "limit_exceeded": False, "device_count": count}
        return self._answer(200, [resource])

    def _vocabulary(self, values: list[str]) -> Handler:
        async def handler(request: Request) -> Response:
            query = query_of(request)
            limit = whole(query, "limit", DEFAULT_PER_PAGE, 1, MOST_PER_PAGE)
            offset = whole(query, "offset", 0, 0, DEEPEST_OFFSET)
            pagination = {"limit": limit, "offset": offset, "total": len(values)}
            return self._answer(200, values[offset : offset + limit], pagination=pagination)

        return handler

    async def nowhere(self, request: Request) -> Response:
        raise Refused(404, "404: Page Not Found")

    def _page(self, request: Request) -> tuple[list[Indicator], dict[str, Any]]:
        query = query_of(request)
        if "offset" in query and "after" in query:
            raise Refused(400, "offset and after are mutually exclusive")
        limit = whole(query, "limit", DEFAULT_PER_PAGE, 1, MOST_PER_PAGE)
        offset = whole(query, "offset", 0, 0, DEEPEST_OFFSET)
        if "offset" in query and offset + limit > DEEPEST_OFFSET:
            raise Refused(400, f"offset + limit must not exceed {DEEPEST_OFFSET}; use after")
        matches = parse_fql(query["filter"]) if query.get("filter") else lambda _: True
        key, descending = order(query.get("sort"))
        found = sorted((i for i in self._living() if matches(i)), key=key, reverse=descending)
        if query.get("from_parent") == "true":
            found = []
        pagination: dict[str, Any] = {"limit": limit, "total": len(found)}
        if "offset" in query:
            return found[offset : offset + limit], pagination | {"offset": offset}  # INFERRED: the one asked for
        if query.get("after"):
            # The token names the last record shown, so that deleting while paging skips nothing.
            last = decode_after(query["after"])
            found = [i for i in found if ([*key(i)] < last if descending else [*key(i)] > last)]
        page = found[:limit]
        pagination["offset"] = len(page)
        if page:
            pagination["after"] = encode_after([*key(page[-1])])
        return page, pagination

    def _found(self, resources: list[Any], missing: list[str]) -> Response:
        errors = [error_row(404, "The indicator was not found.") | {"id": i} for i in missing]
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
