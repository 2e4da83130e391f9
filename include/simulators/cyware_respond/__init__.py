"""Cyware Respond (CFTR) Open API, as a tenant: incidents, comments, threat intel (IOCs), actions and their links.

Imitated from the vendor's public API reference (https://cftrapi.cyware.com, requests only: it shows no answer and
no error body), https://techdocs.cyware.com/en/299671-439928-configure-open-api.html and the product pages beside it.
Base path ``/cftrapi/openapi``. Authentication is ``AccessID``, ``Expires`` and ``Signature`` in the query string,
where Signature is base64(HMAC-SHA1(secret, f"{access_id}\\n{expires}")).

Inferred, because no body is documented: **every answer's shape**, the 400/401/404/405/429 bodies (those of Django
REST Framework, which the trailing slashes, ``__gte`` and ``non_field_error`` suggest), newest-first order, pairwise
linking by the flat call, what ``comment_type`` does, paused and merged rules. They stand in the constants below or
are knobs, so that a real tenant's difference is one change here.

Seed (each key optional; a second seed adds)::

    {"form": {...},                      # laid over the tenant form, as the knob is
     "incidents": [{"title": ..., "description": ..., "status": "open", "level": "High", "created": ISO 8601,
                    ...any form field by name, "unique_id", "readable_id", "is_paused": bool,
                    "_iocs": {"ioc_ip": ["203.0.113.10"]},   # created and linked to this incident
                    "_comments": ["<p>..</p>"], "_available_at": ISO 8601 (invisible before)}],
     "iocs": [{"ioc_type": "ioc_ip", "value": ..., "status": "none", "tlp": "WHITE", "_available_at": ...}]}

``snapshot()``: incidents (full, oldest first), comments {incident unique_id: [...], oldest first}, iocs,
ioc_comments, links ([{"pair": [[identifier, unique_id], [identifier, unique_id]], "posted": n}]), actions, labels.

Knobs (``settings`` has the defaults): ``access_id``, ``secret_key``, ``bearer_token`` (None: signature only),
``max_ttl`` seconds that Expires may lie ahead, ``clock_skew_seconds`` of the server, ``auth_status`` 401 or 403,
``rate_limit`` per ``rate_window_seconds`` with or without ``retry_after_header``, ``error_style`` drf or
orchestrate, ``envelope`` top or link, ``next_link`` False leaves next/previous null, ``past_end`` 404 or "empty" for
a page after the last, ``page_size``, ``max_page_size``, ``unknown_query`` refuse or ignore, ``create_status``,
``form``, ``labels_put`` replace or merge, ``comment_type_makes_note``, ``close_needs_closed_actions``,
``merged_read_only``, ``bulk_create_existing`` accept or refuse, ``bulk_create_answer`` all, new (existing values
are left out) or none (no ids), ``advanced_link_from_incident``, ``ioc_component`` (the name under which an IOC's
connections are read). The form maps a field to its allowed values; also ``required`` (list), ``custom_fields``
{key: "text" | "words" | "instant" | "address" | [allowed values]}, ``action`` {same, for actions}, ``ioc_status``.
Configuring a form rebuilds labels, sources, groups, users, units and locations from it.

POST or PUT without the trailing slash answers 500 with Django's APPEND_SLASH text (production would redirect and
lose the body: failing loudly is the useful imitation); GET is redirected, as Django does.

What it does NOT imitate: users' permissions and protected incidents (the one credential sees everything), linear
workflows and mandatory phase fields, reopening limits, HTML sanitising, merging and pausing (UI functions: seed
them), file upload, recommended users, time tracking, forms, rules, activity and request logs, licence, PUT of
settings objects, modules other than incident, action and IOC (their ids never exist), credential expiry dates.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import ipaddress
import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any
from uuid import UUID

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.datastructures import URL

from include.simulators.kit import Clock, Simulator, parse_instant

Record = dict[str, Any]
Node = tuple[str, str]  # component identifier, unique_id

BASE = "/cftrapi/openapi"
ANYWHERE = "/cftrapi/{rest:path}"
AUTH_QUERY = frozenset({"AccessID", "Expires", "Signature"})
PAGING = frozenset({"page", "page_size"})
BY_NAME = "readable_type"

#: Field -> kind. "one x" and "many x" refer to an object of registry x, by UUID or, with ?values=readable_type, by
#: name. ``units`` is one UUID in the first mode and an array of names in the second, as the reference has it.
INCIDENT_FIELDS = {
    "title": "text",
    "description": "text",
    "status": "text",
    "level": "text",
    "ie_incident_type": "text",
    "phase": "text",
    "detection_date": "instant",
    "incident_date": "instant",
    "sources": "one sources",
    "assigned_group": "one assigned_group",
    "assigned_to": "one assigned_to",
    "business_units_impacted": "units",
    "locations_impacted": "many locations_impacted",
    "applicable_compliance": "words",
    "business_impact": "words",
    "kill_chain_phase": "text",
    "attack_vector": "text",
    "source_ip": "address",
    "destination_ip": "address",
    "ie_customer_notification_required": "text",
    "labels": "many labels",
    "is_protected": "flag",
}
ACTION_FIELDS = {
    "title": "text",
    "description": "text",
    "case_description": "text",
    "exception_details": "text",
    "assigned_group": "one assigned_group",
    "assigned_to": "one assigned_to",
    "status": "text",
    "priority": "text",
    "type": "text",
    "labels": "many labels",
}
#: Registry -> (settings path, the key that is its name, the other keys of its create body). Inferred: ``name``.
REGISTRIES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "labels": ("utils/label", "title", ("color_code", "component_identifier", "description")),
    "business_units_impacted": ("utils/business-unit", "title", ("description",)),
    "sources": ("utils/source", "value", ("source_type",)),
    "locations_impacted": ("utils/location", "title", ("city", "state", "country", "pincode", "site")),
    "assigned_to": ("rest-auth/user", "email", ()),
    "assigned_group": ("rest-auth/permission/group", "name", ()),
}
#: The reference shows no way to create these two.
READ_ONLY_REGISTRIES = frozenset({"assigned_to", "assigned_group"})

#: The vendor leaves options and mandatory fields to each tenant. Required: the set a careful caller sends (inferred).
DEFAULT_FORM: dict[str, Any] = {
    "required": [
        "title",
        "description",
        "status",
        "level",
        "ie_incident_type",
        "sources",
        "assigned_group",
        "detection_date",
    ],
    "status": ["open", "closed", "untriaged"],  # merged is a status too, but only the UI merges
    "level": ["Low", "Medium", "High", "Critical"],
    "ie_incident_type": ["API Attack", "Malware", "Phishing", "Hacking", "APT"],
    "phase": ["Preparation", "Detection Analysis", "Containment", "Eradication Recovery"],
    "ie_customer_notification_required": ["Yes", "No"],
    "sources": ["Akamai API Security", "Akamai SIA", "Email"],
    "labels": ["auto-onboarded", "akamai-api-security", "akamai-sia", "blocked", "block-pending"],
    "assigned_group": ["SOC L1", "CFTR Admin"],
    "assigned_to": ["analyst@soc.example", "airflow-bot@soc.example"],
    "business_units_impacted": ["E-Commerce"],
    "locations_impacted": ["Bengaluru"],
    "custom_fields": {},
    "action": {
        "required": ["title"],
        "status": ["open", "closed"],
        "priority": ["Very Low", "Low", "Medium", "High", "Very High"],
        "type": ["Mitigation"],
    },
    "ioc_status": ["none", "clean", "blocked", "malicious", "false_positive", "whitelisted"],
}
COMMENT_TYPES = ("handoff", "closure")
FROZEN_WHILE_PAUSED = ("assigned_to", "assigned_group", "is_protected", "phase", "status")

IOC_TYPES = {
    "ioc_ip": "IP",
    "ioc_domain": "Domain",
    "ioc_url": "URL",
    "ioc_email": "Email",
    "ioc_MD5": "MD5",
    "ioc_SHA1": "SHA1",
    "ioc_SHA256": "SHA256",
}
TLP = ("RED", "AMBER", "GREEN", "WHITE")
#: Keys of the flat link call. ioc_url, ioc_MD5 and ioc_SHA1 are inferred; the others are documented.
LINK_KEYS = frozenset(IOC_TYPES) | {
    "incident",
    "vulnerability",
    "device",
    "campaign",
    "enhancement",
    "malware",
    "action",
    "pir",
    "general-user",
    "asset-software",
}
#: Keys of ``link_to`` in the advanced call. No IOC is among them.
ADVANCED_LINK_KEYS = frozenset(
    {
        "action",
        "application",
        "asset-software",
        "campaign",
        "device",
        "enhancement",
        "incident",
        "malware",
        "threat-briefing",
        "vulnerability",
    }
)
#: What a row of a list holds (inferred; the one known client fetches the detail because rows are poorer).
INCIDENT_ROW = ("unique_id", "readable_id", "title", "status", "level", "labels", "created", "modified")

DEFAULT_DETAIL = {
    400: "Invalid input.",
    401: "Incorrect authentication credentials.",
    403: "You do not have permission to perform this action.",
    404: "Not found.",
    429: "Request was throttled.",
    500: "A server error occurred.",
}
HASH_LENGTH = {"ioc_MD5": 32, "ioc_SHA1": 40, "ioc_SHA256": 64}
HOST_NAME = re.compile(r"(?i)^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$")


class Refused(Exception):
    """An answer other than success: status, body without the envelope of ``error_style``, headers."""

    def __init__(self, status: int, body: str | dict[str, Any] | None = None, **headers: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers


@dataclass(frozen=True)
class Call:
    """An authenticated request."""

    url: URL
    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def by_name(self) -> bool:
        return self.query.get("values") == BY_NAME


class CywareRespondSimulator(Simulator):
    """One Respond tenant with one Open API credential."""

    product = "cyware_respond"
    prefixes = ("/cftrapi",)
    settings = {
        "access_id": "sim-access",
        "secret_key": "sim-secret",
        "bearer_token": None,
        "max_ttl": 60,
        "clock_skew_seconds": 0,
        "auth_status": 401,
        "rate_limit": 6000,
        "rate_window_seconds": 900,
        "retry_after_header": True,
        "error_style": "drf",
        "envelope": "top",
        "next_link": True,
        "past_end": 404,
        "page_size": 10,
        "max_page_size": 100,
        "unknown_query": "refuse",
        "create_status": 201,
        "form": DEFAULT_FORM,
        "labels_put": "replace",
        "comment_type_makes_note": True,
        "close_needs_closed_actions": False,
        "merged_read_only": True,
        "bulk_create_existing": "accept",
        "bulk_create_answer": "all",
        "advanced_link_from_incident": True,
        "ioc_component": "ioc",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        serve = self._serve
        serve("GET", "/test-connectivity/", self._test_connectivity)

        serve("GET", "/v1/incident/", self._list_incidents, PAGING | {"created_date__gte", "created_date__lte"})
        serve("POST", "/v1/incident/", self._create_incident, {"values"})
        serve("GET", "/v1/incident/qb/extended/", self._list_incidents, PAGING)
        serve("GET", "/v1/incident/qb/extended/{any_id}/", self._get_incident)
        serve("GET", "/v1/incident/{unique_id}/", self._get_incident)
        serve("PUT", "/v1/incident/{unique_id}/", self._update_incident, {"values"})
        serve("GET", "/v1/comments/incident/{unique_id}/", self._list_comments, PAGING)
        serve("POST", "/v1/comments/incident/{unique_id}/", self._comment_incident)
        serve("GET", "/v1/comments/qb/extended/incident/{any_id}/", self._list_comments, PAGING)

        serve("POST", "/v1/connect-the-dots/link-components/", self._link)
        serve("POST", "/v1/connect-the-dots/advanced-link-components/", self._link_advanced)
        serve("GET", "/v1/{component}/{unique_id}/connect-the-dots/", self._connected)

        serve("GET", "/v1/ioc-module/ioc/", self._list_iocs, PAGING)
        serve("GET", "/v1/ioc-module/ioc-type/", self._list_ioc_types, PAGING)
        serve("POST", "/v1/ioc-module/ioc/bulk-create/", self._bulk_create_iocs)
        serve("GET", "/v1/ioc-module/ioc/{unique_id}/", self._get_ioc)
        serve("PUT", "/v1/ioc-module/ioc/{unique_id}/", self._update_ioc)
        serve("POST", "/v1/comments/ioc/{unique_id}/", self._comment_ioc)

        serve("GET", "/v1/action/", self._list_actions, PAGING)
        serve("POST", "/v1/action/", self._create_action, {"values"})
        serve("GET", "/v1/action/{unique_id}/", self._get_action)
        serve("PUT", "/v1/action/{unique_id}/", self._update_action, {"values"})
        serve("GET", "/v1/comments/action/{unique_id}/", self._list_action_comments, PAGING)

        serve("POST", "/v1/utils/advanced-search-per-key/{component}/", self._advanced_search, PAGING)
        for registry, (path, _, _) in REGISTRIES.items():
            serve("GET", f"/v1/{path}/", self._lister(registry), PAGING)
            if registry not in READ_ONLY_REGISTRIES:
                serve("POST", f"/v1/{path}/", self._creator(registry))
        self.router.add_api_route(
            ANYWHERE,
            self._elsewhere,
            methods=["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"],
            response_model=None,
        )

    def clear(self) -> None:
        self.incidents: dict[str, Record] = {}
        self.comments: dict[Node, list[Record]] = {}
        self.iocs: dict[str, Record] = {}
        self.actions: dict[str, Record] = {}
        self.links: dict[tuple[Node, Node], int] = {}
        self.registries: dict[str, dict[str, Record]] = {}
        self._made: dict[str, int] = {}
        self._spent: deque[float] = deque()
        self._build_registries()

    def configure(self, changes: dict[str, Any]) -> None:
        if "form" in changes:
            unknown = set(changes["form"]) - set(DEFAULT_FORM) - set(INCIDENT_FIELDS)
            if unknown:
                raise HTTPException(400, f"cyware_respond: the form has no {sorted(unknown)}")
            form = {**copy.deepcopy(DEFAULT_FORM), **changes["form"]}
            form["action"] = {**DEFAULT_FORM["action"], **form["action"]}
            changes = {**changes, "form": form}
        super().configure(changes)
        if "form" in changes:
            self._build_registries()

    def seed(self, data: dict[str, Any]) -> None:
        unknown = set(data) - {"form", "incidents", "iocs"}
        if unknown:
            raise HTTPException(400, f"cyware_respond: a seed has no {sorted(unknown)}")
        if "form" in data:
            self.configure({"form": data["form"]})
        try:
            for record in data.get("iocs", ()):
                self._seed_ioc(record)
            for record in data.get("incidents", ()):
                self._seed_incident(record)
        except Refused as refusal:
            raise HTTPException(400, f"cyware_respond: {refusal.body}") from refusal

    def snapshot(self) -> dict[str, Any]:
        def of(component: str) -> dict[str, list[Record]]:
            return {unique_id: notes for (kind, unique_id), notes in self.comments.items() if kind == component}

        return {
            "incidents": [public(i) for i in self.incidents.values()],
            "comments": of("incident"),
            "iocs": [public(i) for i in self.iocs.values()],
            "ioc_comments": of("ioc"),
            "links": [{"pair": [list(a), list(b)], "posted": n} for (a, b), n in self.links.items()],
            "actions": list(self.actions.values()),
            "labels": [label["title"] for label in self.registries["labels"].values()],
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        return self._refusal(Refused(status, detail))

    def _serve(
        self, method: str, path: str, handle: Callable[[Call], Response], query: Iterable[str] = frozenset()
    ) -> None:
        allowed = frozenset(query)

        async def endpoint(request: Request) -> Response:
            raw = await request.body() if method in ("POST", "PUT") else None
            return self._answer(request, raw, handle, allowed)

        self.router.add_api_route(BASE + path, endpoint, methods=[method], response_model=None)

    def _answer(
        self, request: Request, raw: bytes | None, handle: Callable[[Call], Response], allowed: frozenset[str]
    ) -> Response:
        try:
            self._authenticate(request)
            self._throttle()
            query = {k: v for k, v in request.query_params.items() if k not in AUTH_QUERY}
            unknown = sorted(set(query) - allowed)
            if unknown and self.knobs["unknown_query"] == "refuse":
                raise Refused(400, {name: ["Unknown query parameter."] for name in unknown})
            if query.get("values", BY_NAME) != BY_NAME:
                raise Refused(400, {"values": [f'"{query["values"]}" is not a valid choice.']})
            body = {} if raw is None else read_json(request, raw)
            return handle(Call(request.url, dict(request.path_params), query, body))
        except Refused as refusal:
            return self._refusal(refusal)

    async def _elsewhere(self, request: Request) -> Response:
        """Paths and methods that are not served. Like Django: the URL first, then the caller, then the method."""
        path = request.url.path
        methods = self._methods(path)
        if methods:
            refusal = Refused(405, f'Method "{request.method}" not allowed.', Allow=", ".join(sorted(methods)))
            return self._answer(request, None, lambda _: self._refusal(refusal), frozenset(request.query_params))
        if not path.endswith("/") and self._methods(path + "/"):
            if request.method in ("GET", "HEAD"):
                return Response(status_code=301, headers={"Location": str(request.url.replace(path=path + "/"))})
            return self.error(
                500,
                f"You called this URL via {request.method}, but the URL doesn't end in a slash and you have "
                f"APPEND_SLASH set. Django can't redirect to the slash URL while maintaining {request.method} data.",
            )
        return self.error(404)

    def _methods(self, path: str) -> set[str]:
        routes = [r for r in self.router.routes if isinstance(r, APIRoute) and r.path != ANYWHERE]
        return {method for route in routes if route.path_regex.match(path) for method in route.methods}

    def _authenticate(self, request: Request) -> None:
        def refuse(detail: str) -> Refused:
            return Refused(self.knobs["auth_status"], detail)

        token = request.headers.get("Authorization")
        if token is not None and self.knobs["bearer_token"] is not None:
            if not same(token, f"Bearer {self.knobs['bearer_token']}"):
                raise refuse("Invalid token.")
            return
        access_id, expires, signature = (request.query_params.get(k) for k in ("AccessID", "Expires", "Signature"))
        if access_id is None or expires is None or signature is None:
            raise refuse("Authentication credentials were not provided.")
        if not same(access_id, self.knobs["access_id"]):
            raise refuse("Invalid AccessID.")
        if not re.fullmatch(r"[0-9]{1,12}", expires):
            raise refuse("Expires must be the Unix time in seconds.")
        message = f"{access_id}\n{expires}".encode()
        digest = hmac.new(self.knobs["secret_key"].encode(), message, hashlib.sha1).digest()
        if not same(signature, base64.b64encode(digest).decode()):
            raise refuse("Invalid Signature.")
        left = int(expires) - self.clock.timestamp() - self.knobs["clock_skew_seconds"]
        if left < 0:
            raise refuse("Signature has expired.")
        if left > self.knobs["max_ttl"]:
            raise refuse("Expires is too far in the future.")

    def _throttle(self) -> None:
        """A sliding window over authenticated requests, as REST Framework's throttle counts."""
        now, window = self.clock.timestamp(), self.knobs["rate_window_seconds"]
        # A test may turn the clock back; what was spent "later" is then forgotten.
        self._spent = deque(t for t in self._spent if now - window < t <= now)
        if len(self._spent) < self.knobs["rate_limit"]:
            self._spent.append(now)
            return
        wait = math.ceil(window - (now - self._spent[0])) if self._spent else window
        headers = {"Retry-After": str(wait)} if self.knobs["retry_after_header"] else {}
        raise Refused(429, f"Request was throttled. Expected available in {wait} seconds.", **headers)

    def _refusal(self, refusal: Refused) -> Response:
        body = refusal.body or DEFAULT_DETAIL.get(refusal.status, "Error.")
        if self.knobs["error_style"] == "orchestrate":
            result = body if isinstance(body, dict) else {"non_field_error": body}
            document: dict[str, Any] = {"result": result, "status_code": str(refusal.status)}
        else:
            document = body if isinstance(body, dict) else {"detail": body}
        return JSONResponse(document, refusal.status, headers=refusal.headers)

    def _page(self, call: Call, rows: list[Record]) -> Response:
        size = min(positive(call.query.get("page_size")) or self.knobs["page_size"], self.knobs["max_page_size"])
        number = positive(call.query.get("page", "1"))
        pages = max(1, math.ceil(len(rows) / size))
        if number is None or (number > pages and self.knobs["past_end"] != "empty"):
            raise Refused(404, "Invalid page.")

        def link(to: int) -> str | None:
            # The caller's own signature stays in it, as REST Framework's links keep the whole query: a client that
            # follows it late gets a 401.
            if not (self.knobs["next_link"] and 1 <= to <= pages):
                return None
            return str(call.url.include_query_params(page=to))

        links = {"next": link(number + 1), "previous": link(number - 1)}
        found = {"count": len(rows), "results": rows[(number - 1) * size : number * size]}
        return JSONResponse({"link": links, **found} if self.knobs["envelope"] == "link" else {**links, **found})

    def _build_registries(self) -> None:
        self.registries = {registry: {} for registry in REGISTRIES}
        for registry in REGISTRIES:
            for name in self.knobs["form"][registry]:
                self._register(registry, {REGISTRIES[registry][1]: name})

    def _register(self, registry: str, values: dict[str, str]) -> Record:
        _, name_key, others = REGISTRIES[registry]
        unique_id = fixed_id(f"{registry}/{values[name_key]}")
        record: Record = {"unique_id": unique_id, **dict.fromkeys(others), **values}
        if registry == "assigned_to":
            record["username"] = values["email"].partition("@")[0]
        self.registries[registry][unique_id] = record
        return record

    def _refer(self, registry: str, value: Any, by_name: bool) -> str:
        """The name of the object that ``value`` refers to."""
        if not isinstance(value, str):
            raise ValueError("Not a valid string.")
        name_key = REGISTRIES[registry][1]
        objects = self.registries[registry]
        if by_name:
            if any(o[name_key] == value for o in objects.values()):
                return value
            raise ValueError(f"Object with {name_key}={value} does not exist.")
        if not is_uuid(value):
            raise ValueError(f"“{value}” is not a valid UUID.")
        if value not in objects:
            raise ValueError(f'Invalid pk "{value}" - object does not exist.')
        return str(objects[value][name_key])

    def _clean(self, kind: Any, value: Any, by_name: bool) -> Any:
        if value is None:
            raise ValueError("This field may not be null.")
        if isinstance(kind, list):
            return chosen(value, kind)
        if kind == "units":
            if by_name:
                return self._clean("many business_units_impacted", value, by_name)
            return [self._refer("business_units_impacted", value, by_name)]
        many, _, registry = kind.partition(" ")
        if registry and many == "one":
            return self._refer(registry, value, by_name)
        if kind == "words" or many == "many":
            if not isinstance(value, list):
                raise ValueError(f'Expected a list of items but got type "{type(value).__name__}".')
            return list(dict.fromkeys(self._refer(registry, v, by_name) if registry else text(v) for v in value))
        if kind == "flag":
            return chosen(value, ["true", "false"])
        return {"text": text, "instant": instant, "address": address}[kind](value)

    def _validated(
        self, body: dict[str, Any], fields: dict[str, str], form: dict[str, Any], by_name: bool, partial: bool
    ) -> Record:
        errors: dict[str, list[str]] = {}
        clean: Record = {}
        custom = form.get("custom_fields", {})
        for key, value in body.items():
            kind = fields.get(key) or custom.get(key)
            if kind is None:
                errors[key] = ["This field is not part of the form."]
                continue
            try:
                clean[key] = self._clean(kind, value, by_name)
                if key in form and key not in REGISTRIES:
                    options = form[key]
                    for option in clean[key] if isinstance(clean[key], list) else [clean[key]]:
                        chosen(option, options)
            except ValueError as problem:
                errors[key] = [str(problem)]
        if not partial:
            errors.update({key: ["This field is required."] for key in form["required"] if key not in body})
        if errors:
            raise Refused(400, errors)
        return clean

    def _test_connectivity(self, call: Call) -> Response:
        return JSONResponse({"message": "Connection successful."})

    def _list_incidents(self, call: Call) -> Response:
        bounds: dict[str, str] = {}
        for key in ("created_date__gte", "created_date__lte"):
            if key in call.query:
                if not re.fullmatch(r"[0-9]{1,11}", call.query[key]):
                    raise Refused(400, {key: ["Enter a number."]})
                bounds[key] = stamp(datetime.fromtimestamp(int(call.query[key]), UTC))
        rows = [
            {key: incident[key] for key in INCIDENT_ROW}
            for incident in self._newest_first(self.incidents)
            if bounds.get("created_date__gte", "") <= incident["created"] <= bounds.get("created_date__lte", "~")
        ]
        return self._page(call, rows)

    def _get_incident(self, call: Call) -> Response:
        return JSONResponse(public(self._incident(call)))

    def _create_incident(self, call: Call) -> Response:
        values = self._validated(call.body, INCIDENT_FIELDS, self.knobs["form"], call.by_name, partial=False)
        return JSONResponse(public(self._new_incident(values)), self.knobs["create_status"])

    def _new_incident(self, values: Record) -> Record:
        n = self._next("incident")
        now = stamp(self.clock.now())
        incident: Record = {
            "unique_id": fixed_id(f"incident/{n}"),
            "readable_id": f"INC{99 + n}",
            **dict.fromkeys(INCIDENT_FIELDS),
            "status": "open",
            "labels": [],
            "is_paused": False,
            "created": now,
            "modified": now,
            **values,
        }
        self.incidents[incident["unique_id"]] = incident
        return incident

    def _update_incident(self, call: Call) -> Response:
        incident = self._writable_incident(call)
        body = dict(call.body)
        comment_type = body.pop("comment_type", None)
        note = None
        if comment_type is not None:
            if comment_type not in COMMENT_TYPES:
                raise Refused(400, {"comment_type": [f'"{comment_type}" is not a valid choice.']})
            if "description" not in body:
                raise Refused(400, {"description": ["This field is required."]})
            if self.knobs["comment_type_makes_note"]:
                note = body.pop("description")
                if not isinstance(note, str) or not note.strip():
                    raise Refused(400, {"description": ["This field may not be blank."]})
        changes = self._validated(body, INCIDENT_FIELDS, self.knobs["form"], call.by_name, partial=True)
        if incident["is_paused"]:
            frozen = [key for key in FROZEN_WHILE_PAUSED if key in changes]
            if frozen:
                raise Refused(400, {key: ["The incident is paused."] for key in frozen})
        if changes.get("status") == "closed" and self.knobs["close_needs_closed_actions"]:
            self._refuse_open_actions(incident)
        if "labels" in changes and self.knobs["labels_put"] == "merge":
            changes["labels"] = list(dict.fromkeys([*incident["labels"], *changes["labels"]]))
        if changes:
            changes["is_paused"] = False  # working on the incident resumes it
        incident.update(changes, modified=stamp(self.clock.now()))
        if note is not None:
            self._add_comment(("incident", incident["unique_id"]), note, comment_type, [])
        return JSONResponse(public(incident))

    def _refuse_open_actions(self, incident: Record) -> None:
        nodes = self._neighbours(("incident", incident["unique_id"]))
        if any(kind == "action" and self.actions[uid]["status"] != "closed" for kind, uid in nodes):
            raise Refused(400, {"status": ["Close all linked actions before closing the incident."]})

    def _incident(self, call: Call) -> Record:
        """By the path's id. Only the advanced paths (``any_id``) take a readable id."""
        any_id = call.path.get("any_id")
        for incident in self.incidents.values():
            wanted = (incident["unique_id"], incident["readable_id"]) if any_id else (incident["unique_id"],)
            if (any_id or call.path["unique_id"]) in wanted and self._visible(incident):
                return incident
        raise Refused(404)

    def _writable_incident(self, call: Call) -> Record:
        incident = self._incident(call)
        if incident["status"] == "merged" and self.knobs["merged_read_only"]:
            raise Refused(400, "A merged incident cannot be modified.")
        return incident

    def _advanced_search(self, call: Call) -> Response:
        if call.path["component"] != "incident":
            raise Refused(404)
        criteria = dict(call.body)
        operator = criteria.pop("operator", "AND")
        how = criteria.pop("operator_search_type", "exact_match")
        if operator not in ("AND", "OR"):
            raise Refused(400, {"operator": [f'"{operator}" is not a valid choice.']})
        if how != "exact_match":
            raise Refused(400, {"operator_search_type": [f'"{how}" is not a valid choice.']})
        if not criteria:
            raise Refused(400, "At least one field is required.")
        known = {**INCIDENT_FIELDS, **self.knobs["form"]["custom_fields"]}
        errors = {key: ["This field is not part of the form."] for key in criteria if key not in known}
        for key, value in criteria.items():
            kind = str(known.get(key))
            registry = "business_units_impacted" if kind == "units" else kind.partition(" ")[2]
            try:
                criteria[key] = self._refer(registry, value, by_name=False) if registry else text(value)
            except ValueError as problem:
                errors.setdefault(key, [str(problem)])
        if errors:
            raise Refused(400, errors)

        def hit(incident: Record) -> bool:
            held = ((incident.get(key), value) for key, value in criteria.items())
            hits = [value in has if isinstance(has, list) else has == value for has, value in held]
            return all(hits) if operator == "AND" else any(hits)

        found = [incident for incident in self._newest_first(self.incidents) if hit(incident)]
        return self._page(call, [{key: incident[key] for key in INCIDENT_ROW} for incident in found])

    def _comment_incident(self, call: Call) -> Response:
        return self._comment(("incident", self._writable_incident(call)["unique_id"]), call)

    def _comment_ioc(self, call: Call) -> Response:
        return self._comment(("ioc", self._held(self.iocs, call)["unique_id"]), call)

    def _comment(self, node: Node, call: Call) -> Response:
        users = {u["username"] for u in self.registries["assigned_to"].values()}
        errors = {key: ["Unknown field."] for key in set(call.body) - {"description", "mentioned_users_usernames"}}
        mentioned = call.body.get("mentioned_users_usernames", [])
        if not isinstance(mentioned, list) or not all(isinstance(m, str) and m in users for m in mentioned):
            errors["mentioned_users_usernames"] = ["Expected a list of existing usernames."]
        description = call.body.get("description")
        if "description" not in call.body:
            errors["description"] = ["This field is required."]
        elif not isinstance(description, str) or not description.strip():
            errors["description"] = ["This field may not be blank."]
        if errors:
            raise Refused(400, errors)
        return JSONResponse(self._add_comment(node, description, "note", mentioned), self.knobs["create_status"])

    def _add_comment(self, node: Node, description: Any, comment_type: str, mentioned: list[str]) -> Record:
        comment = {
            "unique_id": fixed_id(f"comment/{self._next('comment')}"),
            "description": description,
            "comment_type": comment_type,
            "mentioned_users_usernames": mentioned,
            "created": stamp(self.clock.now()),
        }
        self.comments.setdefault(node, []).append(comment)
        return comment

    def _list_comments(self, call: Call) -> Response:
        return self._page(call, self.comments.get(("incident", self._incident(call)["unique_id"]), [])[::-1])

    def _list_action_comments(self, call: Call) -> Response:
        self._held(self.actions, call)
        return self._page(call, [])  # the reference has no way to write one

    def _link(self, call: Call) -> Response:
        nodes: list[Node] = []
        errors: dict[str, list[str]] = {}
        for identifier, ids in call.body.items():
            if identifier not in LINK_KEYS:
                errors[identifier] = ["Unknown component identifier."]
                continue
            nodes += self._nodes(identifier, ids, errors)
        if errors:
            raise Refused(400, errors)
        nodes = list(dict.fromkeys(nodes))
        if len(nodes) < 2:
            raise Refused(400, "At least two components are required.")
        self._connect(combinations(nodes, 2))
        return JSONResponse({"message": "Components connected successfully."})

    def _link_advanced(self, call: Call) -> Response:
        if set(call.body) != {"append"} or not isinstance(call.body["append"], list) or not call.body["append"]:
            raise Refused(400, {"append": ["Expected a list of link_from and link_to, and nothing else."]})
        pairs: list[tuple[Node, Node]] = []
        for entry in call.body["append"]:
            if not isinstance(entry, dict) or set(entry) != {"link_from", "link_to"}:
                raise Refused(400, {"append": ["Each item needs link_from and link_to, and nothing else."]})
            pairs += self._advanced_pairs(entry["link_from"], entry["link_to"])
        self._connect(pairs)
        return JSONResponse({"message": "Components connected successfully."})

    def _advanced_pairs(self, start: Any, ends: Any) -> list[tuple[Node, Node]]:
        allowed_from = ADVANCED_LINK_KEYS | {"threat-actor"}
        if not self.knobs["advanced_link_from_incident"]:
            allowed_from -= {"incident"}
        if not isinstance(start, dict) or len(start) != 1 or not set(start) <= allowed_from:
            raise Refused(400, {"link_from": ["Expected exactly one supported component."]})
        if not isinstance(ends, dict) or not ends or not set(ends) <= ADVANCED_LINK_KEYS:
            raise Refused(400, {"link_to": ["Expected supported components."]})
        errors: dict[str, list[str]] = {}
        [(identifier, unique_id)] = start.items()
        sources = self._nodes(identifier, [unique_id], errors)
        targets = [node for key, ids in ends.items() for node in self._nodes(key, ids, errors)]
        if not errors and (not targets or sources[0] in targets):
            errors["link_to"] = ["Expected at least one component other than link_from."]
        if errors:
            raise Refused(400, errors)
        return [(sources[0], target) for target in targets]

    def _nodes(self, identifier: str, ids: Any, errors: dict[str, list[str]]) -> list[Node]:
        if not isinstance(ids, list):
            errors[identifier] = [f'Expected a list of items but got type "{type(ids).__name__}".']
            return []
        for unique_id in ids:
            if not isinstance(unique_id, str) or not is_uuid(unique_id):
                errors[identifier] = [f"“{unique_id}” is not a valid UUID."]
            elif self._component((identifier, unique_id)) is None:
                errors[identifier] = [f'Invalid pk "{unique_id}" - object does not exist.']
        return [(identifier, unique_id) for unique_id in ids if isinstance(unique_id, str)]

    def _component(self, node: Node) -> Record | None:
        identifier, unique_id = node
        if identifier in IOC_TYPES:
            record = self.iocs.get(unique_id)
            record = record if record and record["ioc_type"] == identifier else None
        else:
            record = {"incident": self.incidents, "action": self.actions}.get(identifier, {}).get(unique_id)
        return record if record and self._visible(record) else None

    def _connect(self, pairs: Iterable[tuple[Node, Node]]) -> None:
        for a, b in pairs:
            pair = (min(a, b), max(a, b))
            self.links[pair] = self.links.get(pair, 0) + 1

    def _neighbours(self, node: Node) -> list[Node]:
        return [b if a == node else a for a, b in self.links if node in (a, b)]

    def _connected(self, call: Call) -> Response:
        component, unique_id = call.path["component"], call.path["unique_id"]
        if component == self.knobs["ioc_component"]:
            component = self._held(self.iocs, call)["ioc_type"]
        elif component not in ("incident", "action"):
            raise Refused(404)
        if self._component((component, unique_id)) is None:
            raise Refused(404)
        answer: dict[str, list[Record]] = {}
        for node in self._neighbours((component, unique_id)):
            record = self._component(node)
            if record is not None:
                shown = ("unique_id", "value") if node[0] in IOC_TYPES else ("unique_id", "readable_id", "title")
                answer.setdefault(node[0], []).append({key: record[key] for key in shown})
        return JSONResponse(answer)

    def _list_iocs(self, call: Call) -> Response:
        return self._page(call, [public(ioc) for ioc in self._newest_first(self.iocs)])

    def _list_ioc_types(self, call: Call) -> Response:
        return self._page(call, [{"identifier": key, "title": title} for key, title in IOC_TYPES.items()])

    def _get_ioc(self, call: Call) -> Response:
        return JSONResponse(public(self._held(self.iocs, call)))

    def _bulk_create_iocs(self, call: Call) -> Response:
        errors: dict[str, list[str]] = {}
        for ioc_type, values in call.body.items():
            if ioc_type not in IOC_TYPES:
                errors[ioc_type] = ["Unknown threat intel type."]
            elif not isinstance(values, list):
                errors[ioc_type] = [f'Expected a list of items but got type "{type(values).__name__}".']
            else:
                errors[ioc_type] = [
                    f"“{v}” is not a valid {IOC_TYPES[ioc_type]}." for v in values if not fits(ioc_type, v)
                ]
                if self.knobs["bulk_create_existing"] == "refuse":
                    held = [v for v in values if fits(ioc_type, v) and self._find_ioc(ioc_type, v)]
                    errors[ioc_type] += [f"“{v}” already exists." for v in held]
        errors = {key: problems for key, problems in errors.items() if problems}
        if errors:
            raise Refused(400, errors)
        answer: dict[str, list[Record]] = {}
        for ioc_type, values in call.body.items():
            for value in values:
                found = self._find_ioc(ioc_type, value)
                if found and (self.knobs["bulk_create_answer"] == "new" or found in answer.get(ioc_type, [])):
                    continue
                answer.setdefault(ioc_type, []).append(found or self._new_ioc(ioc_type, value))
        if self.knobs["bulk_create_answer"] == "none":
            return JSONResponse({"message": "Threat intel created successfully."}, self.knobs["create_status"])
        shown = {ioc_type: [public(ioc) for ioc in iocs] for ioc_type, iocs in answer.items()}
        return JSONResponse(shown, self.knobs["create_status"])

    def _find_ioc(self, ioc_type: str, value: str) -> Record | None:
        wanted = same_value(ioc_type, value)
        return next(
            (i for i in self.iocs.values() if i["ioc_type"] == ioc_type and same_value(ioc_type, i["value"]) == wanted),
            None,
        )

    def _new_ioc(self, ioc_type: str, value: str, **more: Any) -> Record:
        now = stamp(self.clock.now())
        ioc: Record = {
            "unique_id": fixed_id(f"ioc/{self._next('ioc')}"),
            "ioc_type": ioc_type,
            "value": value,
            "status": "none",
            "tlp": "WHITE",
            "created": now,
            "modified": now,
            **more,
        }
        self.iocs[ioc["unique_id"]] = ioc
        return ioc

    def _update_ioc(self, call: Call) -> Response:
        ioc = self._held(self.iocs, call)
        form = {"required": [], "status": self.knobs["form"]["ioc_status"], "tlp": list(TLP)}
        changes = self._validated(call.body, {"status": "text", "tlp": "text"}, form, call.by_name, partial=True)
        ioc.update(changes, modified=stamp(self.clock.now()))
        return JSONResponse(public(ioc))

    def _list_actions(self, call: Call) -> Response:
        return self._page(call, self._newest_first(self.actions))

    def _get_action(self, call: Call) -> Response:
        return JSONResponse(self._held(self.actions, call))

    def _create_action(self, call: Call) -> Response:
        values = self._validated(call.body, ACTION_FIELDS, self.knobs["form"]["action"], call.by_name, partial=False)
        n = self._next("action")
        now = stamp(self.clock.now())
        action: Record = {
            "unique_id": fixed_id(f"action/{n}"),
            "readable_id": f"ACT{99 + n}",
            **dict.fromkeys(ACTION_FIELDS),
            "status": "open",
            "labels": [],
            "created": now,
            "modified": now,
            **values,
        }
        self.actions[action["unique_id"]] = action
        return JSONResponse(action, self.knobs["create_status"])

    def _update_action(self, call: Call) -> Response:
        action = self._held(self.actions, call)
        changes = self._validated(call.body, ACTION_FIELDS, self.knobs["form"]["action"], call.by_name, partial=True)
        action.update(changes, modified=stamp(self.clock.now()))
        return JSONResponse(action)

    def _lister(self, registry: str) -> Callable[[Call], Response]:
        return lambda call: self._page(call, list(self.registries[registry].values()))

    def _creator(self, registry: str) -> Callable[[Call], Response]:
        _, name_key, others = REGISTRIES[registry]

        def create(call: Call) -> Response:
            fields = dict.fromkeys((name_key, *others), "text")
            values = self._validated(call.body, fields, {"required": [name_key]}, by_name=True, partial=False)
            if any(o[name_key] == values[name_key] for o in self.registries[registry].values()):
                raise Refused(400, {name_key: [f"An object with this {name_key} already exists."]})
            return JSONResponse(self._register(registry, values), self.knobs["create_status"])

        return create

    def _next(self, kind: str) -> int:
        self._made[kind] = self._made.get(kind, 0) + 1
        return self._made[kind]

    def _visible(self, record: Record) -> bool:
        at = record.get("_available_at")
        return at is None or parse_instant(at) <= self.clock.now()

    def _newest_first(self, records: dict[str, Record]) -> list[Record]:
        visible = [record for record in reversed(records.values()) if self._visible(record)]
        return sorted(visible, key=lambda record: str(record["created"]), reverse=True)

    def _held(self, records: dict[str, Record], call: Call) -> Record:
        record = records.get(call.path["unique_id"])
        if record is None or not self._visible(record):
            raise Refused(404)
        return record

    def _seed_incident(self, record: Record) -> None:
        own = {"unique_id", "readable_id", "is_paused", "created", "modified", "_available_at"}
        form = self.knobs["form"]
        given = {key: value for key, value in record.items() if key in own}
        body = {k: v for k, v in record.items() if k not in own | {"status", "_iocs", "_comments"}}
        values = self._validated(body, INCIDENT_FIELDS, form, by_name=True, partial=True)
        values["status"] = chosen(record.get("status", "open"), [*form["status"], "merged"])
        if "created" in given:
            given["created"] = stamp(parse_instant(given["created"]))
            given["modified"] = stamp(parse_instant(given.get("modified", given["created"])))
        incident = self._new_incident({**values, **given})
        node = ("incident", incident["unique_id"])
        for ioc_type, iocs in record.get("_iocs", {}).items():
            for value in iocs:
                ioc = self._find_ioc(ioc_type, value) or self._seed_ioc({"ioc_type": ioc_type, "value": value})
                self._connect([(node, (ioc_type, ioc["unique_id"]))])
        for comment in record.get("_comments", ()):
            self._add_comment(node, comment, "note", [])

    def _seed_ioc(self, record: Record) -> Record:
        more = {key: value for key, value in record.items() if key not in ("ioc_type", "value")}
        if set(more) - {"status", "tlp", "_available_at"} or not fits(record["ioc_type"], record["value"]):
            raise Refused(400, f"not a threat intel record: {record}")
        return self._new_ioc(record["ioc_type"], record["value"], **more)


def public(record: Record) -> Record:
    return {key: value for key, value in record.items() if not key.startswith("_")}


def fixed_id(seed: str) -> str:
    """Looks like a random UUID, and is the same in every run."""
    return str(UUID(bytes=hashlib.sha256(f"cyware-respond/{seed}".encode()).digest()[:16], version=4))


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


def is_uuid(value: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is not None


def positive(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"[0-9]{1,9}", value) and int(value) > 0 else None


def read_json(request: Request, raw: bytes) -> dict[str, Any]:
    media_type = request.headers.get("Content-Type", "")
    if media_type.partition(";")[0].strip().lower() != "application/json":
        raise Refused(415, f'Unsupported media type "{media_type}" in request.')
    try:
        body = json.loads(raw)
    except ValueError as problem:
        raise Refused(400, f"JSON parse error - {problem}") from problem
    if not isinstance(body, dict):
        problem_text = f"Invalid data. Expected a dictionary, but got {type(body).__name__}."
        raise Refused(400, {"non_field_errors": [problem_text]})
    return body


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("Not a valid string.")
    if not value.strip():
        raise ValueError("This field may not be blank.")
    return value


def chosen(value: Any, options: list[str]) -> str:
    if not isinstance(value, str) or value not in options:
        raise ValueError(f'"{value}" is not a valid choice.')
    return value


def instant(value: Any) -> str:
    shape = r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)"
    if not isinstance(value, str) or not re.fullmatch(shape, value):
        raise ValueError(
            "Datetime has wrong format. Use one of these formats instead: "
            "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
        )
    parse_instant(value)
    return value


def address(value: Any) -> str:
    try:
        ipaddress.ip_address(text(value))
    except ValueError:
        raise ValueError("Enter a valid IPv4 or IPv6 address.") from None
    return str(value)


def fits(ioc_type: str, value: Any) -> bool:
    """Whether ``value`` can be of this type (inferred: what the vendor checks is not documented)."""
    if not isinstance(value, str) or ioc_type not in IOC_TYPES:
        return False
    if ioc_type in HASH_LENGTH:
        return re.fullmatch(rf"[0-9a-fA-F]{{{HASH_LENGTH[ioc_type]}}}", value) is not None
    if ioc_type == "ioc_ip":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            return False
        return True
    if ioc_type == "ioc_url":
        return re.fullmatch(r"(?i)[a-z][a-z0-9+.-]*://[^\s/]+\S*", value) is not None
    local, _, host = value.rpartition("@")
    return HOST_NAME.match(host) is not None and bool(local) == (ioc_type == "ioc_email")


def same_value(ioc_type: str, value: str) -> str:
    """What makes two values one: an address in its shortest spelling, everything but a URL without case."""
    if ioc_type == "ioc_ip":
        return str(ipaddress.ip_address(value))
    return value if ioc_type == "ioc_url" else value.lower()
