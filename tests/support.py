"""What several test folders need: a real HTTP server with the simulators, and a small client for /_sim."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import uvicorn

from include.simulators.app import create_app
from include.simulators.kit import Fault, FaultyLine, World
from include.simulators.kit.clock import parse_instant


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@dataclass
class SimServer:
    """The simulators on a real port. ``world`` is their state, for asserting on; it is also served at /_sim."""

    url: str
    port: int
    app: FaultyLine
    _server: uvicorn.Server
    _thread: threading.Thread

    @property
    def world(self) -> World:
        return self.app.world

    # Straight into the world of this process, through JSON as the control plane would: tests/simulators asks the
    # control plane itself.

    def seed(self, product: str, data: dict[str, Any]) -> None:
        self.world.simulators[product].seed(json.loads(json.dumps(data)))

    def configure(self, product: str, **knobs: Any) -> None:
        self.world.simulators[product].configure(json.loads(json.dumps(knobs)))

    def set_clock(self, now: str) -> None:
        self.world.clock.set(parse_instant(now))

    def fault(self, product: str, kind: str, **options: Any) -> None:
        self.world.faults.append(Fault(product, kind, **options))

    def calls(self, product: str | None = None, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        return [
            c
            for c in self.world.calls
            if product in (None, c["product"]) and method in (None, c["method"]) and path in c["path"]
        ]

    def state(self, product: str) -> dict[str, Any]:
        return self.world.simulators[product].snapshot()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60)


def start_simulators(products: list[str] | None = None) -> SimServer:
    """Serve the simulators on a free loopback port, in a thread of this process."""
    app = create_app(products)
    port = free_port()
    config = uvicorn.Config(
        app, host="127.0.0.1", port=port, log_level="error", http="h11", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started:
        if time.monotonic() > deadline:
            raise RuntimeError("the simulators did not start")
        time.sleep(0.01)
    return SimServer(f"http://127.0.0.1:{port}", port, app, server, thread)
