"""What every vendor simulator stands on: a clock, a call log, faults on demand and the ``/_sim`` control plane.

A simulator imitates one vendor's API from that vendor's documentation. It shares no code with our clients
(if both shared a parser, both would share the bug), keeps state, refuses what the vendor refuses, and can be
told to misbehave. All simulators live in one FastAPI application under the vendors' real paths, so a
connection's host is the only thing that differs from production.

Control plane (JSON, loopback only, no authentication):

=======================================  ==============================================================
``POST   /_sim/reset``                   forget state, calls and faults; real time; defaults of every knob
``POST   /_sim/{product}/seed``          load data, in the shape that the product's file documents
``POST   /_sim/{product}/configure``     turn knobs, e.g. ``{"activation_seconds": 0}``
``GET    /_sim/{product}/state``         what the vendor now holds
``GET    /_sim/calls?product=…``         every request seen, in order, with its answer's status
``DELETE /_sim/calls``                   forget the calls only
``POST   /_sim/faults``                  add a fault (see :class:`Fault`); ``GET`` lists, ``DELETE`` clears
``POST   /_sim/clock``                   ``{"now": "2026-01-01T00:00:00Z"}`` or ``{"advance_seconds": 60}`` or ``{}``
=======================================  ==============================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import psutil
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Never shown by the call log: they are what a client proves its identity with.
SECRET_QUERY = frozenset({"signature", "accessid", "key", "apikey", "token"})

#: Requests whose body is a credential: the log keeps the fact, not the body.
CREDENTIAL_PATHS = frozenset({"/oauth2/token", "/oauth2/revoke", "/auth/token", "/services/auth/login"})

FAULT_KINDS = frozenset(
    {
        "status",
        "html",
        "truncate",
        "empty",
        "merge",
        "delay",
        "reset",
        "hang_after_commit",
        "reset_after_commit",
        "kill_client_after_commit",
    }
)


class Clock:
    """The simulated vendor's clock: real time until a test says otherwise. Always UTC."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def timestamp(self) -> float:
        return self.now().timestamp()

    def set(self, instant: datetime) -> None:
        self._offset = instant.astimezone(UTC) - datetime.now(UTC)

    def advance(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)

    def reset(self) -> None:
        self._offset = timedelta(0)


@dataclass
class Fault:
    """
    One misbehaviour, for requests to ``product`` that match.

    :param product: simulator's name
    :param kind: ``status`` (answer with ``status`` in the vendor's error shape, state untouched), ``html`` (a
        proxy's HTML page with ``status``), ``truncate`` (the right answer cut in half, status 200, valid
        Content-Length), ``empty`` (empty the array ``key`` of the right JSON answer), ``merge`` (RFC 7386 merge
        of ``patch`` into the right JSON answer), ``delay`` (wait ``seconds`` first), ``reset`` (drop the
        connection before handling), and three that let the write happen first: ``hang_after_commit`` (then
        wait ``seconds``), ``reset_after_commit`` (then drop the connection), ``kill_client_after_commit``
        (then SIGKILL the process at the other end, only if it is ``ancestor_pid`` or descends from it)
    :param method: exact method, or None for any
    :param path: regular expression searched in the path
    :param body: substring of the request body, or None for any
    :param times: how many matching requests it hits; -1 for ever
    :param skip: how many matching requests pass unharmed first
    """

    product: str
    kind: str
    method: str | None = None
    path: str = ""
    body: str | None = None
    times: int = 1
    skip: int = 0
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    detail: str | None = None
    key: str = ""
    patch: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    ancestor_pid: int | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"fault kind {self.kind!r} is not one of {sorted(FAULT_KINDS)}")

    def matches(self, product: str, method: str, path: str, body: bytes) -> bool:
        return (
            self.times != 0
            and product == self.product
            and (self.method is None or method == self.method)
            and re.search(self.path, path) is not None
            and (self.body is None or self.body.encode() in body)
        )


class Simulator:
    """
    Base of every simulator. A subclass sets ``product`` and ``prefixes``, adds ``async def`` routes to
    ``self.router`` in ``__init__`` (async and without an await between reading and writing state, so that a
    request is atomic), and implements the four hooks below.
    """

    product = ""
    #: The path prefixes that belong to this product. The longest match over all products wins.
    prefixes: tuple[str, ...] = ()
    #: Knobs and their defaults; ``configure`` refuses any other name.
    settings: dict[str, Any] = {}

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.router = APIRouter()
        self.knobs: dict[str, Any] = dict(self.settings)
        self.clear()

    def reset(self) -> None:
        self.knobs = dict(self.settings)
        self.clear()

    def configure(self, changes: dict[str, Any]) -> None:
        unknown = sorted(set(changes) - set(self.settings))
        if unknown:
            raise HTTPException(400, f"{self.product}: unknown knobs {unknown}; known: {sorted(self.settings)}")
        self.knobs.update(changes)

    def clear(self) -> None:
        """Forget everything stored."""
        raise NotImplementedError

    def seed(self, data: dict[str, Any]) -> None:
        """Load data; the shape is documented at the top of the simulator's file."""
        raise NotImplementedError

    def snapshot(self) -> dict[str, Any]:
        """What the vendor now holds, as JSON."""
        raise NotImplementedError

    def error(self, status: int, detail: str | None = None) -> Response:
        """An error answer in this vendor's own shape."""
        raise NotImplementedError


class FaultyLine:
    """
    The line between the client and the simulators: logs each call and applies faults.

    It wraps the whole application, outside Starlette's own middleware, because dropping a connection needs
    uvicorn's own ``send``.
    """

    def __init__(self, app: Any, world: World) -> None:
        self.app = app
        self.world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_sim"):
            await self.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        product = self.world.product_of(scope["path"])
        call = self.world.log(scope, body, product)
        fault = self.world.take_fault(product, scope["method"], scope["path"], body)
        call["fault"] = fault.kind if fault else None

        if fault and fault.kind in ("status", "html", "reset", "delay"):
            if fault.kind == "delay":
                epoch = self.world.epoch
                await asyncio.sleep(fault.seconds)
                if self.world.epoch != epoch:  # reset meanwhile: this request belongs to the world before
                    self._abort(send)
                    return
            elif fault.kind == "reset":
                self._abort(send)
                return
            else:
                answer = self._fault_answer(fault)
                call["status"] = answer.status_code
                await answer(dict(scope), receive, send)
                return

        status, headers, content = await self._handle(scope, body)
        call["status"] = status
        if fault:
            if fault.kind == "hang_after_commit":
                await asyncio.sleep(fault.seconds)
            elif fault.kind == "reset_after_commit":
                self._abort(send)
                return
            elif fault.kind == "kill_client_after_commit":
                self.world.killed.append(kill_client(scope, fault.ancestor_pid))
                self._abort(send)
                return
            else:
                content = self._spoil(fault, content)
                headers = [(k, v) for k, v in headers if k.lower() != b"content-length"]
                headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _handle(self, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        status, headers, content = 500, [], b""
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                await asyncio.sleep(3600)  # the client stays connected
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def collect(message: Message) -> None:
            nonlocal status, headers, content
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            elif message["type"] == "http.response.body":
                content += message.get("body", b"")

        await self.app(scope, replay, collect)
        return status, headers, content

    def _fault_answer(self, fault: Fault) -> Response:
        if fault.kind == "html":
            page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"
            return Response(page, fault.status, media_type="text/html", headers=fault.headers)
        answer = self.world.simulators[fault.product].error(fault.status, fault.detail)
        answer.headers.update(fault.headers)
        return answer

    @staticmethod
    def _spoil(fault: Fault, content: bytes) -> bytes:
        if fault.kind == "truncate":
            return content[: len(content) // 2]
        document = json.loads(content)
        if fault.kind == "empty":
            document[fault.key] = []
        elif fault.kind == "merge":
            document = merge_patch(document, fault.patch)
        return json.dumps(document).encode()

    @staticmethod
    def _abort(send: Send) -> None:
        """Drop the TCP connection without an answer. uvicorn hides the transport behind its ``send``."""
        cycle = getattr(send, "__self__", None)
        transport = getattr(cycle, "transport", None)
        if transport is None:
            raise RuntimeError("connection faults need a real uvicorn server")
        transport.abort()
        if cycle is not None:
            cycle.disconnected = True
            cycle.response_complete = True


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def kill_client(scope: Scope, ancestor_pid: int | None) -> int:
    """
    SIGKILL the process that holds the other end of this connection.

    :raises RuntimeError: when it is not ``ancestor_pid`` or one of its descendants, so that a fault can only
        ever end a process that the test itself started.
    """
    if not ancestor_pid:
        raise RuntimeError("kill_client_after_commit needs ancestor_pid")
    port = scope["client"][1]
    family = [psutil.Process(ancestor_pid), *psutil.Process(ancestor_pid).children(recursive=True)]
    for process in family:
        if process.pid == os.getpid():
            continue
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        if any(c.laddr and c.laddr.port == port and c.status != psutil.CONN_LISTEN for c in connections):
            os.kill(process.pid, signal.SIGKILL)
            return process.pid
    raise RuntimeError(f"no descendant of {ancestor_pid} holds port {port}")


class World:
    """All simulators of one application, their clock, calls and faults."""

    def __init__(self, simulators: list[Simulator], clock: Clock) -> None:
        self.clock = clock
        self.simulators = {s.product: s for s in simulators}
        self.calls: list[dict[str, Any]] = []
        self.faults: list[Fault] = []
        self.killed: list[int] = []
        #: How often the world was reset.
        self.epoch = 0

    def reset(self) -> None:
        self.epoch += 1
        self.clock.reset()
        self.calls.clear()
        self.faults.clear()
        self.killed.clear()
        for simulator in self.simulators.values():
            simulator.reset()

    def product_of(self, path: str) -> str:
        best = ("", "unknown")
        for simulator in self.simulators.values():
            for prefix in simulator.prefixes:
                if path.startswith(prefix) and len(prefix) > len(best[0]):
                    best = (prefix, simulator.product)
        return best[1]

    def log(self, scope: Scope, body: bytes, product: str) -> dict[str, Any]:
        query = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
        content: Any = body[:200_000].decode("utf-8", "replace")
        with contextlib.suppress(ValueError):
            content = json.loads(content) if content else None
        if scope["path"] in CREDENTIAL_PATHS:
            content = "(credentials)"
        call = {
            "seq": len(self.calls) + 1,
            "at": time.time(),
            "product": product,
            "method": scope["method"],
            "path": scope["path"],
            "query": [[k, "***" if k.lower() in SECRET_QUERY else v] for k, v in query],
            "body": content,
            "status": None,
            "fault": None,
        }
        self.calls.append(call)
        return call

    def take_fault(self, product: str, method: str, path: str, body: bytes) -> Fault | None:
        for fault in self.faults:
            if not fault.matches(product, method, path, body):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.times > 0:
                fault.times -= 1
            fault.hits += 1
            return fault
        return None


def parse_instant(text: str) -> datetime:
    """ISO 8601 with offset or ``Z``, as UTC."""
    instant = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)


def build_app(simulators: list[Simulator], clock: Clock) -> FaultyLine:
    """One ASGI application with every simulator's routes and the control plane; ``.world`` is its state."""
    world = World(simulators, clock)
    app = FastAPI(title="Vendor simulators", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for simulator in simulators:
        app.include_router(simulator.router)

    def known(product: str) -> Simulator:
        if product not in world.simulators:
            raise HTTPException(404, f"no simulator {product!r}; there are {sorted(world.simulators)}")
        return world.simulators[product]

    @app.get("/_sim/health")
    async def health() -> dict[str, Any]:
        return {"ok": True, "products": sorted(world.simulators)}

    @app.post("/_sim/reset")
    async def reset() -> dict[str, Any]:
        world.reset()
        return {"ok": True}

    @app.get("/_sim/calls")
    async def calls(product: str | None = None) -> list[dict[str, Any]]:
        return [c for c in world.calls if product in (None, c["product"])]

    @app.delete("/_sim/calls")
    async def forget_calls() -> dict[str, Any]:
        world.calls.clear()
        return {"ok": True}

    @app.post("/_sim/faults")
    async def add_fault(request: Request) -> dict[str, Any]:
        fault = Fault(**await request.json())
        known(fault.product)
        world.faults.append(fault)
        return asdict(fault)

    @app.get("/_sim/faults")
    async def list_faults() -> list[dict[str, Any]]:
        return [asdict(f) for f in world.faults]

    @app.delete("/_sim/faults")
    async def clear_faults() -> dict[str, Any]:
        world.faults.clear()
        return {"ok": True}

    @app.post("/_sim/clock")
    async def set_clock(request: Request) -> dict[str, Any]:
        change = await request.json()
        if "now" in change:
            world.clock.set(parse_instant(change["now"]))
        elif "advance_seconds" in change:
            world.clock.advance(float(change["advance_seconds"]))
        else:
            world.clock.reset()
        return {"now": world.clock.now().isoformat()}

    @app.post("/_sim/{product}/seed")
    async def seed(product: str, request: Request) -> dict[str, Any]:
        known(product).seed(await request.json())
        return {"ok": True}

    @app.post("/_sim/{product}/configure")
    async def configure(product: str, request: Request) -> dict[str, Any]:
        known(product).configure(await request.json())
        return known(product).knobs

    @app.get("/_sim/{product}/state")
    async def state(product: str) -> JSONResponse:
        return JSONResponse(known(product).snapshot())

    return FaultyLine(app, world)
