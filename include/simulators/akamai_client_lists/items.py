"""The items of a list: read, changed, imported and checked."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.akamai_client_lists.answers import (
    ITEMS_PAGE_SIZE,
    MAX_ITEMS,
    flag,
    integer,
    item_matches,
    read_form,
    rows_of,
)
from include.simulators.akamai_client_lists.state import ListState
from include.simulators.edgegrid import Refused, query_of, read_json


class ListItems(ListState):
    """The calls below /items, and a list's versions."""

    def _get_items(self, request: Request, body: bytes) -> Response:
        query = query_of(request)
        entry = self._find(request)
        text = query.get("search", [""])[0].lower()
        keys = [key for key, item in entry.items.items() if item_matches(item, text)]
        return self._paged(query, self._item_objects(entry, keys, with_status=True), ITEMS_PAGE_SIZE)

    def _post_items(self, request: Request, body: bytes) -> Response:
        entry = self._find(request, to_write=True)
        given = read_json(request, body)
        parts = {n: self._read_items(entry.type, given.get(n) or [], n) for n in ("append", "update", "delete")}
        keys = [key for part in parts.values() for key, _ in part]
        if not keys:
            raise Refused(400, "Validation failed: Nothing to change")
        if len(keys) != len(set(keys)):
            raise Refused(400, "Validation failed: A value may be given once only")
        for key, fields in parts["append"]:
            if key in entry.items:
                raise Refused(400, f"Cannot add item {fields['value']}. Already exists")
        for name in ("update", "delete"):
            absent = [fields["value"] for key, fields in parts[name] if key not in entry.items]
            if absent:
                raise Refused(400, f"Items to {name} with values {', '.join(map(repr, absent))} not found.")

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
                "appended": self._item_objects(entry, [key for key, _ in parts["append"]], with_status=False),
                "updated": self._item_objects(entry, [key for key, _ in parts["update"]], with_status=False),
                "deleted": [{"value": fields["value"]} for _, fields in parts["delete"]],
            }
        )

    def _import(self, request: Request, body: bytes) -> Response:
        """
        MERGE adds and updates, REPLACE also removes what is not given. An item given as plain text, as Akamai's
        PowerShell sends it, leaves the members of an existing item alone. Known of the answer: ``result`` is an array
        with the items given, ``itemsImported`` and ``listVersion`` are beside it. INFERRED: the rest of it, and that
        repeated values are harmless here.
        """
        self._find(request, to_write=True)
        return self._imported(request, read_json(request, body, required=("items", "action", "version")))

    def _import_file(self, request: Request, body: bytes) -> Response:
        """The same from a form with the parts ``file`` (CSV), ``action`` and ``version``."""
        self._find(request, to_write=True)
        form = read_form(request, body, required=("file", "action", "version"))
        return self._imported(request, {**form, "items": rows_of(form["file"])})

    def _imported(self, request: Request, given: dict[str, Any]) -> Response:
        dry_run = flag(query_of(request), "dryRun")
        entry = self._find(request, to_write=True)
        if given["action"] not in ("MERGE", "REPLACE") or not isinstance(given["items"], list):
            raise Refused(400, "Validation failed: Invalid action or items")
        if str(given["version"]) != str(entry.version):
            raise Refused(409, f"Version {given['version']} is not the latest version {entry.version}")
        items = dict(entry.items) if given["action"] == "MERGE" else {}
        imported: dict[str, dict[str, str]] = {}
        for item in given["items"]:
            key, fields = self._read_item(entry.type, {"value": item} if isinstance(item, str) else item)
            if key not in entry.items:
                items[key] = self._new_item(entry.type, fields, entry.version + 1)
            elif isinstance(item, str):
                items[key] = entry.items[key]
            else:
                items[key] = self._changed_item(entry.items[key], fields)
            imported[key] = {"value": items[key]["value"], "type": items[key]["type"]}
        self._check_size(entry, items)
        if not dry_run and items != entry.items:
            self._commit(entry, items)
        return JSONResponse(
            {
                "action": given["action"],
                "dryRun": dry_run,
                "itemsImported": len(imported),
                "listVersion": entry.version,
                "result": list(imported.values()),
            }
        )

    def _validate(self, request: Request, body: bytes) -> Response:
        """INFERRED: the answer's shape but for ``importedCount``; the path and the request are known."""
        return self._checked(read_json(request, body, required=("items", "listType")))

    def _validate_file(self, request: Request, body: bytes) -> Response:
        form = read_form(request, body, required=("file", "listType"))
        return self._checked({**form, "items": rows_of(form["file"])})

    def _checked(self, given: dict[str, Any]) -> Response:
        if given["listType"] not in MAX_ITEMS or not isinstance(given["items"], list):
            raise Refused(400, "Validation failed: Invalid items or listType")
        errors = []
        for item in given["items"]:
            try:
                self._read_item(given["listType"], {"value": item} if isinstance(item, str) else item)
            except Refused as refused:
                errors.append({"item": item, "detail": refused.detail})
        count = len(given["items"]) - len(errors)
        return JSONResponse({"importedCount": count, "valid": not errors, "errors": errors})

    def _get_version(self, request: Request, body: bytes) -> Response:
        query = query_of(request)
        entry = self._find(request)
        version = integer(request.path_params["version"], "version", 0)
        if version not in entry.versions:
            raise Refused(404, f"Version {version} of client list {entry.listId} not found")
        text = query.get("search", [""])[0].lower()
        items = [i for i in entry.versions[version].values() if item_matches(i, text)]
        shown = [{k: v for k, v in item.items() if k != "createdVersion"} for item in items]
        return self._paged(query, shown, ITEMS_PAGE_SIZE)
