"""The line between a client and the simulators, on which calls are logged and faults happen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import Response

from include.simulators.kit.faults import Fault, Scope, kill_client, merge_patch
from include.simulators.kit.world import World

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


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
        body = await _body(receive)
        if body is None:
            return
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


async def _body(receive: Receive) -> bytes | None:
    """The whole body of a request; None when the client has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body
