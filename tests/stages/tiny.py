"""A tiny real HTTP server that a test scripts, for what no vendor's simulator does, and the smallest vendor's hook."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from airflow.sdk import Connection

from include.soar.vendor.wire import Request
from tests.soar.examples import at
from threat_response.transport.form import Vendor
from threat_response.transport.hook import VendorHook


@dataclass
class Seen:
    """A request as it arrived; ``port`` is the client's, so the same one is the same connection."""

    port: int
    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """
    What to send. ``raw`` replaces the whole answer by these bytes (b"": hang up without a word); ``wait`` holds the
    answer's body back until the test is over.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    wait: bool = False


class TinyServer:
    def __init__(self, certificate: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        #: The next answers, in order; when they are used up, ``always``.
        self.script: list[Answer] = []
        self.always: Answer | Callable[[Seen], Answer] = Answer()
        self._over = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                owner._answer(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *args: Any) -> None:
                """Nothing on the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            self._server.socket = certificate.wrap_socket(self._server.socket, server_side=True)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a refused handshake is no news
        self.scheme = "https" if certificate else "http"
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        seen = Seen(
            int(handler.client_address[1]),
            handler.command,
            parts.path,
            parse_qsl(parts.query, keep_blank_values=True),
            {name.lower(): value for name, value in handler.headers.items()},
            handler.rfile.read(length),
        )
        self.seen.append(seen)
        answer = self.script.pop(0) if self.script else self.always
        if callable(answer):
            answer = answer(seen)
        if answer.raw is not None:
            handler.wfile.write(answer.raw)
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.wait:
            self._over.wait(30)
        handler.wfile.write(answer.body)


class TinyHook(VendorHook):
    declared = Vendor("tiny", "Tiny", "TinyHook", host="https://tiny.example")

    def headers(self, connection: Connection) -> dict[str, str]:
        return {"Key": self.credential("password")}

    def get(self, path: str, **params: str) -> Any:
        request = Request("GET", path, operation="get", params=tuple(params.items()), timeout_seconds=5)
        return json.loads(self.send(request).body)

    def put(self, path: str) -> None:
        self.send(Request("PUT", path, operation="put", json={}, writes=True, timeout_seconds=5))

    def delete(self, path: str) -> None:
        self.send(Request("DELETE", path, operation="delete", writes=True, timeout_seconds=5))


#: Gives the lines that were printed since it was last asked; Airflow's own loggers print when no task runs.
Printed = Callable[[], list[str]]


def json_answer(document: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode())


def context(
    start: str = "2026-01-02T10:00", end: str = "2026-01-02T11:00", *, run_type: str = "scheduled", **params: Any
) -> Any:
    """As Airflow gives it to a task of a run with a data interval."""
    run = SimpleNamespace(run_type=run_type, run_id=f"{run_type}-{start}", dag_id="response", run_after=at(end))
    return {
        "dag_run": run,
        "params": params,
        "logical_date": at(start),
        "data_interval_start": at(start),
        "data_interval_end": at(end),
        "ti": SimpleNamespace(),
    }
