"""Splunk's management port, as far as the KV store needs it.

Imitates what Splunk's REST reference (https://docs.splunk.com/Documentation/Splunk/latest/RESTREF/RESTkvstore) says
and its own Python SDK 2.1 sends. Paths: ``/services/auth/login``, ``/services/server/info``, and below
``/servicesNS/{owner}/{app}/storage/collections``: ``config`` (POST form ``name=``; GET; DELETE) and
``data/{collection}`` (POST, GET, DELETE, ``batch_save``, and one record by key). ``Authorization`` is ``Bearer
<token>`` or ``Splunk <session key>``.

What matters to a client: ``config`` and the others speak Atom XML unless ``output_mode=json`` is given, ``data``
always speaks JSON; an insert with a known ``_key`` is 409, ``batch_save`` upserts at most 1000 documents and stops at
the first bad one, keeping those before it; a query silently returns at most 50,000 rows; a field name must not
contain a dot; nothing expires. Every answer carries a ``Connection`` header, without which the SDK reads an empty
body.

Seed: ``{"collections": {"threat_watchlist": [{"_key": "ipv4:198.51.100.7", ...}]}}``, in app ``search``, owner
``nobody``; an empty list makes an empty collection. ``_available_at`` hides a document until the clock passes it.

Knobs: ``token``; ``username`` and ``password`` for the login; ``session_seconds`` (idle); ``apps``; ``read_only``
(writes answer 403); ``max_documents_per_batch_save`` and ``max_rows_per_query`` (limits.conf).

Not imitated: search, lookups, owners other than ``nobody`` (private collections), the ``/services`` form of the
KV-store paths, Basic authentication, ``batch_find``, changing a collection after it was made, field types
(``enforceTypes``) and acceleration (noted only), and of the query language everything but equality, ``$and``, ``$or``,
``$lt``, ``$lte``, ``$gt``, ``$gte`` and ``$ne``.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape, quoteattr

from fastapi import HTTPException, Request
from fastapi.responses import Response

from include.simulators.kit import Clock, Simulator, parse_instant

UNAUTHENTICATED = "call not properly authenticated"
BAD_LOGIN = "Login failed"
#: From recordings of third parties.
SAME_KEY = "A document with the same key and user already exists."
TOO_MANY = (
    "Request exceeds API limits - see limits.conf for details. "
    "(Too many documents for a single batch save, max_documents_per_batch_save={})"
)

# Inferred: the texts (and where noted the behaviour) below are recollection, not quotations.
NO_OBJECT = "Could not find object."
NO_COLLECTION = "Could not find collection: {}"
NO_APP = "Application does not exist: {}"
NO_OWNER = "Requested user could not be found."
NO_RIGHT = "You do not have permission to perform this operation."
SAME_NAME = "An object with name={} already exists"
UNKNOWN_ARGUMENT = 'Argument "{}" is not supported by this handler.'
NOT_JSON = "JSON in the request is invalid. ( JSON parse error )"
VERSION = "9.4.0"
COLLECTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
#: A collection has a 24-digit hexadecimal key for a document that brings none.
GENERATED_KEY_BYTES = 12
# Also inferred: documents go when their collection is deleted; fields= returns _key only when it names it; a
# client's own _user is overwritten; PUT on a key works like POST (a third party's client sends it).

COLLECTIONS = "/servicesNS/{owner}/{app}/storage/collections"
ATOM = "http://www.w3.org/2005/Atom"
REST = "http://dev.splunk.com/ns/rest"
SEARCH = "http://a9.com/-/spec/opensearch/1.1/"
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
}

Document = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    def __init__(self, status: int, text: str, kind: str = "ERROR") -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.kind = kind


class Collection:
    """One KV-store collection: its settings and its documents by key, in the order of insertion."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.settings = settings or {}
        self.documents: dict[str, Document] = {}

    def put(self, document: Document) -> str:
        key = document.get("_key") or secrets.token_hex(GENERATED_KEY_BYTES)
        self.documents[key] = document | {"_user": "nobody", "_key": key}
        return key


class SplunkSimulator(Simulator):
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
        config, data = f"{COLLECTIONS}/config", f"{COLLECTIONS}/data/{{collection}}"
        self._route("POST", "/services/auth/login", self.login, open_to_all=True)
        self._route("GET", "/services/server/info", self.server_info)
        self._route("GET", config, self.list_collections)
        self._route("POST", config, self.create_collection, write=True)
        self._route("GET", f"{config}/{{collection}}", self.get_collection)
        self._route("DELETE", f"{config}/{{collection}}", self.delete_collection, write=True)
        self._route("POST", f"{data}/batch_save", self.batch_save, write=True)
        for slash in ("", "/"):
            self._route("GET", data + slash, self.query)
            self._route("POST", data + slash, self.insert, write=True)
            self._route("DELETE", data + slash, self.delete_matching, write=True)
        # A key may contain an encoded slash, so it takes the rest of the path.
        self._route("GET", f"{data}/{{key:path}}", self.get_document)
        self._route("POST", f"{data}/{{key:path}}", self.replace_document, write=True)
        self._route("PUT", f"{data}/{{key:path}}", self.replace_document, write=True)
        self._route("DELETE", f"{data}/{{key:path}}", self.delete_document, write=True)
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            self._route(method, "/services/{rest:path}", self.nowhere)
            self._route(method, "/servicesNS/{rest:path}", self.nowhere)

    def clear(self) -> None:
        self.collections: dict[tuple[str, str], Collection] = {}
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
            }
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        if status == 401:
            return _messages(status, "WARN", detail or UNAUTHENTICATED, xml=False)
        return _messages(status, "ERROR", detail or f"The request failed with status {status}.", xml=False)

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
                wants_json = speaks_json or _output_mode(request, body) == "json"
                answer = _messages(refusal.status, refusal.kind, refusal.text, xml=not wants_json)
            return answer

        self.router.add_api_route(path, route, methods=[method], response_model=None)

    def _authorize(self, request: Request) -> None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        now = self.clock.timestamp()
        if scheme == "Splunk" and self.sessions.get(secret, 0) > now:
            self.sessions[secret] = now + self.knobs["session_seconds"]
        elif scheme != "Bearer" or secret != self.knobs["token"]:
            raise Refused(401, UNAUTHENTICATED, "WARN")

    async def login(self, request: Request) -> Response:
        form = await _form(request, {"username", "password", "cookie", "output_mode"})
        if (form.get("username"), form.get("password")) != (self.knobs["username"], self.knobs["password"]):
            raise Refused(401, BAD_LOGIN, "WARN")
        session = secrets.token_hex(32)
        self.sessions[session] = self.clock.timestamp() + self.knobs["session_seconds"]
        if form.get("output_mode") == "json":
            return _json({"sessionKey": session, "message": "", "code": ""})
        return _xml(
            f"<response>\n  <sessionKey>{session}</sessionKey>\n  <messages>\n"
            '    <msg code=""></msg>\n  </messages>\n</response>\n'
        )

    async def server_info(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        content = {"version": VERSION, "serverName": "splunk-simulator", "product_type": "enterprise", "build": "0"}
        return self._feed(request, "server-info", "/services/server/info", [("server-info", content)])

    async def nowhere(self, request: Request) -> Response:
        raise Refused(404, "Not Found")

    # Collections

    async def list_collections(self, request: Request) -> Response:
        arguments = _arguments(request, "output_mode", "count", "offset")
        app = self._app(request)
        names = sorted(name for owner_app, name in self.collections if owner_app == app)
        offset, count = _whole(arguments, "offset", 0), _whole(arguments, "count", 30)
        shown = names[offset : offset + count] if count > 0 else names[offset:]
        return self._config_feed(request, app, shown, total=len(names))

    async def create_collection(self, request: Request) -> Response:
        form = await _form(request, {"name", "output_mode", "replicate"}, prefixes=("field.", "accelerated_fields."))
        app, name = self._app(request), form.get("name", "")
        if not COLLECTION_NAME.fullmatch(name):
            raise Refused(400, "Cannot perform action POST without a valid target name to act on.")
        if (app, name) in self.collections:
            raise Refused(409, SAME_NAME.format(name))
        settings = {k: v for k, v in form.items() if k not in ("name", "output_mode")}
        self.collections[(app, name)] = Collection(settings)
        return self._config_feed(request, app, [name], status=201, as_json=form.get("output_mode") == "json")

    async def get_collection(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        app = self._app(request)
        self._collection(request, config=True)
        return self._config_feed(request, app, [request.path_params["collection"]])

    async def delete_collection(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        app = self._app(request)
        self._collection(request, config=True)
        del self.collections[(app, request.path_params["collection"])]
        return self._config_feed(request, app, sorted(name for a, name in self.collections if a == app))

    # Documents

    async def query(self, request: Request) -> Response:
        arguments = _arguments(request, "query", "fields", "skip", "limit", "sort", "output_mode")
        collection = self._collection(request)
        found = self._matching(collection, arguments)
        for field, descending in reversed(_sort_keys(arguments.get("sort", ""))):
            found.sort(key=lambda d, f=field: _order(_member(d, f)), reverse=descending)
        skip, limit = _whole(arguments, "skip", 0), _whole(arguments, "limit", 0)
        most = self.knobs["max_rows_per_query"]
        found = found[skip:][: min(limit or most, most)]  # more rows are dropped without a word
        project = _projection(arguments.get("fields", ""))
        return _json([project(d) for d in found])

    async def insert(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        document = _json_body(request, await request.body())
        collection = self._collection(request)
        _check_document(document)
        if document.get("_key") in collection.documents:
            raise Refused(409, SAME_KEY)
        return _json({"_key": collection.put(document)}, 201)

    async def batch_save(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        documents = _json_body(request, await request.body())
        collection = self._collection(request)
        if not isinstance(documents, list):
            raise Refused(400, "Request body must be a JSON array.")
        most = self.knobs["max_documents_per_batch_save"]
        if len(documents) > most:
            raise Refused(400, TOO_MANY.format(most))
        keys = []
        for document in documents:
            _check_document(document)  # what was saved before a bad document stays saved
            keys.append(collection.put(document))
        return _json(keys)

    async def delete_matching(self, request: Request) -> Response:
        arguments = _arguments(request, "query", "output_mode")
        collection = self._collection(request)
        for document in self._matching(collection, arguments):
            del collection.documents[document["_key"]]
        return _json(None)

    async def get_document(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        return _json(self._document(request))

    async def replace_document(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        document = _json_body(request, await request.body())
        known = self._document(request)
        _check_document(document)
        return _json({"_key": self._collection(request).put(document | {"_key": known["_key"]})})

    async def delete_document(self, request: Request) -> Response:
        _arguments(request, "output_mode")
        del self._collection(request).documents[self._document(request)["_key"]]
        return _json(None)

    def _app(self, request: Request) -> str:
        app = request.path_params["app"]
        if app not in self.knobs["apps"]:
            raise Refused(404, NO_APP.format(app))
        if request.path_params["owner"] != "nobody":
            raise Refused(404, NO_OWNER)
        return str(app)

    def _collection(self, request: Request, *, config: bool = False) -> Collection:
        name = request.path_params["collection"]
        collection = self.collections.get((self._app(request), name))
        if collection is None:
            raise Refused(404, NO_OBJECT if config else NO_COLLECTION.format(name))
        return collection

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
            return _json(
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
                f'<author><name>nobody</name></author><content type="text/xml">{_dict_xml(content)}</content></entry>'
            )
        return _xml("".join(parts) + "</feed>\n", status)


def matches(condition: Any, document: Document) -> bool:
    """
    Whether a document satisfies a query in the supported subset of MongoDB's language.

    :raises Refused: 400 for an operator or a shape outside the subset
    """
    if not isinstance(condition, dict):
        raise Refused(400, "The query must be a JSON object.")
    results = []
    for name, wanted in condition.items():
        if name in ("$and", "$or"):
            if not isinstance(wanted, list) or not wanted:
                raise Refused(400, f"{name} takes a non-empty array.")
            parts = [matches(part, document) for part in wanted]
            results.append(all(parts) if name == "$and" else any(parts))
        elif name.startswith("$"):
            raise Refused(400, f"The operator {name} is not supported.")
        elif isinstance(wanted, dict) and any(k.startswith("$") for k in wanted):
            results += [_compare(operator, _member(document, name), operand) for operator, operand in wanted.items()]
        else:
            results.append(_equal(_member(document, name), wanted))
    return all(results)


def _compare(operator: str, value: Any, operand: Any) -> bool:
    if operator == "$ne":
        return not _equal(value, operand)
    if operator not in OPERATORS:
        raise Refused(400, f"The operator {operator} is not supported.")
    # As in MongoDB, values of different kinds are neither less nor greater.
    return _kind(value) == _kind(operand) and _kind(value) != "other" and OPERATORS[operator](value, operand)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_equal(item, wanted) for item in value)
    return _kind(value) == _kind(wanted) and bool(value == wanted)


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "other"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else "other"


def _member(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _order(value: Any) -> tuple[int, Any]:
    """Sort key over mixed kinds: missing, numbers, texts, the rest."""
    kind = _kind(value)
    if value is None:
        return 0, 0
    return (1, value) if kind == "number" else (2, value) if kind == "text" else (3, json.dumps(value))


def _sort_keys(text: str) -> list[tuple[str, bool]]:
    keys = []
    for part in filter(None, text.split(",")):
        field, _, direction = part.partition(":")
        if not field or direction not in ("", "1", "-1"):
            raise Refused(400, "sort takes field, field:1 or field:-1.")
        keys.append((field, direction == "-1"))
    return keys


def _projection(text: str) -> Callable[[Document], Document]:
    """``a,b`` or ``a:1`` keeps these fields, ``a:0`` drops them; both in one request is an error."""
    named = dict(p.rpartition(":")[::2] if ":" in p else (p, "1") for p in filter(None, text.split(",")))
    directions = set(named.values())
    if not directions <= {"0", "1"} or len(directions) > 1:
        raise Refused(400, "fields takes names to keep (a,b) or names to drop (a:0), not both.")
    if not named:
        return lambda d: d
    keep = directions == {"1"}
    return lambda d: {k: v for k, v in d.items() if (k in named) == keep}


def _check_document(document: Any) -> None:
    if not isinstance(document, dict):
        raise Refused(400, "A document must be a JSON object.")
    key = document.get("_key")
    if "_key" in document and (not isinstance(key, str) or not key):
        raise Refused(400, "_key must be a non-empty string.")
    _check_names(document)


def _check_names(value: Any) -> None:
    if isinstance(value, list):
        for item in value:
            _check_names(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if "." in name or name.startswith("$"):
                raise Refused(400, f"Invalid field name: {name}")
            _check_names(item)


def _arguments(request: Request, *names: str) -> dict[str, str]:
    arguments = dict(request.query_params)
    for name in arguments:
        if name not in names:
            raise Refused(400, UNKNOWN_ARGUMENT.format(name))
    return arguments


async def _form(request: Request, names: set[str], prefixes: tuple[str, ...] = ()) -> dict[str, str]:
    # splunklib sends its forms without a Content-Type, and splunkd takes them.
    body = (await request.body()).decode("utf-8", "replace")
    form = dict(parse_qsl(body, keep_blank_values=True)) | dict(request.query_params)
    for name in form:
        if name not in names and not name.startswith(prefixes or "\0"):
            raise Refused(400, UNKNOWN_ARGUMENT.format(name))
    return form


def _output_mode(request: Request, body: bytes) -> str:
    return "json" if b"output_mode=json" in body else request.query_params.get("output_mode", "xml")


def _json_body(request: Request, body: bytes) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refused(400, "The Content-Type of this request must be application/json.")
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, NOT_JSON) from None


def _whole(arguments: dict[str, str], name: str, default: int) -> int:
    text = arguments.get(name, str(default))
    # The SDK asks for all entries with count=-1.
    if not re.fullmatch(r"\d+", text, re.ASCII) and not (name == "count" and text == "-1"):
        raise Refused(400, f"{name} must be a non-negative integer.")
    return int(text)


def _answer(content: str, media_type: str, status: int) -> Response:
    # splunkd names the connection's fate in every answer; splunklib closes the socket unread when it is missing.
    return Response(content, status, media_type=media_type, headers={"Connection": "keep-alive", "Server": "Splunkd"})


def _json(document: Any, status: int = 200) -> Response:
    return _answer("" if document is None else json.dumps(document), "application/json", status)


def _xml(text: str, status: int = 200) -> Response:
    return _answer(text, "text/xml", status)


def _messages(status: int, kind: str, text: str, *, xml: bool) -> Response:
    if xml:
        message = f"<msg type={quoteattr(kind)}>{escape(text)}</msg>"
        return _xml(f"<response>\n  <messages>\n    {message}\n  </messages>\n</response>\n", status)
    return _json({"messages": [{"type": kind, "text": text}]}, status)


def _dict_xml(content: dict[str, Any]) -> str:
    keys = "".join(
        f"<s:key name={quoteattr(k)}>{_dict_xml(v) if isinstance(v, dict) else escape(str(v))}</s:key>"
        for k, v in content.items()
    )
    return f"<s:dict>{keys}</s:dict>"
