"""What every simulator is: routes, knobs, and what it holds."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

from include.simulators.kit.clock import Clock


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
