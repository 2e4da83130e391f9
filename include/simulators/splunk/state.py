"""What splunkd remembers: collections with their documents, and sessions."""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

from fastapi import HTTPException, Request

from include.simulators.kit import Simulator, parse_instant
from include.simulators.splunk.answers import NO_APP, NO_COLLECTION, NO_OBJECT, NO_OWNER, NOT_JSON, Document, Refused
from include.simulators.splunk.query import matches

COLLECTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: Of a call without a namespace. INFERRED: it is the one that the user lands in.
DEFAULT_APP = "search"
#: A collection has a 24-digit hexadecimal key for a document that brings none.
GENERATED_KEY_BYTES = 12


class Collection:
    """One KV-store collection: its settings and its documents by key, in the order of insertion."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.settings = settings or {}
        self.documents: dict[str, Document] = {}

    def put(self, document: Document) -> str:
        key = document.get("_key") or secrets.token_hex(GENERATED_KEY_BYTES)
        self.documents[key] = document | {"_user": "nobody", "_key": key}
        return key


class KvStore(Simulator):
    """The app's collections, and how both they and their documents are found."""

    def clear(self) -> None:
        self.collections: dict[tuple[str, str], Collection] = {}
        self.lookups: dict[tuple[str, str], dict[str, str]] = {}
        self.sessions: dict[str, float] = {}

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) != {"collections"}:
            raise HTTPException(400, f"splunk: the seed has the member collections, not {sorted(data)}")
        for name, documents in data["collections"].items():
            collection = self.collections.setdefault(("search", name), Collection())
            for document in documents:
                collection.put(document)

    def snapshot(self) -> dict[str, Any]:
        """Documents of each collection by name; outside the app ``search`` the name is ``app/name``."""
        return {
            "collections": {
                name if app == "search" else f"{app}/{name}": self._documents(collection)
                for (app, name), collection in self.collections.items()
            },
            "lookups": {
                name if app == "search" else f"{app}/{name}": kept for (app, name), kept in self.lookups.items()
            },
        }

    def _app(self, request: Request) -> str:
        app = request.path_params.get("app", DEFAULT_APP)
        if app not in (*self.knobs["apps"], "system"):
            raise Refused(404, NO_APP.format(app))
        if request.path_params.get("owner", "nobody") != "nobody":
            raise Refused(404, NO_OWNER)
        return str(app)

    def _collection(self, request: Request, *, config: bool = False) -> Collection:
        name = request.path_params["collection"]
        collection = self.collections.get((self._app(request), name))
        if collection is None:
            raise Refused(404, NO_OBJECT if config else NO_COLLECTION.format(name))
        return collection

    def _lookup(self, request: Request) -> dict[str, str]:
        found = self.lookups.get((self._app(request), request.path_params["lookup"]))
        if found is None:
            raise Refused(404, NO_OBJECT)
        return found

    def _document(self, request: Request) -> Document:
        key = request.path_params["key"]
        document = next((d for d in self._documents(self._collection(request)) if d["_key"] == key), None)
        if document is None:
            raise Refused(404, NO_OBJECT)
        return document

    def _documents(self, collection: Collection) -> list[Document]:
        """The documents that are there by the clock, without the simulator's own fields."""
        now = self.clock.now()
        return [
            {k: v for k, v in d.items() if k != "_available_at"}
            for d in collection.documents.values()
            if "_available_at" not in d or parse_instant(d["_available_at"]) <= now
        ]

    def _matching(self, collection: Collection, arguments: dict[str, str]) -> list[Document]:
        documents = self._documents(collection)
        if not arguments.get("query"):
            return documents
        try:
            condition = json.loads(arguments["query"])
        except ValueError:
            raise Refused(400, NOT_JSON) from None
        # A bad condition is refused even where no document would reach it.
        matches(condition, {})
        return [d for d in documents if matches(condition, d)]
