"""What Respond's simulator holds, for the tests of its client."""

from __future__ import annotations

from typing import Any

from tests.support import SimServer

PRODUCT = "cyware_respond"
CONN_ID = "cyware_respond_default"


def incidents(sim: SimServer) -> list[dict[str, Any]]:
    return list(sim.state(PRODUCT)["incidents"])


def comments(sim: SimServer, unique_id: str) -> list[str]:
    return [c["description"] for c in sim.state(PRODUCT)["comments"].get(unique_id, [])]


def links(sim: SimServer, *kinds: str) -> list[list[str]]:
    """The ids of each connection between components of these two kinds, and how often it was posted."""
    found = []
    for entry in sim.state(PRODUCT)["links"]:
        if sorted(kind for kind, _ in entry["pair"]) == sorted(kinds):
            found.append([unique_id for _, unique_id in entry["pair"]] + [str(entry["posted"])])
    return found


def writes(sim: SimServer) -> list[dict[str, Any]]:
    return [c for c in sim.calls(PRODUCT) if c["method"] != "GET"]
