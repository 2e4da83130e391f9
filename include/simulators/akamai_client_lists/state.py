"""What the account holds: lists, their items and versions, and which version runs on which network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse, Response

from include.simulators.akamai_client_lists.answers import (
    ITEM_TYPES,
    MAX_ITEMS,
    NETWORKS,
    PENDING,
    SORTABLE,
    Item,
    canonical,
    check_tags,
    date,
    integer,
    text_of,
)
from include.simulators.edgegrid import EdgeGridSimulator, Refused
from include.simulators.kit import parse_instant


@dataclass
class List:
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
    upgradedFromNetworkList: bool = False


class ListState(EdgeGridSimulator):
    """The lists and their activations, and how both are shown."""

    def clear(self) -> None:
        super().clear()
        self.lists: dict[str, List] = {}
        self.activations: dict[int, dict[str, Any]] = {}
        self._window_start = -math.inf
        self._window_used = 0

    def seed(self, data: dict[str, Any]) -> None:
        for given in data["lists"]:
            statuses = {n: given.get(f"{n.lower()}ActivationStatus", "INACTIVE") for n in NETWORKS}
            plain = {k: v for k, v in given.items() if k in List.__dataclass_fields__ and k != "items"}
            now = date(self.clock.now())
            user = self.knobs["user"]
            dates = {"createDate": now, "createdBy": user, "updateDate": now, "updatedBy": user}
            entry = List(**{**dates, **plain})
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

    def shown(self, list_id: str) -> dict[str, Any]:
        """The list as the API shows it, with its items."""
        return self._list_object(self.lists[list_id], with_items=True)

    def _find(self, request: Request, *, to_write: bool = False) -> List:
        list_id = request.path_params["list_id"]
        if list_id not in self.lists:
            raise Refused(404, f"Client list with uid {list_id} not found")
        entry = self.lists[list_id]
        if to_write and (entry.deprecated or entry.readOnly):
            raise Refused(403, "Client list is deprecated" if entry.deprecated else "Client list is read-only")
        return entry

    def _status(self, entry: List, network: str) -> str:
        latest = self.activations.get(entry.latest.get(network, 0))
        if latest and latest["activationStatus"] in (*PENDING, "FAILED"):
            return latest["activationStatus"]
        if network not in entry.live:
            return "INACTIVE"
        return "ACTIVE" if entry.live[network] == entry.version else "MODIFIED"

    def _list_object(self, entry: List, *, with_group: bool = True, with_items: bool = False) -> dict[str, Any]:
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
            "availableActions": {"DELETE": {"available": not entry.live and not entry.deprecated}},
            "rollbackPossible": False,
            "upgradedFromNetworkList": entry.upgradedFromNetworkList,
        }
        if with_group:
            shown.update(contractId=entry.contractId, groupId=entry.groupId, groupName=entry.groupName)
        if with_items:
            shown["items"] = self._item_objects(entry, entry.items, with_status=True)
        return {k: v for k, v in shown.items() if v is not None}

    def _touch(self, entry: List) -> None:
        entry.updateDate, entry.updatedBy = date(self.clock.now()), self.knobs["user"]

    def _paged(self, query: dict[str, list[str]], found: list[dict[str, Any]], default_size: int) -> Response:
        for rule in reversed(query.get("sort", [])):
            name, _, direction = rule.partition(":")
            if direction not in ("", "asc", "desc") or name not in SORTABLE:
                raise Refused(400, f"Validation failed: Invalid sort {rule}")
            found.sort(key=lambda o: (name in o, o.get(name, "")), reverse=direction == "desc")
        page = integer(query.get("page", ["0"])[0], "page", 0)
        size = integer(query.get("pageSize", [str(default_size)])[0], "pageSize", 1)
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

    def _read_item(self, list_type: str, given: Any) -> tuple[str, Item]:
        """
        (canonical value, the members of an item that a client sets), or a refusal. The members that the vendor sets are
        ignored: Akamai's own clients send back an item as they got it.
        """
        value = given.get("value") if isinstance(given, dict) else None
        if not isinstance(value, str) or not value:
            raise Refused(400, f"Validation failed: Invalid item {given}")
        try:
            key = canonical(list_type, value)
        except ValueError:
            raise Refused(400, f"Validation failed: {value} is not a valid {list_type} value") from None
        item: Item = {"value": value, "tags": check_tags(given.get("tags"))}
        description, expires = text_of(given, "description"), text_of(given, "expirationDate")
        if description:
            item["description"] = description
        if expires:
            try:
                if datetime.fromisoformat(expires.replace("Z", "+00:00")).tzinfo is None:
                    raise ValueError(expires)
            except ValueError:
                raise Refused(400, f"Validation failed: Invalid expirationDate {expires}") from None
            item["expirationDate"] = date(parse_instant(expires))
        return key, item

    def _read_items(self, list_type: str, given: Any, name: str) -> list[tuple[str, Item]]:
        if not isinstance(given, list):
            raise Refused(400, f"Validation failed: Invalid {name}")
        return [self._read_item(list_type, item) for item in given]

    def _new_item(self, list_type: str, fields: Item, version: int) -> Item:
        now, user = date(self.clock.now()), self.knobs["user"]
        made = {"createDate": now, "createdBy": user, "createdVersion": version}
        kind = ITEM_TYPES.get(list_type, list_type)
        return {**fields, "type": kind, **made, "updateDate": now, "updatedBy": user}

    def _changed_item(self, old: Item, fields: Item) -> Item:
        """``fields`` take the place of all that the client can set: what it left out is gone."""
        kept = {k: old[k] for k in ("type", "createDate", "createdBy", "createdVersion")}
        return {**fields, **kept, "updateDate": date(self.clock.now()), "updatedBy": self.knobs["user"]}

    def _item_objects(self, entry: List, keys: Iterable[str], *, with_status: bool) -> list[dict[str, Any]]:
        """
        Items as the live service shows them: without ``createdVersion``, and in the answer to a write without a status
        of either network. With the knob ``sdk_items`` they have all of it, as in the Go SDK's examples.
        """
        if self.knobs["sdk_items"]:
            return self._with_status(entry, keys)
        found = self._with_status(entry, keys) if with_status else [entry.items[key] for key in keys]
        return [{k: v for k, v in item.items() if k != "createdVersion"} for item in found]

    def _with_status(self, entry: List, keys: Iterable[str]) -> list[dict[str, Any]]:
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

    def _check_size(self, entry: List, items: dict[str, Item]) -> None:
        limit = {**MAX_ITEMS, **self.knobs["max_items"]}[entry.type]
        if len(items) > limit:
            raise Refused(400, f"Validation failed: A list of type {entry.type} holds at most {limit} items")

    def _commit(self, entry: List, items: dict[str, Item]) -> None:
        entry.items = items
        entry.version += 1
        entry.versions[entry.version] = dict(items)
        self._touch(entry)

    def _settle(self) -> None:
        """Finish every activation that is due by the simulated clock."""
        now = self.clock.timestamp()
        for activation in self.activations.values():
            if activation["activationStatus"] not in PENDING or activation["_due"] > now:
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
