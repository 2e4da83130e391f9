"""Akamai Client Lists v1: lists of addresses (and other things) that a WAF policy may refer to.

There is no public specification of this API. Imitated from what Akamai's own clients send and expect (Go SDK
``pkg/clientlists``, PowerShell ``Akamai.ClientLists`` with its recorded answers, Terraform documentation
https://techdocs.akamai.com/terraform/docs/set-up-client-lists) and from https://techdocs.akamai.com/client-lists.
All routes stand behind EdgeGrid (:mod:`include.simulators.edgegrid`). Base ``/client-list/v1``:

=================================================  ================================================================
``GET POST /lists``                                page of lists (``page`` counts from 0); create: 201
``GET PUT DELETE /lists/{id}``                     PUT replaces name, notes and tags; DELETE deprecates: 204
``GET POST /lists/{id}/items``                     page of items; ``{"append","update","delete"}``
``POST /lists/{id}/items/import``                  ``{"items","action": MERGE|REPLACE,"version"}``; ``dryRun``
``POST /lists/items/import/validation``            ``{"items","listType"}``
``POST /lists/{id}/activations`` (also ``/v2``)    ``{"action": ACTIVATE|DEACTIVATE,"network"}``
``GET /activations/{activationId}``                how one activation went
``GET /lists/{id}/environments/{network}/status``  what that network has
``GET /lists/{id}/versions/{v}/snapshot``          the items of a version
``GET /lists/{id}/usage``, ``GET /lists/tags``     who refers to the list; tags in use
=================================================  ================================================================

Properties that a client has to live with: an appended item blocks nothing until its list is activated; ``update``
erases what it leaves out; the whole request is refused when one item is; a second activation of a network while one
is pending is refused; ``items`` has no optimistic lock (``import`` has: a stale ``version`` is a 409).

Seed: ``{"lists": [{"listId", "name", "type", "items": ["203.0.113.7", {"value", "description", "tags",
"expirationDate"}], ...}]}``, with any of the vendor's members ``notes tags version contractId groupId groupName shared
readOnly deprecated stagingActivationStatus productionActivationStatus`` (``ACTIVE``: the seeded version is live
there) and ``usage`` (the vendor's array; it also decides whether a deactivation is refused). A list that exists
already is replaced.

Knobs: those of EdgeGrid; ``activation_seconds`` (0: done when the next request arrives); ``activation_outcome``
(``ACTIVE`` or ``FAILED``); ``pending_blocks_both_networks`` (terraform-provider-akamai issue 600 reports failures with
both at once; default off); ``rate_limit`` requests per ``rate_window_seconds`` (the real numbers are not published);
``max_items`` (by type, instead of the published ones), ``max_lists``, ``max_active_lists``, ``max_page_size``;
``user`` (who ``createdBy`` names).

``snapshot()``: per list its ``version``, ``items``, ``live`` (per network the values that the edge enforces, None
when not active), and all ``activations``.

Not imitated: ``items/import-file``, ``contracts-groups``, notifications; the parameter ``include`` of items, whose
values are not known (refused); formats of values other than IP (any non-empty text); what the edge does with an
expired item (unknown: here ``expirationDate`` is only kept); whether activating the version that is live already is
refused (unknown: here it is accepted); network lists (``includeNetworkList`` finds none); the 90 days after which a
deleted list vanishes.
"""

from __future__ import annotations

import ipaddress
import math
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.edgegrid import (
    EDGEGRID_SETTINGS,
    PROBLEM_JSON,
    EdgeGridSimulator,
    Handler,
    Refused,
    read_json,
    read_query,
    reason_phrase,
)
from include.simulators.kit import Clock, parse_instant

BASE = "/client-list/v1"
NETWORKS = ("STAGING", "PRODUCTION")

#: Published limits on items by type.
MAX_ITEMS = {
    "IP": 10_000,
    "GEO": 275,
    "ASN": 100,
    "FILE_HASH": 100,
    "TLS_FINGERPRINT": 100,
    "USER_ID": 1_000,
    "DOMAIN": 500,
    "REQUEST_HEADER_NAME_VALUE": 100,
}
MAX_TAGS = 5
MAX_TAG_LENGTH = 256

#: Default page sizes. Lists: from a recorded answer. INFERRED: items, from a recorded answer about a snapshot.
LISTS_PAGE_SIZE = 50
ITEMS_PAGE_SIZE = 100

#: status -> (the last part of ``type``, ``title``). From the SDK's tests: 403, 404, 500; from Terraform's: 400.
#: INFERRED: 409, 415 and 429, and 400 and 403 (rather than 409 or 404) wherever a handler below raises them, except
#: for "Invalid network" and for deactivating a list in use.
ERRORS = {
    400: ("INVALID-INPUT-ERROR", "Invalid Input Error"),
    403: ("FORBIDDEN-OPERATION", "This operation is invalid"),
    404: ("NOT-FOUND", "Not Found"),
    409: ("CONFLICT", "Conflict"),
    429: ("TOO-MANY-REQUESTS", "Too Many Requests"),
    500: ("INTERNAL-SERVER-ERROR", "Internal Server Error"),
}

#: INFERRED, but for ``updatedBy`` and ``value``. A member that an object does not have sorts first.
SORTABLE = frozenset(
    {"listId", "name", "type", "version", "itemsCount", "value", "expirationDate"}
    | {"createDate", "createdBy", "updateDate", "updatedBy", "stagingActivationStatus", "productionActivationStatus"}
)

_ITEM_MEMBERS = ("value", "description", "tags", "expirationDate")
_PENDING = ("PENDING_ACTIVATION", "PENDING_DEACTIVATION")
_PAGING = ("page", "pageSize", "search")

Item = dict[str, Any]


@dataclass
class _List:
    listId: str
    name: str
    type: str
    createDate: str
    createdBy: str
    updateDate: str
    updatedBy: str
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    version: int = 1
    contractId: str = "C-0N7RAC7"
    groupId: int = 12345
    groupName: str = "Security"
    shared: bool = False
    readOnly: bool = False
    deprecated: bool = False
    usage: list[dict[str, Any]] = field(default_factory=list)
    #: By canonical value. Items are replaced, never changed, so that versions can share them.
    items: dict[str, Item] = field(default_factory=dict)
    versions: dict[int, dict[str, Item]] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)


def _date(instant: datetime, zone: str = "+00:00") -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}{zone}"


def _canonical(list_type: str, value: str) -> str:
    """
    What makes two values the same item. INFERRED: addresses are compared as addresses, the rest as text.

    :raises ValueError: when the value is no address or CIDR block of an IP list
    """
    if list_type == "IP":
        if "%" in value:
            raise ValueError(value)
        return str(ipaddress.ip_interface(value))
    return value


def _check_tags(tags: Any) -> list[str]:
    if tags is None:
        return []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refused(400, "Validation failed: Invalid tags")
    if len(tags) > MAX_TAGS or any(not tag or len(tag) > MAX_TAG_LENGTH or set(tag) & set(",;") for tag in tags):
        raise Refused(400, f"Validation failed: At most {MAX_TAGS} tags of 1 to {MAX_TAG_LENGTH} characters, no , or ;")
    return tags


def _text(document: dict[str, Any], name: str) -> str | None:
    """An optional text member; empty text means none, as Akamai's own SDK sends it."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(400, f"Validation failed: Invalid {name}")
    return value or None


def _integer(text: str, name: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise Refused(400, f"Validation failed: Invalid {name}")
    return int(text)


def _flag(query: dict[str, list[str]], name: str, default: bool = False) -> bool:
    value = query.get(name, [str(default).lower()])[0]
    if value not in ("true", "false"):
        raise Refused(400, f"Validation failed: Invalid {name}")
    return value == "true"


def _item_matches(item: Item, text: str) -> bool:
    return any(text in part.lower() for part in (item["value"], item.get("description") or "", *item["tags"]))


class AkamaiClientListsSimulator(EdgeGridSimulator):
    product = "akamai_client_lists"
    prefixes = ("/client-list",)
    settings = {
        **EDGEGRID_SETTINGS,
        "activation_seconds": 0,
        "activation_outcome": "ACTIVE",
        "pending_blocks_both_networks": False,
        "rate_limit": 1000,
        "rate_window_seconds": 60,
        "max_items": {},
        "max_lists": 1000,
        "max_active_lists": 500,
        "max_page_size": 1000,
        "user": "api-client",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        one = BASE + "/lists/{list_id}"
        self.on("GET", BASE + "/lists", self._get_lists)
        self.on("POST", BASE + "/lists", self._create)
        self.on("GET", BASE + "/lists/tags", self._get_tags)
        self.on("POST", BASE + "/lists/items/import/validation", self._validate)
        self.on("GET", one, self._get_list)
        self.on("PUT", one, self._put_list)
        self.on("DELETE", one, self._delete)
        self.on("GET", one + "/items", self._get_items)
        self.on("POST", one + "/items", self._post_items)
        self.on("POST", one + "/items/import", self._import)
        self.on("POST", one + "/activations", self._activate)
        self.on("POST", "/client-list/v2/lists/{list_id}/activations", self._activate)
        self.on("GET", one + "/environments/{network}/status", self._environment)
        self.on("GET", one + "/versions/{version}/snapshot", self._get_version)
        self.on("GET", one + "/usage", self._get_usage)
        self.on("GET", BASE + "/activations/{activation_id}", self._get_activation)
        self.refuse_the_rest()

    def clear(self) -> None:
        super().clear()
        self.lists: dict[str, _List] = {}
        self.activations: dict[int, dict[str, Any]] = {}
        self._window_start = -math.inf
        self._window_used = 0

    def seed(self, data: dict[str, Any]) -> None:
        for given in data["lists"]:
            statuses = {n: given.get(f"{n.lower()}ActivationStatus", "INACTIVE") for n in NETWORKS}
            plain = {k: v for k, v in given.items() if k in _List.__dataclass_fields__ and k != "items"}
            now = _date(self.clock.now())
            user = self.knobs["user"]
            dates = {"createDate": now, "createdBy": user, "updateDate": now, "updatedBy": user}
            entry = _List(**{**dates, **plain})
            for item in given.get("items", []):
                try:
                    key, fields = self._read_item(entry.type, {"value": item} if isinstance(item, str) else item)
                except Refused as refused:
                    raise HTTPException(400, f"akamai_client_lists: {refused.detail}") from None
                entry.items[key] = self._new_item(entry.type, fields, entry.version)
            entry.versions[entry.version] = dict(entry.items)
            entry.live = {n: entry.version for n, status in statuses.items() if status == "ACTIVE"}
            self.lists[entry.listId] = entry

    def snapshot(self) -> dict[str, Any]:
        self._settle()
        return {
            "lists": {
                entry.listId: {
                    "name": entry.name,
                    "type": entry.type,
                    "version": entry.version,
                    "deprecated": entry.deprecated,
                    "items": list(entry.items.values()),
                    "live": {
                        n: [i["value"] for i in entry.versions[entry.live[n]].values()] if n in entry.live else None
                        for n in NETWORKS
                    },
                }
                for entry in self.lists.values()
            },
            "activations": [self._shown(a) for a in self.activations.values()],
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        kind, title = ERRORS.get(status, (reason_phrase(status).upper().replace(" ", "-"), reason_phrase(status)))
        problem = {
            "type": f"https://problems.luna.akamaiapis.net/client-list/error-types/{kind}",
            "title": title,
            "detail": detail or ("Validation failed" if status == 400 else title),
            "instance": f"https://problems.luna.akamaiapis.net/client-list/error-instances/{uuid.uuid4().hex[:16]}",
            "status": status,
        }
        return JSONResponse(problem, status, media_type=PROBLEM_JSON)

    def answer(self, handler: Handler, request: Request, body: bytes) -> Response:
        """Count the request against the rate limit, finish what is due, and tell the quota in the headers."""
        now, limit = self.clock.timestamp(), self.knobs["rate_limit"]
        if not 0 <= now - self._window_start < self.knobs["rate_window_seconds"]:
            self._window_start, self._window_used = now, 0
        self._window_used += 1
        if self._window_used > limit:
            response = self.error(429, "Too many requests. Retry after the time in X-RateLimit-Next.")
            opens = datetime.fromtimestamp(
                self._window_start + self.knobs["rate_window_seconds"], tz=self.clock.now().tzinfo
            )
            response.headers["X-RateLimit-Next"] = _date(opens, "Z")
        else:
            self._settle()
            response = super().answer(handler, request, body)
        response.headers["X-RateLimit-Limit"] = str(limit)
        response.headers["X-RateLimit-Remaining"] = str(max(0, limit - self._window_used))
        return response

    # -- lists -----------------------------------------------------------------------------------------------------

    def _find(self, request: Request, *, to_write: bool = False) -> _List:
        list_id = request.path_params["list_id"]
        if list_id not in self.lists:
            raise Refused(404, f"Client list with uid {list_id} not found")
        entry = self.lists[list_id]
        if to_write and (entry.deprecated or entry.readOnly):
            raise Refused(403, "Client list is deprecated" if entry.deprecated else "Client list is read-only")
        return entry

    def _status(self, entry: _List, network: str) -> str:
        latest = self.activations.get(entry.latest.get(network, 0))
        if latest and latest["activationStatus"] in (*_PENDING, "FAILED"):
            return latest["activationStatus"]
        if network not in entry.live:
            return "INACTIVE"
        return "ACTIVE" if entry.live[network] == entry.version else "MODIFIED"

    def _list_object(self, entry: _List, *, with_group: bool = True, with_items: bool = False) -> dict[str, Any]:
        """The vendor's object; like its examples, members without a value are left out."""
        shown: dict[str, Any] = {
            "listId": entry.listId,
            "name": entry.name,
            "type": entry.type,
            "notes": entry.notes,
            "tags": entry.tags,
            "version": entry.version,
            "itemsCount": len(entry.items),
            "listType": "CL",
            "filePrefix": "CL",
            "shared": entry.shared,
            "readOnly": entry.readOnly,
            "deprecated": entry.deprecated,
            "createDate": entry.createDate,
            "createdBy": entry.createdBy,
            "updateDate": entry.updateDate,
            "updatedBy": entry.updatedBy,
            "stagingActivationStatus": self._status(entry, "STAGING"),
            "productionActivationStatus": self._status(entry, "PRODUCTION"),
            "stagingActiveVersion": entry.live.get("STAGING"),
            "productionActiveVersion": entry.live.get("PRODUCTION"),
        }
        if with_group:
            shown.update(contractId=entry.contractId, groupId=entry.groupId, groupName=entry.groupName)
        if with_items:
            shown["items"] = self._item_objects(entry, entry.items)
        return {k: v for k, v in shown.items() if v is not None}

    def _get_lists(self, request: Request, body: bytes) -> Response:
        flags = ("includeItems", "includeDeprecated", "includeNetworkList")
        query = read_query(request, once=("name", *flags, *_PAGING), repeated=("type", "sort"))
        include = {name: _flag(query, name) for name in flags}
        types = set(query.get("type", MAX_ITEMS))
        if not types <= set(MAX_ITEMS):
            raise Refused(400, f"Validation failed: Invalid type {sorted(types - set(MAX_ITEMS))}")
        name = query.get("name", [""])[0].lower()
        text = query.get("search", [""])[0].lower()
        found = [
            self._list_object(entry, with_group=False, with_items=include["includeItems"])
            for entry in self.lists.values()
            if entry.type in types
            and name in entry.name.lower()  # INFERRED: a substring, so that a careless client finds several
            and (include["includeDeprecated"] or not entry.deprecated)
            and (
                any(text in part.lower() for part in (entry.listId, entry.name, entry.notes or "", *entry.tags))
                or any(_item_matches(item, text) for item in entry.items.values())
            )
        ]
        return self._paged(query, found, LISTS_PAGE_SIZE)

    def _create(self, request: Request, body: bytes) -> Response:
        read_query(request)
        members = ("contractId", "groupId", "name", "type", "notes", "tags", "items")
        given = read_json(request, body, allowed=members, required=("contractId", "groupId", "name", "type"))
        name, contract = _text(given, "name"), _text(given, "contractId")
        if not name or not contract or type(given["groupId"]) is not int or given["type"] not in MAX_ITEMS:
            raise Refused(400, "Validation failed: Invalid name, contractId, groupId or type")
        if len(self.lists) >= self.knobs["max_lists"]:
            raise Refused(400, f"Validation failed: No more than {self.knobs['max_lists']} lists")
        now = _date(self.clock.now())
        entry = _List(
            listId=f"{90001 + len(self.lists)}_{re.sub('[^A-Z0-9]', '', name.upper())}",
            name=name,
            type=given["type"],
            notes=_text(given, "notes"),
            tags=_check_tags(given.get("tags")),
            contractId=contract,
            groupId=given["groupId"],
            createDate=now,
            createdBy=self.knobs["user"],
            updateDate=now,
            updatedBy=self.knobs["user"],
        )
        for key, fields in self._read_items(entry.type, given.get("items") or [], "items"):
            entry.items[key] = self._new_item(entry.type, fields, entry.version)
        self._check_size(entry, entry.items)
        entry.versions[entry.version] = dict(entry.items)
        self.lists[entry.listId] = entry
        return JSONResponse(self._list_object(entry, with_items=True), 201)

    def _get_tags(self, request: Request, body: bytes) -> Response:
        """INFERRED: the shape; only the path is known."""
        read_query(request)
        tags = {tag for entry in self.lists.values() for tag in entry.tags}
        tags |= {tag for entry in self.lists.values() for item in entry.items.values() for tag in item["tags"]}
        return JSONResponse({"tags": sorted(tags)})

    def _get_list(self, request: Request, body: bytes) -> Response:
        query = read_query(request, once=("includeItems",))
        return JSONResponse(self._list_object(self._find(request), with_items=_flag(query, "includeItems")))

    def _put_list(self, request: Request, body: bytes) -> Response:
        read_query(request)
        entry = self._find(request, to_write=True)
        given = read_json(request, body, allowed=("name", "notes", "tags"), required=("name",))
        name, notes, tags = _text(given, "name"), _text(given, "notes"), _check_tags(given.get("tags"))
        if not name:
            raise Refused(400, "Validation failed: Invalid name")
        entry.name, entry.notes, entry.tags = name, notes, tags
        # INFERRED: the version counts changes of items only.
        self._touch(entry)
        return JSONResponse(self._list_object(entry))

    def _delete(self, request: Request, body: bytes) -> Response:
        read_query(request)
        entry = self._find(request, to_write=True)
        if any(n in entry.live or self._status(entry, n) in _PENDING for n in NETWORKS):
            raise Refused(403, "Only inactive client lists are allowed to be deleted")
        entry.deprecated = True
        self._touch(entry)
        return Response(status_code=204)

    def _get_usage(self, request: Request, body: bytes) -> Response:
        read_query(request)
        entry = self._find(request)
        return JSONResponse({"listId": entry.listId, "usage": entry.usage})

    def _touch(self, entry: _List) -> None:
        entry.updateDate, entry.updatedBy = _date(self.clock.now()), self.knobs["user"]

    def _paged(self, query: dict[str, list[str]], found: list[dict[str, Any]], default_size: int) -> Response:
        for rule in reversed(query.get("sort", [])):
            name, _, direction = rule.partition(":")
            if direction not in ("", "asc", "desc") or name not in SORTABLE:
                raise Refused(400, f"Validation failed: Invalid sort {rule}")
            found.sort(key=lambda o: (name in o, o.get(name, "")), reverse=direction == "desc")
        page = _integer(query.get("page", ["0"])[0], "page", 0)
        size = _integer(query.get("pageSize", [str(default_size)])[0], "pageSize", 1)
        if size > self.knobs["max_page_size"]:
            raise Refused(400, "Validation failed: Invalid pageSize")
        return JSONResponse(
            {
                "content": found[page * size : (page + 1) * size],
                "page": page,
                "pageSize": size,
                "totalElements": len(found),
                "totalPages": math.ceil(len(found) / size),
            }
        )

    # -- items -----------------------------------------------------------------------------------------------------

    def _read_item(self, list_type: str, given: Any) -> tuple[str, Item]:
        """(canonical value, the item's own members), or a refusal."""
        if not isinstance(given, dict) or not set(given) <= set(_ITEM_MEMBERS):
            raise Refused(400, f"Validation failed: Invalid item {given}")
        value = given.get("value")
        if not isinstance(value, str) or not value:
            raise Refused(400, f"Validation failed: Invalid item {given}")
        try:
            key = _canonical(list_type, value)
        except ValueError:
            raise Refused(400, f"Validation failed: {value} is not a valid {list_type} value") from None
        item: Item = {"value": value, "tags": _check_tags(given.get("tags"))}
        description, expires = _text(given, "description"), _text(given, "expirationDate")
        if description:
            item["description"] = description
        if expires:
            try:
                if datetime.fromisoformat(expires.replace("Z", "+00:00")).tzinfo is None:
                    raise ValueError(expires)
            except ValueError:
                raise Refused(400, f"Validation failed: Invalid expirationDate {expires}") from None
            item["expirationDate"] = _date(parse_instant(expires))
        return key, item

    def _read_items(self, list_type: str, given: Any, name: str) -> list[tuple[str, Item]]:
        if not isinstance(given, list):
            raise Refused(400, f"Validation failed: Invalid {name}")
        return [self._read_item(list_type, item) for item in given]

    def _new_item(self, list_type: str, fields: Item, version: int) -> Item:
        now, user = _date(self.clock.now()), self.knobs["user"]
        made = {"createDate": now, "createdBy": user, "createdVersion": version}
        return {**fields, "type": list_type, **made, "updateDate": now, "updatedBy": user}

    def _changed_item(self, old: Item, fields: Item) -> Item:
        """``fields`` take the place of all that the client can set: what it left out is gone."""
        kept = {k: old[k] for k in ("type", "createDate", "createdBy", "createdVersion")}
        return {**fields, **kept, "updateDate": _date(self.clock.now()), "updatedBy": self.knobs["user"]}

    def _item_objects(self, entry: _List, keys: Iterable[str]) -> list[dict[str, Any]]:
        states = {}
        for network in NETWORKS:
            pending = self.activations.get(entry.latest.get(network, 0), {})
            status = pending.get("activationStatus")
            live = entry.versions[entry.live[network]] if network in entry.live else {}
            coming = entry.versions[pending["version"]] if status == "PENDING_ACTIVATION" else {}
            states[network] = (live, coming, status)

        def state(network: str, key: str, item: Item) -> str:
            live, coming, status = states[network]
            if coming.get(key) is item and live.get(key) is not item:
                return "PENDING_ACTIVATION"
            if key not in live:
                return "INACTIVE"
            if status == "PENDING_DEACTIVATION":
                return "PENDING_DEACTIVATION"
            return "ACTIVE" if live[key] is item else "MODIFIED"

        return [
            {**item, "stagingStatus": state("STAGING", key, item), "productionStatus": state("PRODUCTION", key, item)}
            for key, item in ((key, entry.items[key]) for key in keys)
        ]

    def _check_size(self, entry: _List, items: dict[str, Item]) -> None:
        limit = {**MAX_ITEMS, **self.knobs["max_items"]}[entry.type]
        if len(items) > limit:
            raise Refused(400, f"Validation failed: A list of type {entry.type} holds at most {limit} items")

    def _commit(self, entry: _List, items: dict[str, Item]) -> None:
        entry.items = items
        entry.version += 1
        entry.versions[entry.version] = dict(items)
        self._touch(entry)

    def _get_items(self, request: Request, body: bytes) -> Response:
        query = read_query(request, once=(*_PAGING, "showUsernames"), repeated=("sort",))
        entry = self._find(request)
        text = query.get("search", [""])[0].lower()
        keys = [key for key, item in entry.items.items() if _item_matches(item, text)]
        return self._paged(query, self._item_objects(entry, keys), ITEMS_PAGE_SIZE)

    def _post_items(self, request: Request, body: bytes) -> Response:
        read_query(request)
        entry = self._find(request, to_write=True)
        given = read_json(request, body, allowed=("append", "update", "delete"))
        parts = {n: self._read_items(entry.type, given.get(n) or [], n) for n in ("append", "update", "delete")}
        keys = [key for part in parts.values() for key, _ in part]
        if not keys:
            raise Refused(400, "Validation failed: Nothing to change")
        if len(keys) != len(set(keys)):
            raise Refused(400, "Validation failed: A value may be given once only")
        for name, part in parts.items():
            for key, fields in part:
                if (key in entry.items) is (name == "append"):
                    problem = "is in the list already" if name == "append" else "is not in the list"
                    raise Refused(400, f"Validation failed: {fields['value']} {problem}")

        items = dict(entry.items)
        for key, _ in parts["delete"]:
            del items[key]
        for key, fields in parts["update"]:
            items[key] = self._changed_item(items[key], fields)
        for key, fields in parts["append"]:
            items[key] = self._new_item(entry.type, fields, entry.version + 1)
        self._check_size(entry, items)
        self._commit(entry, items)
        return JSONResponse(
            {
                "appended": self._item_objects(entry, [key for key, _ in parts["append"]]),
                "updated": self._item_objects(entry, [key for key, _ in parts["update"]]),
                "deleted": [{"value": fields["value"]} for _, fields in parts["delete"]],
            }
        )

    def _import(self, request: Request, body: bytes) -> Response:
        """
        MERGE adds and updates, REPLACE also removes what is not given. An item given as plain text, as Akamai's
        PowerShell sends it, leaves the members of an existing item alone. INFERRED: the answer's shape beyond its
        member ``result``, and that repeated values are harmless here.
        """
        query = read_query(request, once=("dryRun",))
        dry_run = _flag(query, "dryRun")
        entry = self._find(request, to_write=True)
        given = read_json(
            request, body, allowed=("items", "action", "version"), required=("items", "action", "version")
        )
        if given["action"] not in ("MERGE", "REPLACE") or not isinstance(given["items"], list):
            raise Refused(400, "Validation failed: Invalid action or items")
        if str(given["version"]) != str(entry.version):
            raise Refused(409, f"Version {given['version']} is not the latest version {entry.version}")
        items = dict(entry.items) if given["action"] == "MERGE" else {}
        appended, updated = [], []
        for item in given["items"]:
            key, fields = self._read_item(entry.type, {"value": item} if isinstance(item, str) else item)
            if key not in entry.items:
                items[key] = self._new_item(entry.type, fields, entry.version + 1)
                appended.append(key)
            elif isinstance(item, str):
                items[key] = entry.items[key]
            else:
                items[key] = self._changed_item(entry.items[key], fields)
                updated.append(key)
        deleted = [item["value"] for key, item in entry.items.items() if key not in items]
        self._check_size(entry, items)
        if not dry_run and (appended or updated or deleted):
            self._commit(entry, items)
        return JSONResponse(
            {
                "action": given["action"],
                "dryRun": dry_run,
                "version": entry.version,
                "result": {
                    "appended": [{"value": items[key]["value"]} for key in dict.fromkeys(appended)],
                    "updated": [{"value": items[key]["value"]} for key in dict.fromkeys(updated)],
                    "deleted": [{"value": value} for value in deleted],
                },
            }
        )

    def _validate(self, request: Request, body: bytes) -> Response:
        """INFERRED: the answer's shape; the path and the request are known."""
        read_query(request)
        given = read_json(request, body, allowed=("items", "listType"), required=("items", "listType"))
        if given["listType"] not in MAX_ITEMS or not isinstance(given["items"], list):
            raise Refused(400, "Validation failed: Invalid items or listType")
        errors = []
        for item in given["items"]:
            try:
                self._read_item(given["listType"], {"value": item} if isinstance(item, str) else item)
            except Refused as refused:
                errors.append({"item": item, "detail": refused.detail})
        return JSONResponse({"valid": not errors, "errors": errors})

    def _get_version(self, request: Request, body: bytes) -> Response:
        query = read_query(request, once=_PAGING, repeated=("sort",))
        entry = self._find(request)
        version = _integer(request.path_params["version"], "version", 0)
        if version not in entry.versions:
            raise Refused(404, f"Version {version} of client list {entry.listId} not found")
        text = query.get("search", [""])[0].lower()
        items = [i for i in entry.versions[version].values() if _item_matches(i, text)]
        shown = [{k: v for k, v in item.items() if k != "createdVersion"} for item in items]
        return self._paged(query, shown, ITEMS_PAGE_SIZE)

    # -- activations -----------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Finish every activation that is due by the simulated clock."""
        now = self.clock.timestamp()
        for activation in self.activations.values():
            if activation["activationStatus"] not in _PENDING or activation["_due"] > now:
                continue
            entry, network = self.lists[activation["listId"]], activation["network"]
            if activation["_outcome"] == "FAILED":
                activation["activationStatus"] = "FAILED"
            elif activation["action"] == "ACTIVATE":
                activation["activationStatus"] = "ACTIVE"
                entry.live[network] = activation["version"]
            else:
                activation["activationStatus"] = "DEACTIVATED"
                entry.live.pop(network, None)

    @staticmethod
    def _shown(activation: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in activation.items() if not k.startswith("_")}

    def _network(self, name: Any) -> str:
        if name not in NETWORKS:
            raise Refused(400, "Validation failed: Invalid network")
        return str(name)

    def _activate(self, request: Request, body: bytes) -> Response:
        read_query(request)
        entry = self._find(request, to_write=True)
        members = ("action", "network", "comments", "notificationRecipients", "siebelTicketId")
        given = read_json(request, body, allowed=members, required=("action", "network"))
        network, action = self._network(given["network"]), given["action"]
        recipients = given.get("notificationRecipients") or []
        if action not in ("ACTIVATE", "DEACTIVATE"):
            raise Refused(400, "Validation failed: Invalid action")
        if not isinstance(recipients, list) or not all(isinstance(r, str) and "@" in r for r in recipients):
            raise Refused(400, "Validation failed: Invalid notificationRecipients")
        comments, ticket = _text(given, "comments"), _text(given, "siebelTicketId")
        blocking = NETWORKS if self.knobs["pending_blocks_both_networks"] else (network,)
        if any(self._status(entry, n) in _PENDING for n in blocking):
            raise Refused(409, f"An activation of client list {entry.listId} is in progress")
        if action == "DEACTIVATE":
            if entry.usage:
                raise Refused(403, "Only not used client list are allowed to be deactivated")
            if network not in entry.live:
                raise Refused(400, f"Validation failed: Client list is not active in {network}")
        elif not entry.live and sum(1 for e in self.lists.values() if e.live) >= self.knobs["max_active_lists"]:
            raise Refused(400, f"Validation failed: No more than {self.knobs['max_active_lists']} active lists")

        activation_id = 961 + len(self.activations)
        # INFERRED: the first activation of a network is the slow one, and only that one says so.
        initial = network not in entry.latest and network not in entry.live
        self.activations[activation_id] = {
            "action": action,
            "activationId": activation_id,
            "activationStatus": "PENDING_ACTIVATION" if action == "ACTIVATE" else "PENDING_DEACTIVATION",
            "comments": comments or "",
            "createDate": _date(self.clock.now(), "Z"),
            "createdBy": self.knobs["user"],
            "fast": not initial,
            **({"initialActivation": True} if initial else {}),
            "listId": entry.listId,
            "network": network,
            "notificationRecipients": recipients,
            "siebelTicketId": ticket or "",
            "version": entry.version,
            "_due": self.clock.timestamp() + self.knobs["activation_seconds"],
            "_outcome": self.knobs["activation_outcome"],
        }
        entry.latest[network] = activation_id
        return JSONResponse(self._shown(self.activations[activation_id]))

    def _get_activation(self, request: Request, body: bytes) -> Response:
        read_query(request)
        activation_id = _integer(request.path_params["activation_id"], "activationId", 0)
        if activation_id not in self.activations:
            raise Refused(404, f"Activation {activation_id} not found")
        return JSONResponse(self._shown(self.activations[activation_id]))

    def _environment(self, request: Request, body: bytes) -> Response:
        """
        The last activation with the network's status of now. INFERRED: MODIFIED after a change, INACTIVE after a
        deactivation, and the short answer for a network that never had an activation.
        """
        read_query(request)
        entry = self._find(request)
        network = self._network(request.path_params["network"])
        status = self._status(entry, network)
        if network not in entry.latest:
            version = entry.live.get(network, entry.version)
            short = {"listId": entry.listId, "network": network, "activationStatus": status, "version": version}
            return JSONResponse(short)
        return JSONResponse({**self._shown(self.activations[entry.latest[network]]), "activationStatus": status})
