"""EdgeGrid (EG1-HMAC-SHA256) as the simulators of Akamai check it: the edge's side of the signature.

Written from the description of the algorithm (https://techdocs.akamai.com/developer/docs/authenticate-with-edgegrid),
not from Akamai's signer, so that the signer can judge it. What is signed::

    METHOD TAB scheme TAB host[:port] TAB path[?query] TAB headers TAB content-hash TAB authorization-without-signature

The content hash covers the first ``max_body`` bytes of a POST body and is empty for every other method. Path and
query are taken as sent, still percent-encoded.

Knobs that every simulator behind EdgeGrid has (:data:`EDGEGRID_SETTINGS`): the accepted ``client_token``,
``client_secret`` and ``access_token``; ``granted`` (False: authenticated, but without the API's grant: 403);
``max_body``; ``timestamp_window_seconds`` (None switches the check off, for a test that moves the simulated clock
while its client signs with the real one).

Not imitated: signed headers on the wire (none of the APIs here asks for one), TLS termination in front of the
simulators (the scheme and Host that reach the simulator are the ones that must have been signed), accounts and
account switching (``accountSwitchKey`` is accepted and has no effect).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from include.simulators.kit import Clock, Simulator

PROBLEM_JSON = "application/problem+json"
_SCHEME = "EG1-HMAC-SHA256"
_TIMESTAMP = "%Y%m%dT%H:%M:%S+0000"
_MEMBERS = ("client_token", "access_token", "timestamp", "nonce", "signature")

#: The 400 body is known from a real answer; ``pep-authn/deny`` with "The signature does not match" from reports of
#: users (akamai/edgegrid-curl issue 6). INFERRED: every other text, the 403's type, 401 for a replayed nonce and for
#: a missing header, and the window of 30 seconds (81 seconds of skew are known to be refused).
EDGEGRID_SETTINGS: dict[str, Any] = {
    "client_token": "akab-client-token-of-the-simulator",
    "client_secret": "client-secret-of-the-simulator",
    "access_token": "akab-access-token-of-the-simulator",
    "granted": True,
    "max_body": 131072,
    "timestamp_window_seconds": 30,
}
_INVALID_TIMESTAMP = (400, "pep-authn/request-error", "Bad request", "Invalid timestamp")
_NO_HEADER = (401, "pep-authn/deny", "Not authorized", "Invalid authorization header")
_UNKNOWN_CLIENT = (401, "pep-authn/deny", "Not authorized", "Invalid client token")
_UNKNOWN_ACCESS = (401, "pep-authn/deny", "Not authorized", "Invalid access token")
_BAD_SIGNATURE = (401, "pep-authn/deny", "Not authorized", "The signature does not match")
_REPLAYED = (401, "pep-authn/deny", "Not authorized", "Nonce has been used already")
_NO_GRANT = (403, "pep-authz/deny", "Forbidden", "The client does not have the grant needed for the request")


class Refused(Exception):
    """Ends a handler with the vendor's error answer; nothing may have been changed before it is raised."""

    def __init__(self, status: int, detail: str | None = None) -> None:
        super().__init__(detail or str(status))
        self.status = status
        self.detail = detail


@dataclass(frozen=True)
class Authorization:
    """The members of an ``Authorization: EG1-HMAC-SHA256 ...`` header, and the text that was signed as part of it."""

    client_token: str
    access_token: str
    timestamp: str
    nonce: str
    signature: str
    unsigned: str


def parse_authorization(header: str) -> Authorization | None:
    """The header's members, or None when it is not a complete EG1 header."""
    scheme, _, rest = header.partition(" ")
    if scheme != _SCHEME:
        return None
    pairs = [part.partition("=") for part in rest.split(";")]
    members = {name: value for name, _, value in pairs}
    if tuple(name for name, _, _ in pairs) != _MEMBERS or not all(members.values()):
        return None
    return Authorization(**members, unsigned=header[: -len(f"signature={members['signature']}")])


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), "sha256")).decode()


def data_to_sign(
    *,
    method: str,
    scheme: str,
    host: str,
    path_and_query: str,
    unsigned: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    headers_to_sign: Sequence[str] = (),
    max_body: int = 131072,
) -> str:
    """The text that both sides sign. ``headers`` is keyed by lower-case names; ``unsigned`` ends in ``;``."""
    given = headers or {}
    names = [name.lower() for name in headers_to_sign]
    canonical = "\t".join(f"{name}:{' '.join(given[name].split())}" for name in names if name in given)
    content_hash = ""
    if method == "POST" and body:
        content_hash = base64.b64encode(hashlib.sha256(body[:max_body]).digest()).decode()
    return "\t".join((method, scheme, host, path_and_query, canonical, content_hash, unsigned))


def sign(client_secret: str, timestamp: str, text: str) -> str:
    """The signature of ``text``: the key is itself an HMAC of the timestamp, used as base64 text."""
    return _hmac(_hmac(client_secret, timestamp), text)


class EdgeGridGate:
    """Decides whether a request may pass. Remembers nonces for as long as their timestamp would be accepted."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._nonces: dict[tuple[str, str], float] = {}

    def check(self, request: Request, body: bytes, knobs: Mapping[str, Any]) -> Response | None:
        """None to let the request pass, else Akamai's refusal."""
        reason = self._reason(request, body, knobs)
        return self._refusal(request, *reason) if reason else None

    def _reason(self, request: Request, body: bytes, knobs: Mapping[str, Any]) -> tuple[int, str, str, str] | None:
        claim = parse_authorization(request.headers.get("authorization", ""))
        if claim is None:
            return _NO_HEADER
        now, window = self.clock.timestamp(), knobs["timestamp_window_seconds"]
        try:
            signed_at = datetime.strptime(claim.timestamp, _TIMESTAMP).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return _INVALID_TIMESTAMP
        if window is not None and abs(now - signed_at) > window:
            return _INVALID_TIMESTAMP
        if claim.client_token != knobs["client_token"]:
            return _UNKNOWN_CLIENT
        if claim.access_token != knobs["access_token"]:
            return _UNKNOWN_ACCESS
        text = data_to_sign(
            method=request.method,
            scheme=request.scope["scheme"],
            host=request.headers.get("host", ""),
            path_and_query=path_and_query(request),
            unsigned=claim.unsigned,
            body=body,
            max_body=knobs["max_body"],
        )
        if not hmac.compare_digest(sign(knobs["client_secret"], claim.timestamp, text), claim.signature):
            return _BAD_SIGNATURE
        if window is not None:
            self._nonces = {key: at for key, at in self._nonces.items() if abs(now - at) <= window}
        key = (claim.client_token, claim.nonce)
        if key in self._nonces:
            return _REPLAYED
        self._nonces[key] = signed_at
        return None if knobs["granted"] else _NO_GRANT

    def _refusal(self, request: Request, status: int, kind: str, title: str, detail: str) -> Response:
        host = request.headers.get("host", "")
        problem = {
            "type": f"https://problems.luna.akamaiapis.net/-/{kind}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": f"{request.scope['scheme']}://{host}{path_and_query(request)}",
            "method": request.method,
            "serverIp": "192.0.2.10",
            "clientIp": request.client.host if request.client else "",
            "requestId": uuid.uuid4().hex[:7],
            "requestTime": self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return JSONResponse(problem, status, media_type=PROBLEM_JSON)


def path_and_query(request: Request) -> str:
    """Path and query exactly as they were sent."""
    query = request.scope["query_string"].decode("latin-1")
    return request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")


def reason_phrase(status: int) -> str:
    """The status's name, also for the unregistered ones that a fault may ask for."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


Handler = Callable[[Request, bytes], Response]


class EdgeGridSimulator(Simulator):
    """
    Base of the simulators behind EdgeGrid.

    A subclass registers handlers with :meth:`on` and closes with :meth:`refuse_the_rest`. Handlers are plain
    functions of the request and its body, called only when the signature is right; they may raise :class:`Refused`.
    """

    def clear(self) -> None:
        self.gate = EdgeGridGate(self.clock)

    def on(self, method: str, path: str, handler: Handler) -> None:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            refusal = self.gate.check(request, body, self.knobs)
            if refusal is not None:
                return refusal
            return self.answer(handler, request, body)

        self.router.add_api_route(path, endpoint, methods=[method])

    def answer(self, handler: Handler, request: Request, body: bytes) -> Response:
        """The handler's answer, or the vendor's error; a subclass may do something around every one of them."""
        try:
            return handler(request, body)
        except Refused as refused:
            return self.error(refused.status, refused.detail)

    def refuse_the_rest(self) -> None:
        """The vendor's 404 for every other path below the prefixes, instead of the web framework's own."""

        def nothing(request: Request, body: bytes) -> Response:
            raise Refused(404)

        for prefix in self.prefixes:
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
                self.on(method, prefix + "/{rest:path}", nothing)


def query_of(request: Request) -> dict[str, list[str]]:
    """
    The query's parameters. What a handler does not know it ignores, as Client Lists does: Akamai's own PowerShell
    module sends a list's parameters for a single one. Whether our clients send known ones only is for the test suite.
    """
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


def no_query(request: Request) -> None:
    """:raises Refused: 400 for any parameter but ``accountSwitchKey``, where a published file knows none"""
    for name in query_of(request):
        if name != "accountSwitchKey":
            raise Refused(400, f"Unexpected query parameter: {name}")


def read_json(
    request: Request, body: bytes, allowed: Collection[str] | None = None, required: Collection[str] = ()
) -> dict[str, Any]:
    """
    The body as a JSON object.

    :param allowed: the only members that a published file allows; None: unknown ones are ignored
    :raises Refused: 415 without a JSON content type, 400 for anything but an object with the required members and
        none beyond the allowed ones
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(415)
    try:
        document = json.loads(body)
    except ValueError:
        raise Refused(400) from None
    if not isinstance(document, dict):
        raise Refused(400)
    for name in document:
        if allowed is not None and name not in allowed:
            raise Refused(400, f"Unrecognized field: {name}")
    for name in required:
        if document.get(name) is None:
            raise Refused(400, f"Missing field: {name}")
    return document
