"""A TAXII 2.1 server, as the standard describes it (https://docs.oasis-open.org/cti/taxii/v2.1/os/taxii-v2.1-os.html).

Paths: discovery ``/taxii2/``, and below each API root ``/taxii2/{root}/``: the root itself, ``collections/``,
``collections/{id}/``, its ``objects/`` (GET, POST), ``objects/{id}/`` (GET, DELETE), ``objects/{id}/versions/``,
``manifest/``, and ``status/{id}/``. A request must accept ``application/taxii+json;version=2.1``, else it is 406. A
page holds objects in the order in which they were added; ``X-TAXII-Date-Added-First`` and ``-Last`` tell of it.

Seed::

    {"title": "...", "roots": {"intel": {"title": "...", "collections": [
        {"id": "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "title": "...", "can_read": true, "can_write": false,
         "objects": [{"type": "indicator", "id": "indicator--...", "_date_added": "2026-11-20T00:00:00Z", ...}]}]}}}

Seeding a collection again adds to it. ``_date_added`` defaults to the moment of seeding, one microsecond later for each
object; an object is not there until the clock passes it.

Knobs: ``auth`` (basic, bearer, header, none) with ``username``, ``password``, ``key`` and ``key_header``;
``max_page_size``; ``pages_by`` (``next``, or ``added_after``: the page says ``more`` without a ``next``);
``roots_at`` (the address in discovery's ``api_roots``, e.g. that of an inner host; None: that of the request, "": paths
only); ``default_root`` (None: discovery names no default); ``whole_seconds`` (the server's times have no fraction);
``media_type`` (of every answer).

Not imitated: who may see that a collection is there, several versions of the standard at once, the default of
``match[spec_version]`` (the newest), asynchronous adding (a status is complete at once), ``max_content_length``.
Stricter than many servers: an unknown parameter is refused.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response

from include.simulators.kit import Clock, Simulator, parse_instant

MEDIA_TYPE = "application/taxii+json;version=2.1"
FILTERS = ("match[id]", "match[type]", "match[version]", "match[spec_version]")
TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    406: "Not acceptable",
    415: "Unsupported media type",
    422: "Unprocessable content",
    429: "Too many requests",
}
Stix = dict[str, Any]


class Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Added:
    """A version of an object, and when it came."""

    stix: Stix
    at: datetime

    @property
    def version(self) -> str:
        """STIX 2.1's cyber observables have none of their own: when they were added is their version."""
        return str(self.stix.get("modified") or self.stix.get("created") or _text(self.at))

    @property
    def spec_version(self) -> str:
        return str(self.stix.get("spec_version", "2.0" if "created" in self.stix else "2.1"))


@dataclass
class Collection:
    id: str
    title: str
    description: str | None = None
    can_read: bool = True
    can_write: bool = False
    added: list[Added] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        described = {"description": self.description} if self.description else {}
        rights = {"can_read": self.can_read, "can_write": self.can_write}
        media = sorted({f"application/stix+json;version={one.spec_version}" for one in self.added})
        return {"id": self.id, "title": self.title, **described, **rights, **({"media_types": media} if media else {})}


@dataclass
class Root:
    title: str
    collections: dict[str, Collection] = field(default_factory=dict)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)


Handler = Callable[..., Awaitable[Response]]


class TaxiiSimulator(Simulator):
    product = "taxii"
    prefixes = ("/taxii2",)
    settings = {
        "auth": "basic",
        "username": "demo-reader",
        "password": "demo-taxii-password",
        "key": "demo-taxii-key",
        "key_header": "X-Api-Key",
        "max_page_size": 100,
        "pages_by": "next",
        "roots_at": None,
        "default_root": "intel",
        "whole_seconds": False,
        "media_type": MEDIA_TYPE,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        collection = "/taxii2/{root}/collections/{collection_id}/"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/taxii2/", self.discovery),
            ("GET", "/taxii2/{root}/", self.api_root),
            ("GET", "/taxii2/{root}/collections/", self.collections),
            ("GET", "/taxii2/{root}/status/{status_id}/", self.status),
            ("GET", collection, self.collection),
            ("GET", collection + "objects/", self.objects),
            ("POST", collection + "objects/", self.add),
            ("GET", collection + "objects/{object_id}/", self.object),
            ("DELETE", collection + "objects/{object_id}/", self.delete),
            ("GET", collection + "objects/{object_id}/versions/", self.versions),
            ("GET", collection + "manifest/", self.manifest),
        ]
        for method, path, handler in routes:
            self.router.add_api_route(path, self._guarded(handler), methods=[method], response_model=None)
        self.router.add_api_route(
            "/taxii2/{rest:path}", self._guarded(self.nowhere), methods=["GET", "POST", "DELETE"], response_model=None
        )

    def clear(self) -> None:
        self.title = "TAXII simulator"
        self.roots: dict[str, Root] = {}

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"title", "roots"}:
            raise HTTPException(400, f"taxii: unknown seed members {sorted(set(data) - {'title', 'roots'})}")
        self.title = data.get("title", self.title)
        now = self.clock.now()
        for name, given in data.get("roots", {}).items():
            root = self.roots.setdefault(name, Root(given.get("title", name)))
            for record in given.get("collections", []):
                kept = {k: v for k, v in record.items() if k != "objects"}
                collection = root.collections.setdefault(record["id"], Collection(**kept))
                for number, stix in enumerate(record.get("objects", [])):
                    at = stix.get("_date_added")
                    when = parse_instant(at) if at else now + timedelta(microseconds=number)
                    self._put(collection, {k: v for k, v in stix.items() if k != "_date_added"}, when)

    def snapshot(self) -> dict[str, Any]:
        return {
            name: {collection.title: len(collection.added) for collection in root.collections.values()}
            for name, root in self.roots.items()
        }

    def error(self, status: int, detail: str | None = None) -> Response:
        title = TITLES.get(status, "Error")
        body = {"title": title, "description": detail or title, "http_status": str(status)}
        answer = self._json(body, status)
        if status == 401:
            answer.headers["WWW-Authenticate"] = 'Basic realm="Authentication Required"'
        return answer

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def route(request: Request) -> Response:
            try:
                if not self._is_known(request):
                    raise Refused(401, "The client needs to authenticate")
                accepted = [part.replace(" ", "") for part in request.headers.get("accept", "").split(",")]
                if not {MEDIA_TYPE, "application/taxii+json", "*/*"} & set(accepted):
                    raise Refused(406, "Media type in the Accept header is invalid or not found")
                return await handler(request, **request.path_params)
            except Refused as refusal:
                return self.error(refusal.status, refusal.detail)

        return route

    def _is_known(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        if self.knobs["auth"] == "basic":
            pair = f"{self.knobs['username']}:{self.knobs['password']}"
            return given == f"Basic {base64.b64encode(pair.encode()).decode()}"
        if self.knobs["auth"] == "bearer":
            return given == f"Bearer {self.knobs['key']}"
        if self.knobs["auth"] == "header":
            return bool(request.headers.get(self.knobs["key_header"]) == self.knobs["key"])
        return True

    async def nowhere(self, request: Request, rest: str) -> Response:
        raise Refused(404, "The path is not found")

    async def discovery(self, request: Request) -> Response:
        _query(request)
        base = self.knobs["roots_at"]
        address = f"{request.url.scheme}://{request.url.netloc}" if base is None else base
        roots = {name: f"{address}/taxii2/{name}/" for name in self.roots}
        default = roots.get(self.knobs["default_root"] or "")
        named = {"default": default} if default else {}
        return self._json({"title": self.title, **named, **({"api_roots": list(roots.values())} if roots else {})})

    async def api_root(self, request: Request, root: str) -> Response:
        _query(request)
        title = self._root(root).title
        return self._json({"title": title, "versions": [MEDIA_TYPE], "max_content_length": 10_485_760})

    async def collections(self, request: Request, root: str) -> Response:
        _query(request)
        found = [collection.shown() for collection in self._root(root).collections.values()]
        return self._json({"collections": found} if found else {})

    async def collection(self, request: Request, root: str, collection_id: str) -> Response:
        _query(request)
        return self._json(self._collection(root, collection_id).shown())

    async def status(self, request: Request, root: str, status_id: str) -> Response:
        _query(request)
        if status_id not in self._root(root).statuses:
            raise Refused(404, f"Status '{status_id}' not found")
        return self._json(self._root(root).statuses[status_id])

    async def objects(self, request: Request, root: str, collection_id: str) -> Response:
        return self._page(request, self._readable(root, collection_id), FILTERS, lambda one: one.stix)

    async def manifest(self, request: Request, root: str, collection_id: str) -> Response:
        return self._page(request, self._readable(root, collection_id), FILTERS, self._entry)

    async def object(self, request: Request, root: str, collection_id: str, object_id: str) -> Response:
        found = self._versions_of(self._readable(root, collection_id), object_id)
        return self._page(request, found, ("match[version]", "match[spec_version]"), lambda one: one.stix)

    async def versions(self, request: Request, root: str, collection_id: str, object_id: str) -> Response:
        found = self._versions_of(self._readable(root, collection_id), object_id)
        return self._page(
            request, found, ("match[spec_version]",), lambda one: one.version, what="versions", every_version=True
        )

    async def delete(self, request: Request, root: str, collection_id: str, object_id: str) -> Response:
        _query(request)
        collection = self._writable(root, collection_id)
        gone = self._versions_of(collection.added, object_id)
        collection.added = [one for one in collection.added if one not in gone]
        return Response(status_code=200)

    async def add(self, request: Request, root: str, collection_id: str) -> Response:
        _query(request)
        collection = self._writable(root, collection_id)
        if request.headers.get("content-type", "").replace(" ", "") not in (MEDIA_TYPE, "application/taxii+json"):
            raise Refused(415, "Media type in the Content-Type header is invalid or not found")
        try:
            given = json.loads(await request.body())["objects"]
            ids = [stix["id"] for stix in given]
        except (ValueError, KeyError, TypeError):
            raise Refused(422, "The body is not a TAXII envelope of STIX objects") from None
        now = self.clock.now()
        for number, stix in enumerate(given):
            self._put(collection, stix, now + timedelta(microseconds=number))
        status = {
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{root}{collection_id}{_text(now)}{ids}")),
            "status": "complete",
            "request_timestamp": _text(now),
            "total_count": len(given),
            "success_count": len(given),
            "failure_count": 0,
            "pending_count": 0,
            "successes": [{"id": id_, "version": _text(now)} for id_ in ids],
        }
        self._root(root).statuses[str(status["id"])] = status
        return self._json(status, 202)

    def _put(self, collection: Collection, stix: Stix, at: datetime) -> None:
        when = at.replace(microsecond=0) if self.knobs["whole_seconds"] else at
        new = Added(stix, when)
        if all(one.stix["id"] != stix["id"] or one.version != new.version for one in collection.added):
            collection.added.append(new)
            collection.added.sort(key=lambda one: one.at)

    def _root(self, name: str) -> Root:
        if name not in self.roots:
            raise Refused(404, f"API root '{name}' not found")
        return self.roots[name]

    def _collection(self, root: str, collection_id: str) -> Collection:
        collections = self._root(root).collections
        if collection_id not in collections:
            raise Refused(404, f"Collection '{collection_id}' not found")
        return collections[collection_id]

    def _readable(self, root: str, collection_id: str) -> list[Added]:
        collection = self._collection(root, collection_id)
        if not collection.can_read:
            raise Refused(403, f"Forbidden to read collection '{collection_id}'")
        now = self.clock.now()
        return [one for one in collection.added if one.at <= now]

    def _writable(self, root: str, collection_id: str) -> Collection:
        collection = self._collection(root, collection_id)
        if not collection.can_write:
            raise Refused(403, f"Forbidden to write collection '{collection_id}'")
        return collection

    @staticmethod
    def _versions_of(added: Sequence[Added], object_id: str) -> list[Added]:
        found = [one for one in added if one.stix["id"] == object_id]
        if not found:
            raise Refused(404, f"Object '{object_id}' not found")
        return found

    def _page(
        self,
        request: Request,
        added: Sequence[Added],
        filters: Sequence[str],
        show: Callable[[Added], Any],
        *,
        what: str = "objects",
        every_version: bool = False,
    ) -> Response:
        query = _query(request, "added_after", "limit", "next", *filters)
        limit = min(_whole(query.get("limit", str(self.knobs["max_page_size"]))), self.knobs["max_page_size"])
        same = {k: v for k, v in query.items() if k not in ("limit", "next")}
        found = _filter(added, query, every_version=every_version)
        start = _read_token(query["next"], same) if "next" in query else 0
        page, more = found[start : start + limit], start + limit < len(found)
        if not page:
            return self._json({})
        follow = {"next": _token(start + limit, same)} if more and self.knobs["pages_by"] == "next" else {}
        headers = {
            "X-TAXII-Date-Added-First": _text(page[0].at),
            "X-TAXII-Date-Added-Last": _text(page[-1].at),
        }
        return self._json({"more": more, **follow, what: [show(one) for one in page]}, headers=headers)

    def _entry(self, one: Added) -> dict[str, Any]:
        return {
            "id": one.stix["id"],
            "date_added": _text(one.at),
            "version": one.version,
            "media_type": f"application/stix+json;version={one.spec_version}",
        }

    def _json(self, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        answer = Response(json.dumps(document), status, headers=headers)
        answer.headers["Content-Type"] = self.knobs["media_type"]
        return answer


def _filter(added: Sequence[Added], query: dict[str, str], *, every_version: bool) -> list[Added]:
    found = list(added)
    if "added_after" in query:
        after = _instant(query["added_after"])
        found = [one for one in found if one.at > after]
    if "match[id]" in query:
        found = [one for one in found if one.stix["id"] in query["match[id]"].split(",")]
    if "match[type]" in query:
        found = [one for one in found if one.stix["type"] in query["match[type]"].split(",")]
    if "match[spec_version]" in query:
        found = [one for one in found if one.spec_version in query["match[spec_version]"].split(",")]
    wanted = "all" if every_version else query.get("match[version]", "last")
    if wanted == "all":
        return found
    chosen: set[tuple[str, str]] = set()
    for word in wanted.split(","):
        for id_ in {one.stix["id"] for one in found}:
            versions = sorted(one.version for one in found if one.stix["id"] == id_)
            picked = {"first": versions[:1], "last": versions[-1:]}.get(word, [v for v in versions if v == word])
            chosen |= {(id_, version) for version in picked}
    return [one for one in found if (one.stix["id"], one.version) in chosen]


def _query(request: Request, *known: str) -> dict[str, str]:
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise Refused(400, f"The server did not understand the filter parameters {unknown}")
    return dict(request.query_params)


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise Refused(400, "The limit parameter is a positive number")
    return int(text)


def _instant(text: str) -> datetime:
    try:
        return parse_instant(text)
    except ValueError:
        raise Refused(400, "added_after is not a timestamp") from None


def _text(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _token(start: int, same: dict[str, str]) -> str:
    """Where a page goes on. It holds only for the query that it was given for."""
    return f"{start}-{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]}"


def _read_token(token: str, same: dict[str, str]) -> int:
    start = token.partition("-")[0]
    if not start.isdigit() or token != _token(int(start), same):
        raise Refused(400, "next is not valid: the parameters changed over subsequent requests")
    return int(start)
