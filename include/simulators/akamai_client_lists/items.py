"""The items of a list: read, changed, imported and checked."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.akamai_client_lists.answers import (
    ITEMS_PAGE_SIZE,
    MAX_ITEMS,
    PAGING,
    flag,
    integer,
    item_matches,
)
from include.simulators.akamai_client_lists.state import ListState
from include.simulators.edgegrid import Refused, read_json, read_query


class ListItems(ListState):
    """The calls below /items, and a list's versions."""

    def _get_items(self, request: Request, body: bytes) -> Response:
        query = read_query(request, once=(*PAGING, "showUsernames"), repeated=("sort",))
        entry = self._find(request)
        text = query.get("search", [""])[0].lower()
        keys = [key for key, item in entry.items.items() if item_matches(item, text)]
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
        dry_run = flag(query, "dryRun")
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
        query = read_query(request, once=PAGING, repeated=("sort",))
        entry = self._find(request)
        version = integer(request.path_params["version"], "version", 0)
        if version not in entry.versions:
            raise Refused(404, f"Version {version} of client list {entry.listId} not found")
        text = query.get("search", [""])[0].lower()
        items = [i for i in entry.versions[version].values() if item_matches(i, text)]
        shown = [{k: v for k, v in item.items() if k != "createdVersion"} for item in items]
        return self._paged(query, shown, ITEMS_PAGE_SIZE)
