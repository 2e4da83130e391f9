"""All simulators of one application: their clock, their calls and their faults."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any
from urllib.parse import parse_qsl

from include.simulators.kit.base import Simulator
from include.simulators.kit.clock import Clock
from include.simulators.kit.faults import Fault, Scope

#: Never shown by the call log: they are what a client proves its identity with.
SECRET_QUERY = frozenset({"signature", "accessid", "key", "apikey", "token"})
#: Requests whose body is a credential: the log keeps the fact, not the body.
CREDENTIAL_PATHS = frozenset({"/oauth2/token", "/oauth2/revoke", "/auth/token", "/services/auth/login"})


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
