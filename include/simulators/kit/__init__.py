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

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from include.simulators.kit.base import Simulator
from include.simulators.kit.clock import Clock, parse_instant
from include.simulators.kit.faults import Fault
from include.simulators.kit.line import FaultyLine, Receive, Scope, Send
from include.simulators.kit.world import World

__all__ = [
    "Clock",
    "Fault",
    "FaultyLine",
    "Receive",
    "Scope",
    "Send",
    "Simulator",
    "World",
    "build_app",
    "parse_instant",
]


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
