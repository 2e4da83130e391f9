"""Splunk's management port, as far as the KV store needs it.

Imitates what Splunk's REST reference (https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTkvstore) says
and its own Python SDK 2.1 sends. Paths: ``/services/auth/login``, ``/services/server/info``, and below
``/servicesNS/{owner}/{app}/storage/collections``: ``config`` (POST form ``name=``; GET; POST and DELETE of one) and
``data/{collection}`` (POST, GET, DELETE, ``batch_save``, ``batch_find``, and one record by key); lookup definitions,
``/servicesNS/{owner}/{app}/data/transforms/lookups`` (POST form, GET; GET, POST and DELETE of one). Without a
namespace,
``/services/storage/…``, the app is ``search``; ``system`` is an app as well. ``Authorization`` is ``Bearer <token>``,
``Splunk <session key>`` or ``Basic``.

What matters to a client: ``config`` and the others speak Atom XML unless ``output_mode=json`` is given, ``data``
always speaks JSON; an insert with a known ``_key`` is 409, ``batch_save`` upserts at most 1000 documents and stops at
the first bad one, keeping those before it; a query silently returns at most 50,000 rows; a field name must not
contain a dot; nothing expires. Every answer carries a ``Connection`` header, without which the SDK reads an empty
body.

Seed: ``{"collections": {"threat_watchlist": [{"_key": "ipv4:198.51.100.7", ...}]}}``, in app ``search``, owner
``nobody``; an empty list makes an empty collection. ``_available_at`` hides a document until the clock passes it.

Knobs: ``token``; ``username`` and ``password`` for the login; ``session_seconds`` (idle); ``apps``; ``read_only``
(writes answer 403); ``max_documents_per_batch_save`` and ``max_rows_per_query`` (limits.conf).

Not imitated: search (a lookup definition is kept, and looks nothing up), owners other than ``nobody`` (private
collections), records that users share (``shared`` is taken and changes nothing), field types (``enforceTypes``) and
acceleration (noted only), and of the query language everything but equality, ``$and``, ``$or``, ``$not``, ``$in``,
``$regex``, ``$lt``, ``$lte``, ``$gt``, ``$gte`` and ``$ne``. INFERRED: that ``data`` ignores parameters that it does
not know (``config`` refuses them).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from fastapi import Request
from fastapi.responses import Response

from include.simulators.kit import Clock
from include.simulators.splunk.answers import (
    ATOM,
    BAD_LOGIN,
    LOOKUP_SETTINGS,
    NO_RIGHT,
    REST,
    SAME_KEY,
    SAME_NAME,
    TOO_MANY,
    UNAUTHENTICATED,
    VERSION,
    Document,
    Refused,
    arguments_of,
    check_document,
    checked_lookup,
    dict_xml,
    form_of,
    json_answer,
    json_body,
    messages,
    output_mode,
    whole,
    xml_answer,
)
from include.simulators.splunk.query import member, order, projection, sort_keys
from include.simulators.splunk.state import COLLECTION_NAME, Collection, KvStore

#: With and without a namespace.
COLLECTIONS = ("/servicesNS/{owner}/{app}/storage/collections", "/services/storage/collections")
LOOKUPS = ("/servicesNS/{owner}/{app}/data/transforms/lookups", "/services/data/transforms/lookups")
#: What a collection may be made with, or changed to.
SETTINGS = ("replicate", "enforceTypes", "profilingEnabled", "profilingThresholdMs")
SETTING_PREFIXES = ("field.", "accelerated_fields.")
SEARCH = "http://a9.com/-/spec/opensearch/1.1/"
Handler = Callable[[Request], Awaitable[Response]]


class SplunkSimulator(KvStore):
    product = "splunk"
    prefixes = ("/services", "/servicesNS")
    settings = {
        "token": "demo-splunk-token",
        "username": "admin",
        "password": "demo-splunk-password",
        "session_seconds": 3600,
        "apps": ["search"],
        "read_only": False,
        "max_documents_per_batch_save": 1000,
        "max_rows_per_query": 50_000,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._route("POST", "/services/auth/login", self.login, open_to_all=True)
        self._route("GET", "/services/server/info", self.server_info)
        for base in COLLECTIONS:
            self._route_collections(f"{base}/config", f"{base}/data/{{collection}}")
        for base in LOOKUPS:
            self._route("GET", base, self.list_lookups)
            self._route("POST", base, self.create_lookup, write=True)
            self._route("GET", f"{base}/{{lookup}}", self.get_lookup)
            self._route("POST", f"{base}/{{lookup}}", self.change_lookup, write=True)
            self._route("DELETE", f"{base}/{{lookup}}", self.delete_lookup, write=True)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            self._route(method, "/services/{rest:path}", self.nowhere)
            self._route(method, "/servicesNS/{rest:path}", self.nowhere)

    def _route_collections(self, config: str, data: str) -> None:
        self._route("GET", config, self.list_collections)
        self._route("POST", config, self.create_collection, write=True)
        self._route("GET", f"{config}/{{collection}}", self.get_collection)
        self._route("POST", f"{config}/{{collection}}", self.change_collection, write=True)
        self._route("DELETE", f"{config}/{{collection}}", self.delete_collection, write=True)
        self._route("POST", f"{data}/batch_save", self.batch_save, write=True)
        self._route("POST", f"{data}/batch_find", self.batch_find)
        for slash in ("", "/"):
            self._route("GET", data + slash, self.query)
            self._route("POST", data + slash, self.insert, write=True)
            self._route("DELETE", data + slash, self.delete_matching, write=True)
        # A key may contain an encoded slash, so it takes the rest of the path.
        self._route("GET", f"{data}/{{key:path}}", self.get_document)
        self._route("POST", f"{data}/{{key:path}}", self.replace_document, write=True)
        self._route("PUT", f"{data}/{{key:path}}", self.replace_document, write=True)
        self._route("DELETE", f"{data}/{{key:path}}", self.delete_document, write=True)

    def error(self, status: int, detail: str | None = None) -> Response:
        if status == 401:
            return messages(status, "WARN", detail or UNAUTHENTICATED, xml=False)
        return messages(status, "ERROR", detail or f"The request failed with status {status}.", xml=False)

    def _route(
        self, method: str, path: str, handler: Handler, *, write: bool = False, open_to_all: bool = False
    ) -> None:
        speaks_json = "/data/" in path

        async def route(request: Request) -> Response:
            body = await request.body()  # read here once, so that no handler waits between looking and writing
            try:
                if not open_to_all:
                    self._authorize(request)
                if write and self.knobs["read_only"]:
                    raise Refused(403, NO_RIGHT)
                answer = await handler(request)
            except Refused as refusal:
                wants_json = speaks_json or output_mode(request, body) == "json"
                answer = messages(refusal.status, refusal.kind, refusal.text, xml=not wants_json)
            return answer

        self.router.add_api_route(path, route, methods=[method], response_model=None)

    def _authorize(self, request: Request) -> None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        now = self.clock.timestamp()
        if scheme == "Splunk" and self.sessions.get(secret, 0) > now:
            self.sessions[secret] = now + self.knobs["session_seconds"]
        elif (scheme, secret) not in (("Bearer", self.knobs["token"]), ("Basic", self._basic())):
            raise Refused(401, UNAUTHENTICATED, "WARN")

    def _basic(self) -> str:
        return base64.b64encode(f"{self.knobs['username']}:{self.knobs['password']}".encode()).decode()

    async def login(self, request: Request) -> Response:
        form = await form_of(request, {"username", "password", "cookie", "output_mode"})
        if (form.get("username"), form.get("password")) != (self.knobs["username"], self.knobs["password"]):
            raise Refused(401, BAD_LOGIN, "WARN")
        session = secrets.token_hex(32)
        self.sessions[session] = self.clock.timestamp() + self.knobs["session_seconds"]
        if form.get("output_mode") == "json":
            return json_answer({"sessionKey": session, "message": "", "code": ""})
        return xml_answer(
            f"<response>\n  <sessionKey>{session}</sessionKey>\n  <messages>\n"
            '    <msg code=""></msg>\n  </messages>\n</response>\n'
        )

    async def server_info(self, request: Request) -> Response:
        arguments_of(request, "output_mode")
        content = {"version": VERSION, "serverName": "splunk-simulator", "product_type": "enterprise", "build": "0"}
        return self._feed(request, "server-info", "/services/server/info", [("server-info", content)])

    async def nowhere(self, request: Request) -> Response:
        raise Refused(404, "Not Found")

    async def list_collections(self, request: Request) -> Response:
        arguments = arguments_of(request, "output_mode", "count", "offset")
        app = self._app(request)
        names = sorted(name for owner_app, name in self.collections if owner_app == app)
        offset, count = whole(arguments, "offset", 0), whole(arguments, "count", 30)
        shown = names[offset : offset + count] if count > 0 else names[offset:]
        return self._config_feed(request, app, shown, total=len(names))

    async def create_collection(self, request: Request) -> Response:
        form = await form_of(request, {"name", "output_mode", *SETTINGS}, prefixes=SETTING_PREFIXES)
        app, name = self._app(request), form.get("name", "")
        if not COLLECTION_NAME.fullmatch(name):
            raise Refused(400, "Cannot perform action POST without a valid target name to act on.")
        if (app, name) in self.collections:
            raise Refused(409, SAME_NAME.format(name))
        settings = {k: v for k, v in form.items() if k not in ("name", "output_mode")}
        self.collections[(app, name)] = Collection(settings)
        return self._config_feed(request, app, [name], status=201, as_json=form.get("output_mode") == "json")

    async def get_collection(self, request: Request) -> Response:
        arguments_of(request, "output_mode")
        app = self._app(request)
        self._collection(request, config=True)
        return self._config_feed(request, app, [request.path_params["collection"]])

    async def change_collection(self, request: Request) -> Response:
        """What is named is set, the rest stays."""
        form = await form_of(request, {"output_mode", *SETTINGS}, prefixes=SETTING_PREFIXES)
        as_json = form.pop("output_mode", "") == "json"
        self._collection(request, config=True).settings |= form
        return self._config_feed(request, self._app(request), [request.path_params["collection"]], as_json=as_json)

    async def delete_collection(self, request: Request) -> Response:
        arguments_of(request, "output_mode")
        app = self._app(request)
        self._collection(request, config=True)
        del self.collections[(app, request.path_params["collection"])]
        return self._config_feed(request, app, sorted(name for a, name in self.collections if a == app))

    async def list_lookups(self, request: Request) -> Response:
        arguments_of(request, "output_mode", "count", "offset")
        app = self._app(request)
        return self._lookup_feed(request, sorted(name for a, name in self.lookups if a == app))

    async def create_lookup(self, request: Request) -> Response:
        form = await form_of(request, {"name", "output_mode", *LOOKUP_SETTINGS})
        app, name = self._app(request), form.pop("name", "")
        as_json = form.pop("output_mode", "") == "json"
        if not COLLECTION_NAME.fullmatch(name):
            raise Refused(400, "Cannot perform action POST without a valid target name to act on.")
        if (app, name) in self.lookups:
            raise Refused(409, SAME_NAME.format(name))
        self.lookups[(app, name)] = checked_lookup(form)
        return self._lookup_feed(request, [name], status=201, as_json=as_json)

    async def get_lookup(self, request: Request) -> Response:
        arguments_of(request, "output_mode")
        self._lookup(request)
        return self._lookup_feed(request, [request.path_params["lookup"]])

    async def change_lookup(self, request: Request) -> Response:
        """What is named is set, the rest stays."""
        form = await form_of(request, {"output_mode", *LOOKUP_SETTINGS})
        as_json = form.pop("output_mode", "") == "json"
        name = request.path_params["lookup"]
        self.lookups[(self._app(request), name)] = checked_lookup(self._lookup(request) | form)
        return self._lookup_feed(request, [name], as_json=as_json)

    async def delete_lookup(self, request: Request) -> Response:
        arguments_of(request, "output_mode")
        self._lookup(request)
        del self.lookups[(self._app(request), request.path_params["lookup"])]
        return self._lookup_feed(request, [])

    def _lookup_feed(self, request: Request, names: list[str], status: int = 200, *, as_json: bool = False) -> Response:
        app = self._app(request)
        acl = {"app": app, "owner": "nobody", "sharing": "app", "can_write": "1", "removable": "1"}
        shared = {"disabled": "0", "eai:acl": acl, "eai:appName": app, "eai:userName": "nobody"}
        entries = [(name, shared | self.lookups[(app, name)]) for name in names]
        base = f"/servicesNS/nobody/{app}/data/transforms/lookups"
        return self._feed(request, "transforms-lookup", base, entries, status, None, as_json)

    async def query(self, request: Request) -> Response:
        return json_answer(self._rows(self._collection(request), dict(request.query_params)))

    async def batch_find(self, request: Request) -> Response:
        """Many queries in one call, each an object with the parameters of one: the rows of each."""
        queries = json_body(request, await request.body())
        collection = self._collection(request)
        if not isinstance(queries, list) or not all(isinstance(query, dict) for query in queries):
            raise Refused(400, "Request body must be a JSON array.")
        texts = [{k: v if isinstance(v, str) else json.dumps(v) for k, v in query.items()} for query in queries]
        return json_answer([self._rows(collection, arguments) for arguments in texts])

    def _rows(self, collection: Collection, arguments: dict[str, str]) -> list[Document]:
        found = self._matching(collection, arguments)
        for field, descending in reversed(sort_keys(arguments.get("sort", ""))):
            found.sort(key=lambda d, f=field: order(member(d, f)), reverse=descending)
        skip, limit = whole(arguments, "skip", 0), whole(arguments, "limit", 0)
        most = self.knobs["max_rows_per_query"]
        found = found[skip:][: min(limit or most, most)]  # more rows are dropped without a word
        project = projection(arguments.get("fields", ""))
        return [project(d) for d in found]

    async def insert(self, request: Request) -> Response:
        document = json_body(request, await request.body())
        collection = self._collection(request)
        check_document(document)
        if document.get("_key") in collection.documents:
            raise Refused(409, SAME_KEY)
        return json_answer({"_key": collection.put(document)}, 201)

    async def batch_save(self, request: Request) -> Response:
        documents = json_body(request, await request.body())
        collection = self._collection(request)
        if not isinstance(documents, list):
            raise Refused(400, "Request body must be a JSON array.")
        most = self.knobs["max_documents_per_batch_save"]
        if len(documents) > most:
            raise Refused(400, TOO_MANY.format(most))
        keys = []
        for document in documents:
            check_document(document)  # what was saved before a bad document stays saved
            keys.append(collection.put(document))
        return json_answer(keys)

    async def delete_matching(self, request: Request) -> Response:
        collection = self._collection(request)
        for document in self._matching(collection, dict(request.query_params)):
            del collection.documents[document["_key"]]
        return json_answer(None)

    async def get_document(self, request: Request) -> Response:
        return json_answer(self._document(request))

    async def replace_document(self, request: Request) -> Response:
        document = json_body(request, await request.body())
        known = self._document(request)
        check_document(document)
        return json_answer({"_key": self._collection(request).put(document | {"_key": known["_key"]})})

    async def delete_document(self, request: Request) -> Response:
        del self._collection(request).documents[self._document(request)["_key"]]
        return json_answer(None)

    def _config_feed(
        self,
        request: Request,
        app: str,
        names: list[str],
        status: int = 200,
        total: int | None = None,
        as_json: bool = False,
    ) -> Response:
        entries = []
        for name in names:
            acl = {"app": app, "owner": "nobody", "sharing": "app", "can_write": "1", "removable": "1"}
            own = {"disabled": "0", "eai:acl": acl, "eai:appName": app, "eai:userName": "nobody"}
            entries.append((name, own | self.collections[(app, name)].settings))
        base = f"/servicesNS/nobody/{app}/storage/collections/config"
        return self._feed(request, "collections-conf", base, entries, status, total, as_json)

    def _feed(
        self,
        request: Request,
        title: str,
        base: str,
        entries: list[tuple[str, dict[str, Any]]],
        status: int = 200,
        total: int | None = None,
        as_json: bool = False,
    ) -> Response:
        updated = f"{self.clock.now():%Y-%m-%dT%H:%M:%S+00:00}"
        total = len(entries) if total is None else total
        if as_json or request.query_params.get("output_mode") == "json":
            entry = [
                {
                    "name": name,
                    "id": f"{base}/{name}",
                    "updated": updated,
                    "links": {"alternate": f"{base}/{name}", "list": f"{base}/{name}"},
                    "author": "nobody",
                    "acl": content.get("eai:acl"),
                    "content": content | {"eai:acl": None},
                }
                for name, content in entries
            ]
            paging = {"total": total, "perPage": 30, "offset": 0}
            return json_answer(
                {"links": {}, "origin": base, "updated": updated, "entry": entry, "paging": paging, "messages": []},
                status,
            )
        parts = [
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            f'<feed xmlns="{ATOM}" xmlns:s="{REST}" xmlns:opensearch="{SEARCH}">',
            f"<title>{title}</title><id>{escape(base)}</id><updated>{updated}</updated>",
            f"<opensearch:totalResults>{total}</opensearch:totalResults><s:messages/>",
        ]
        for name, content in entries:
            href = quoteattr(f"{base}/{name}")
            parts.append(
                f"<entry><title>{escape(name)}</title><id>{escape(base)}/{escape(name)}</id>"
                f'<updated>{updated}</updated><link href={href} rel="alternate"/><link href={href} rel="list"/>'
                f'<author><name>nobody</name></author><content type="text/xml">{dict_xml(content)}</content></entry>'
            )
        return xml_answer("".join(parts) + "</feed>\n", status)
