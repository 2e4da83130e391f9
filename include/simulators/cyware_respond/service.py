"""How every request is answered: signature, throttle, the query's names, the envelope and the pages."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from include.simulators.cyware_respond.answers import (
    BY_NAME,
    DEFAULT_DETAIL,
    Call,
    Record,
    Refused,
    positive,
    read_json,
    same,
)
from include.simulators.cyware_respond.state import RespondState

BASE = "/cftrapi/openapi"
ANYWHERE = "/cftrapi/{rest:path}"
AUTH_QUERY = frozenset({"AccessID", "Expires", "Signature"})
PAGING = frozenset({"page", "page_size"})


class RespondService(RespondState):
    """The part of the Open API that all its paths share."""

    def error(self, status: int, detail: str | None = None) -> Response:
        return self._refusal(Refused(status, detail))

    def _serve(
        self, method: str, path: str, handle: Callable[[Call], Response], query: Iterable[str] = frozenset()
    ) -> None:
        allowed = frozenset(query)

        async def endpoint(request: Request) -> Response:
            raw = await request.body() if method in ("POST", "PUT") else None
            return self._answer(request, raw, handle, allowed)

        self.router.add_api_route(BASE + path, endpoint, methods=[method], response_model=None)

    def _answer(
        self, request: Request, raw: bytes | None, handle: Callable[[Call], Response], allowed: frozenset[str]
    ) -> Response:
        try:
            self._authenticate(request)
            self._throttle()
            query = {k: v for k, v in request.query_params.items() if k not in AUTH_QUERY}
            unknown = sorted(set(query) - allowed)
            if unknown and self.knobs["unknown_query"] == "refuse":
                raise Refused(400, {name: ["Unknown query parameter."] for name in unknown})
            if query.get("values", BY_NAME) != BY_NAME:
                raise Refused(400, {"values": [f'"{query["values"]}" is not a valid choice.']})
            body = {} if raw is None else read_json(request, raw)
            return handle(Call(request.url, dict(request.path_params), query, body))
        except Refused as refusal:
            return self._refusal(refusal)

    async def _elsewhere(self, request: Request) -> Response:
        """Paths and methods that are not served. Like Django: the URL first, then the caller, then the method."""
        path = request.url.path
        methods = self._methods(path)
        if methods:
            refusal = Refused(405, f'Method "{request.method}" not allowed.', Allow=", ".join(sorted(methods)))
            return self._answer(request, None, lambda _: self._refusal(refusal), frozenset(request.query_params))
        if not path.endswith("/") and self._methods(path + "/"):
            if request.method in ("GET", "HEAD"):
                return Response(status_code=301, headers={"Location": str(request.url.replace(path=path + "/"))})
            return self.error(
                500,
                f"You called this URL via {request.method}, but the URL doesn't end in a slash and you have "
                f"APPEND_SLASH set. Django can't redirect to the slash URL while maintaining {request.method} data.",
            )
        return self.error(404)

    def _methods(self, path: str) -> set[str]:
        routes = [r for r in self.router.routes if isinstance(r, APIRoute) and r.path != ANYWHERE]
        return {method for route in routes if route.path_regex.match(path) for method in route.methods}

    def _authenticate(self, request: Request) -> None:
        def refuse(detail: str) -> Refused:
            return Refused(self.knobs["auth_status"], detail)

        token = request.headers.get("Authorization")
        if token is not None and self.knobs["bearer_token"] is not None:
            if not same(token, f"Bearer {self.knobs['bearer_token']}"):
                raise refuse("Invalid token.")
            return
        access_id, expires, signature = (request.query_params.get(k) for k in ("AccessID", "Expires", "Signature"))
        if access_id is None or expires is None or signature is None:
            raise refuse("Authentication credentials were not provided.")
        if not same(access_id, self.knobs["access_id"]):
            raise refuse("Invalid AccessID.")
        if not re.fullmatch(r"[0-9]{1,12}", expires):
            raise refuse("Expires must be the Unix time in seconds.")
        message = f"{access_id}\n{expires}".encode()
        digest = hmac.new(self.knobs["secret_key"].encode(), message, hashlib.sha1).digest()
        if not same(signature, base64.b64encode(digest).decode()):
            raise refuse("Invalid Signature.")
        left = int(expires) - self.clock.timestamp() - self.knobs["clock_skew_seconds"]
        if left < 0:
            raise refuse("Signature has expired.")
        if left > self.knobs["max_ttl"]:
            raise refuse("Expires is too far in the future.")

    def _throttle(self) -> None:
        """A sliding window over authenticated requests, as REST Framework's throttle counts."""
        now, window = self.clock.timestamp(), self.knobs["rate_window_seconds"]
        # A test may turn the clock back; what was spent "later" is then forgotten.
        self._spent = deque(t for t in self._spent if now - window < t <= now)
        if len(self._spent) < self.knobs["rate_limit"]:
            self._spent.append(now)
            return
        wait = math.ceil(window - (now - self._spent[0])) if self._spent else window
        headers = {"Retry-After": str(wait)} if self.knobs["retry_after_header"] else {}
        raise Refused(429, f"Request was throttled. Expected available in {wait} seconds.", **headers)

    def _refusal(self, refusal: Refused) -> Response:
        body = refusal.body or DEFAULT_DETAIL.get(refusal.status, "Error.")
        if self.knobs["error_style"] == "orchestrate":
            result = body if isinstance(body, dict) else {"non_field_error": body}
            document: dict[str, Any] = {"result": result, "status_code": str(refusal.status)}
        else:
            document = body if isinstance(body, dict) else {"detail": body}
        return JSONResponse(document, refusal.status, headers=refusal.headers)

    def _page(self, call: Call, rows: list[Record]) -> Response:
        size = min(positive(call.query.get("page_size")) or self.knobs["page_size"], self.knobs["max_page_size"])
        number = positive(call.query.get("page", "1"))
        pages = max(1, math.ceil(len(rows) / size))
        if number is None or (number > pages and self.knobs["past_end"] != "empty"):
            raise Refused(404, "Invalid page.")

        def link(to: int) -> str | None:
            # The caller's own signature stays in it, as REST Framework's links keep the whole query: a client that
            # follows it late gets a 401.
            if not (self.knobs["next_link"] and 1 <= to <= pages):
                return None
            return str(call.url.include_query_params(page=to))

        links = {"next": link(number + 1), "previous": link(number - 1)}
        found = {"count": len(rows), "results": rows[(number - 1) * size : number * size]}
        return JSONResponse({"link": links, **found} if self.knobs["envelope"] == "link" else {**links, **found})
