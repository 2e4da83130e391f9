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
``max_page_size``; ``pages_by`` (``next``; ``number``: the same as a number; ``constant``: one ``next`` for all pages,
which goes on in the server, as medallion's does; or ``added_after``: the page says ``more`` without a ``next``);
``last_of_nothing`` (what ``X-TAXII-Date-Added-Last`` says of an empty page, where it is sent at all);
``roots_at`` (the address in discovery's ``api_roots``, e.g. that of an inner host; None: that of the request, "": paths
only); ``default_root`` (None: discovery names no default); ``whole_seconds`` (the server's times have no fraction);
``media_type`` (of every answer).

Not imitated: who may see that a collection is there, several versions of the standard at once, the default of
``match[spec_version]`` (the newest), asynchronous adding (a status is complete at once), ``max_content_length``.
Stricter than many servers: an unknown parameter is refused.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from include.simulators.kit import Clock
from include.simulators.taxii.answers import (
    FILTERS,
    MEDIA_TYPE,
    TITLES,
    Refused,
    page_token,
    query_of,
    read_token,
    text_of,
    whole,
)
from include.simulators.taxii.state import Added, Roots, read_filter

Handler = Callable[..., Awaitable[Response]]


class TaxiiSimulator(Roots):
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
        "last_of_nothing": None,
        "roots_at": None,
        "default_root": "intel",
        "whole_seconds": False,
        "media_type": MEDIA_TYPE,
    }

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        #: Where the page behind a constant ``next`` begins.
        self._goes_on_at = 0
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
        query_of(request)
        base = self.knobs["roots_at"]
        address = f"{request.url.scheme}://{request.url.netloc}" if base is None else base
        roots = {name: f"{address}/taxii2/{name}/" for name in self.roots}
        default = roots.get(self.knobs["default_root"] or "")
        named = {"default": default} if default else {}
        return self._json({"title": self.title, **named, **({"api_roots": list(roots.values())} if roots else {})})

    async def api_root(self, request: Request, root: str) -> Response:
        query_of(request)
        title = self._root(root).title
        return self._json({"title": title, "versions": [MEDIA_TYPE], "max_content_length": 10_485_760})

    async def collections(self, request: Request, root: str) -> Response:
        query_of(request)
        found = [collection.shown() for collection in self._root(root).collections.values()]
        return self._json({"collections": found} if found else {})

    async def collection(self, request: Request, root: str, collection_id: str) -> Response:
        query_of(request)
        return self._json(self._collection(root, collection_id).shown())

    async def status(self, request: Request, root: str, status_id: str) -> Response:
        query_of(request)
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
        query_of(request)
        collection = self._writable(root, collection_id)
        gone = self._versions_of(collection.added, object_id)
        collection.added = [one for one in collection.added if one not in gone]
        return Response(status_code=200)

    async def add(self, request: Request, root: str, collection_id: str) -> Response:
        query_of(request)
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
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{root}{collection_id}{text_of(now)}{ids}")),
            "status": "complete",
            "request_timestamp": text_of(now),
            "total_count": len(given),
            "success_count": len(given),
            "failure_count": 0,
            "pending_count": 0,
            "successes": [{"id": id_, "version": text_of(now)} for id_ in ids],
        }
        self._root(root).statuses[str(status["id"])] = status
        return self._json(status, 202)

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
        query = query_of(request, "added_after", "limit", "next", *filters)
        limit = min(whole(query.get("limit", str(self.knobs["max_page_size"]))), self.knobs["max_page_size"])
        same = {k: v for k, v in query.items() if k not in ("limit", "next")}
        found = read_filter(added, query, every_version=every_version)
        start = self._start(query.get("next"), same)
        page, more = found[start : start + limit], start + limit < len(found)
        if not page:
            last = self.knobs["last_of_nothing"]
            return self._json({}, headers={"X-TAXII-Date-Added-Last": last} if last else None)
        follow = {"next": self._next(start + limit, same)} if more and self.knobs["pages_by"] != "added_after" else {}
        headers = {
            "X-TAXII-Date-Added-First": text_of(page[0].at),
            "X-TAXII-Date-Added-Last": text_of(page[-1].at),
        }
        return self._json({"more": more, **follow, what: [show(one) for one in page]}, headers=headers)

    def _start(self, token: str | None, same: dict[str, str]) -> int:
        if token is None:
            return 0
        if self.knobs["pages_by"] == "number":
            return whole(token)
        return self._goes_on_at if self.knobs["pages_by"] == "constant" else read_token(token, same)

    def _next(self, start: int, same: dict[str, str]) -> str | int:
        self._goes_on_at = start
        by = self.knobs["pages_by"]
        return start if by == "number" else "one-for-all" if by == "constant" else page_token(start, same)

    def _entry(self, one: Added) -> dict[str, Any]:
        return {
            "id": one.stix["id"],
            "date_added": text_of(one.at),
            "version": one.version,
            "media_type": f"application/stix+json;version={one.spec_version}",
        }

    def _json(self, document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        answer = Response(json.dumps(document), status, headers=headers)
        answer.headers["Content-Type"] = self.knobs["media_type"]
        return answer
