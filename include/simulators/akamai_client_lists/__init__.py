"""Akamai Client Lists: lists of addresses (and other things) that a WAF policy may refer to.

There is no public specification of this API. Imitated from what Akamai's own clients send and expect (Go SDK
``pkg/clientlists``, PowerShell ``Akamai.ClientLists`` with its live tests and recorded answers, Terraform documentation
https://techdocs.akamai.com/terraform/docs/set-up-client-lists), from answers of the live service recorded in
chronicle/content-hub (``google/akamai_integration``, 2025-06 and 2026-02), which win where they differ, and from
https://techdocs.akamai.com/client-lists.
All routes stand behind EdgeGrid (:mod:`include.simulators.edgegrid`). Base ``/client-list/v1``:

=================================================  ================================================================
``GET POST /lists``                                page of lists (``page`` counts from 0); create: 201
``GET PUT DELETE /lists/{id}``                     PUT replaces name, notes and tags; DELETE deprecates: 204
``GET POST /lists/{id}/items``                     page of items; ``{"append","update","delete"}``
``POST /lists/{id}/items/import``                  ``{"items","action": MERGE|REPLACE,"version"}``; ``dryRun``
``POST /lists/items/import/validation``            ``{"items","listType"}``
``POST …/import-file`` and its ``/validation``     the same from a form with a CSV file
``POST /lists/{id}/activations``                   ``{"action": ACTIVATE|DEACTIVATE,"network"}``; below
                                                   ``/client-list/v2`` answered by network
``GET /activations/{activationId}``                how one activation went
``GET /lists/{id}/environments/{network}/status``  what that network has
``GET /lists/{id}/versions/{v}/snapshot``          the items of a version
``GET /lists/{id}/usage``, ``GET /lists/tags``     who refers to the list; tags in use
``GET /contracts-groups``                          array of contracts with their groups
``GET /network-list/v2/network-lists/{id}``        the other API: whether it knows such a list
=================================================  ================================================================

Properties that a client has to live with: an appended item blocks nothing until its list is activated; ``update``
erases what it leaves out; the whole request is refused when one item is; a second activation of a network while one
is pending is refused; ``items`` has no optimistic lock (``import`` has: a stale ``version`` is a 409). Items say by
``stagingStatus`` and ``productionStatus`` what is in force, and carry no ``createdVersion``; an item whose
``expirationDate`` has passed stays, with the status that it had. Parameters and members that the service does not know
are ignored, so that an item may be sent back as it came.

Seed: ``{"lists": [{"listId", "name", "type", "items": ["203.0.113.7", {"value", "description", "tags",
"expirationDate"}], ...}]}``, with any of the vendor's members ``notes tags version contractId groupId groupName shared
readOnly deprecated stagingActivationStatus productionActivationStatus`` (``ACTIVE``: the seeded version is live
there) and ``usage`` (the vendor's array; it also decides whether a deactivation is refused). A list that exists
already is replaced.

Knobs: those of EdgeGrid; ``activation_seconds`` (0: done when the next request arrives); ``activation_outcome``
(``ACTIVE`` or ``FAILED``); ``pending_blocks_both_networks`` (terraform-provider-akamai issue 600 reports failures with
both at once; default off); ``rate_limit`` requests per ``rate_window_seconds`` (the real numbers are not published);
``max_items`` (by type, instead of the published ones), ``max_lists``, ``max_active_lists``, ``max_page_size``;
``user`` (who ``createdBy`` names); ``sdk_items`` (items as in the Go SDK's examples: with ``createdVersion``, and in
the answers of writes with both statuses); ``network_lists`` (ids of lists of the Network Lists API).

``snapshot()``: per list its ``version``, ``items``, ``live`` (per network the values that the edge enforces, None
when not active), and all ``activations``.

Not imitated: notifications; the parameter ``include`` of items, whose values are not known
(ignored); formats of values other than IP (any non-empty text); what the edge does with an expired item (unknown: here
it goes on enforcing it); whether activating the version that is live already is
refused (unknown: here it is accepted); network lists (``includeNetworkList`` finds none); the 90 days after which a
deleted list vanishes.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.akamai_client_lists.answers import (
    BASE,
    ERRORS,
    LISTS_PAGE_SIZE,
    MAX_ITEMS,
    NETWORKS,
    PENDING,
    check_tags,
    date,
    flag,
    integer,
    item_matches,
    text_of,
)
from include.simulators.akamai_client_lists.items import ListItems
from include.simulators.akamai_client_lists.state import List
from include.simulators.edgegrid import (
    EDGEGRID_SETTINGS,
    PROBLEM_JSON,
    Handler,
    Refused,
    query_of,
    read_json,
    reason_phrase,
)
from include.simulators.kit import Clock


class AkamaiClientListsSimulator(ListItems):
    product = "akamai_client_lists"
    prefixes = ("/client-list", "/network-list/v2")
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
        "sdk_items": False,
        "network_lists": [],
        "user": "api-client",
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        one = BASE + "/lists/{list_id}"
        self.on("GET", BASE + "/lists", self._get_lists)
        self.on("POST", BASE + "/lists", self._create)
        self.on("GET", BASE + "/lists/tags", self._get_tags)
        self.on("GET", BASE + "/contracts-groups", self._get_contracts)
        self.on("POST", BASE + "/lists/items/import/validation", self._validate)
        self.on("POST", BASE + "/lists/items/import-file/validation", self._validate_file)
        self.on("GET", one, self._get_list)
        self.on("PUT", one, self._put_list)
        self.on("DELETE", one, self._delete)
        self.on("GET", one + "/items", self._get_items)
        self.on("POST", one + "/items", self._post_items)
        self.on("POST", one + "/items/import", self._import)
        self.on("POST", one + "/items/import-file", self._import_file)
        self.on("POST", one + "/activations", self._activate)
        self.on("POST", "/client-list/v2/lists/{list_id}/activations", self._activate_v2)
        self.on("GET", one + "/environments/{network}/status", self._environment)
        self.on("GET", one + "/versions/{version}/snapshot", self._get_version)
        self.on("GET", one + "/usage", self._get_usage)
        self.on("GET", BASE + "/activations/{activation_id}", self._get_activation)
        self.on("GET", "/network-list/v2/network-lists/{list_id}", self._get_network_list)
        self.refuse_the_rest()

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
            response.headers["X-RateLimit-Next"] = date(opens, "Z")
        else:
            self._settle()
            response = super().answer(handler, request, body)
        response.headers["X-RateLimit-Limit"] = str(limit)
        response.headers["X-RateLimit-Remaining"] = str(max(0, limit - self._window_used))
        return response

    def _get_network_list(self, request: Request, body: bytes) -> Response:
        list_id = request.path_params["list_id"]
        if list_id not in self.knobs["network_lists"]:
            raise Refused(404)
        name = list_id.partition("_")[2]
        shown = {"uniqueId": list_id, "name": name, "type": "IP", "syncPoint": 1, "elementCount": 0, "readOnly": False}
        return JSONResponse(shown | {"networkListType": "networkListResponse", "shared": False, "links": {}})

    def _get_lists(self, request: Request, body: bytes) -> Response:
        flags = ("includeItems", "includeDeprecated", "includeNetworkList")
        query = query_of(request)
        include = {name: flag(query, name) for name in flags}
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
                or any(item_matches(item, text) for item in entry.items.values())
            )
        ]
        return self._paged(query, found, LISTS_PAGE_SIZE)

    def _create(self, request: Request, body: bytes) -> Response:
        given = read_json(request, body, required=("contractId", "groupId", "name", "type"))
        name, contract = text_of(given, "name"), text_of(given, "contractId")
        if not name or not contract or type(given["groupId"]) is not int or given["type"] not in MAX_ITEMS:
            raise Refused(400, "Validation failed: Invalid name, contractId, groupId or type")
        if len(self.lists) >= self.knobs["max_lists"]:
            raise Refused(400, f"Validation failed: No more than {self.knobs['max_lists']} lists")
        now = date(self.clock.now())
        entry = List(
            listId=f"{90001 + len(self.lists)}_{re.sub('[^A-Z0-9]', '', name.upper())}",
            name=name,
            type=given["type"],
            notes=text_of(given, "notes"),
            tags=check_tags(given.get("tags")),
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
        tags = {tag for entry in self.lists.values() for tag in entry.tags}
        tags |= {tag for entry in self.lists.values() for item in entry.items.values() for tag in item["tags"]}
        return JSONResponse({"tags": sorted(tags)})

    def _get_list(self, request: Request, body: bytes) -> Response:
        with_items = flag(query_of(request), "includeItems")
        return JSONResponse(self._list_object(self._find(request), with_items=with_items))

    def _put_list(self, request: Request, body: bytes) -> Response:
        entry = self._find(request, to_write=True)
        given = read_json(request, body, required=("name",))
        name, notes, tags = text_of(given, "name"), text_of(given, "notes"), check_tags(given.get("tags"))
        if not name:
            raise Refused(400, "Validation failed: Invalid name")
        entry.name, entry.notes, entry.tags = name, notes, tags
        # INFERRED: the version counts changes of items only.
        self._touch(entry)
        return JSONResponse(self._list_object(entry))

    def _delete(self, request: Request, body: bytes) -> Response:
        entry = self._find(request, to_write=True)
        if any(n in entry.live or self._status(entry, n) in PENDING for n in NETWORKS):
            raise Refused(403, "Only inactive client lists are allowed to be deleted")
        entry.deprecated = True
        self._touch(entry)
        return Response(status_code=204)

    def _get_usage(self, request: Request, body: bytes) -> Response:
        entry = self._find(request)
        return JSONResponse({"listId": entry.listId, "usage": entry.usage})

    def _activate(self, request: Request, body: bytes) -> Response:
        entry, given = self._activation_asked(request, body)
        if given.get("network") is None:
            raise Refused(400, "Missing field: network")
        [made] = self._request_activations(entry, given, [self._network(given["network"])])
        return JSONResponse(self._shown(made))

    def _activate_v2(self, request: Request, body: bytes) -> Response:
        """
        Answers by network. A deactivation that names none (Akamai's PowerShell module sends such) is of each on which
        the list is active (INFERRED).
        """
        entry, given = self._activation_asked(request, body)
        if given.get("network") is not None:
            networks = [self._network(given["network"])]
        elif given["action"] == "DEACTIVATE":
            networks = [network for network in NETWORKS if network in entry.live]
            if not networks:
                raise Refused(400, "Validation failed: Client list is not active")
        else:
            raise Refused(400, "Missing field: network")
        made = self._request_activations(entry, given, networks)
        return JSONResponse(
            {
                "action": given["action"],
                "activations": {
                    one["network"]: {name: one[name] for name in ("activationId", "activationStatus")} for one in made
                },
                "createDate": made[0]["createDate"].replace("Z", "+00:00"),
                "createdBy": self.knobs["user"],
                "listId": entry.listId,
                "version": entry.version,
            }
        )

    def _activation_asked(self, request: Request, body: bytes) -> tuple[List, dict[str, Any]]:
        entry = self._find(request, to_write=True)
        given = read_json(request, body, required=("action",))
        recipients = given.get("notificationRecipients") or []
        if given["action"] not in ("ACTIVATE", "DEACTIVATE"):
            raise Refused(400, "Validation failed: Invalid action")
        if not isinstance(recipients, list) or not all(isinstance(r, str) and "@" in r for r in recipients):
            raise Refused(400, "Validation failed: Invalid notificationRecipients")
        return entry, given

    def _request_activations(self, entry: List, given: dict[str, Any], networks: list[str]) -> list[dict[str, Any]]:
        """All of them, or none."""
        comments, ticket = text_of(given, "comments"), text_of(given, "siebelTicketId")
        action = given["action"]
        blocking = NETWORKS if self.knobs["pending_blocks_both_networks"] else networks
        if any(self._status(entry, n) in PENDING for n in blocking):
            raise Refused(409, f"An activation of client list {entry.listId} is in progress")
        if action == "DEACTIVATE":
            if entry.usage:
                raise Refused(403, "Only not used client list are allowed to be deactivated")
            for network in networks:
                if network not in entry.live:
                    raise Refused(400, f"Validation failed: Client list is not active in {network}")
        elif not entry.live and sum(1 for e in self.lists.values() if e.live) >= self.knobs["max_active_lists"]:
            raise Refused(400, f"Validation failed: No more than {self.knobs['max_active_lists']} active lists")
        return [self._new_activation(entry, network, given, comments, ticket) for network in networks]

    def _new_activation(
        self, entry: List, network: str, given: dict[str, Any], comments: str | None, ticket: str | None
    ) -> dict[str, Any]:
        activation_id = 961 + len(self.activations)
        # INFERRED: the first activation of a network is the slow one, and only that one says so.
        initial = network not in entry.latest and network not in entry.live
        self.activations[activation_id] = {
            "action": given["action"],
            "activationId": activation_id,
            "activationStatus": "PENDING_ACTIVATION" if given["action"] == "ACTIVATE" else "PENDING_DEACTIVATION",
            "comments": comments or "",
            "createDate": date(self.clock.now(), "Z"),
            "createdBy": self.knobs["user"],
            "fast": not initial,
            **({"initialActivation": True} if initial else {}),
            "listId": entry.listId,
            "network": network,
            "notificationRecipients": given.get("notificationRecipients") or [],
            "siebelTicketId": ticket or "",
            "version": entry.version,
            "_due": self.clock.timestamp() + self.knobs["activation_seconds"],
            "_outcome": self.knobs["activation_outcome"],
        }
        entry.latest[network] = activation_id
        return self.activations[activation_id]

    def _get_contracts(self, request: Request, body: bytes) -> Response:
        """Of the account's lists. INFERRED but for the array and ``contractId``."""
        groups: dict[str, dict[int, str]] = {}
        for entry in self.lists.values():
            groups.setdefault(entry.contractId, {})[entry.groupId] = entry.groupName
        return JSONResponse(
            [
                {"contractId": contract, "groups": [{"groupId": n, "groupName": name} for n, name in found.items()]}
                for contract, found in groups.items()
            ]
        )

    def _get_activation(self, request: Request, body: bytes) -> Response:
        activation_id = integer(request.path_params["activation_id"], "activationId", 0)
        if activation_id not in self.activations:
            raise Refused(404, f"Activation {activation_id} not found")
        return JSONResponse(self._shown(self.activations[activation_id]))

    def _environment(self, request: Request, body: bytes) -> Response:
        """
        The last activation with the network's status of now. INFERRED: MODIFIED after a change, INACTIVE after a
        deactivation, and the short answer for a network that never had an activation.
        """
        entry = self._find(request)
        network = self._network(request.path_params["network"])
        status = self._status(entry, network)
        if network not in entry.latest:
            version = entry.live.get(network, entry.version)
            short = {"listId": entry.listId, "network": network, "activationStatus": status, "version": version}
            return JSONResponse(short)
        return JSONResponse({**self._shown(self.activations[entry.latest[network]]), "activationStatus": status})
