"""
Every request that our clients sent during the session, held against what is published about the vendor's API.

The simulators take what the vendors take, which is more than a client should send. So the strictness about our own
requests is here: paths, parameters and members that the published file (or, where there is none, the vendor's own
clients) does not know are a failure at the end of the session. A vendor takes part by
``tests/vendors/<name>/published.py`` with ``judge() -> Judge``. What a simulator refused is left to the test that sent
it: some send wrong values on purpose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from include.simulators.kit import World

VENDORS = Path(__file__).parent / "vendors"
SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"
#: What the log keeps of a body; a longer one is cut and not judged.
LONGEST_BODY = 200_000
HIDDEN = "(credentials)"


class Absent(Exception):
    """The published file is not on this machine."""


@dataclass
class Judge:
    """
    An OpenAPI document, or as much of one as is known.

    :param prefix: of its paths at the simulator
    :param everywhere: parameters that any operation takes
    """

    document: dict[str, Any]
    prefix: str = ""
    everywhere: tuple[str, ...] = ()

    @cached_property
    def paths(self) -> list[tuple[re.Pattern[str], dict[str, Any]]]:
        """The most literal first, since ``{id}`` would match a word as well."""
        templates = sorted(self.document["paths"], key=lambda t: (t.count("{"), -len(t)))
        return [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(t))), self.document["paths"][t]) for t in templates]

    @cached_property
    def components(self) -> Any:
        return closed(self.document.get("components", {}))

    def problem(self, call: dict[str, Any]) -> str | None:
        """What is wrong with the request, in a few words; None: nothing."""
        path = call["path"].removeprefix(self.prefix)
        found = next((item for pattern, item in self.paths if pattern.fullmatch(path)), None)
        operation = (found or {}).get(call["method"].lower())
        if found is None or operation is None:
            return "no such operation"
        parameters = [*found.get("parameters", ()), *operation.get("parameters", ())]
        known = {p["name"] for p in map(self._resolved, parameters) if p.get("in", "query") == "query"}
        if unknown := {name for name, _ in call["query"]} - known - set(self.everywhere):
            return f"unknown parameters {sorted(unknown)}"
        return self._body_problem(operation, call["body"])

    def _body_problem(self, operation: dict[str, Any], body: Any) -> str | None:
        content = operation.get("requestBody", {}).get("content", {})
        if not content:
            return "a body where none is known" if body is not None else None
        schema = content.get("application/json", {}).get("schema")
        if schema is None or body == HIDDEN or (isinstance(body, str) and len(body) >= LONGEST_BODY):
            return None
        validator = Draft202012Validator({**closed(schema), "components": self.components})
        error = next(iter(sorted(validator.iter_errors(body), key=lambda e: list(map(str, e.path)))), None)
        return f"body: {'/'.join(map(str, error.path))}: {error.message[:200]}" if error else None

    def _resolved(self, parameter: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in parameter:
            return parameter
        found: Any = self.document
        for part in parameter["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)


def closed(schema: Any) -> Any:
    """The same with every object closed to members that it does not name, and OpenAPI 3.0's ``nullable`` in effect."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {name: closed(value) for name, value in schema.items() if name != "nullable"}
    if isinstance(changed.get("properties"), dict) and changed.get("type", "object") == "object":
        changed.setdefault("additionalProperties", False)
    if schema.get("nullable") is True and isinstance(changed.get("type"), str):
        changed["type"] = [changed["type"], "null"]
    return changed


def published(path: str) -> Any:
    """
    A JSON file of the reference library.

    :raises Absent: it is not there
    """
    file = SHARED / path
    if not file.is_file():
        raise Absent(f"needs ../shared/{path}, not present")
    return json.loads(file.read_text())


def judges() -> dict[str, Callable[[], Judge]]:
    """By product."""
    return {
        file.parent.name: import_module(f"tests.vendors.{file.parent.name}.published").judge
        for file in sorted(VENDORS.glob("*/published.py"))
    }


class Requests:
    """What a world of simulators is asked from now on, whatever is forgotten of its calls meanwhile; each once."""

    def __init__(self, world: World) -> None:
        self.seen: dict[str, dict[str, Any]] = {}
        self.judges = judges()
        real = world.log

        def log(*given: Any) -> dict[str, Any]:
            call = real(*given)
            if call["product"] in self.judges:
                what = json.dumps([call[name] for name in ("product", "method", "path", "query", "body")])
                if what not in self.seen or refused(self.seen[what]):
                    self.seen[what] = call
            return call

        world.log = log  # type: ignore[method-assign]

    def problems(self) -> list[str]:
        return problems(self.judges, (call for call in self.seen.values() if not refused(call)))


def refused(call: dict[str, Any]) -> bool:
    """By the simulator itself, not by a fault that a test asked for."""
    return call["status"] in (400, 404) and call["fault"] is None


def problems(known: dict[str, Callable[[], Judge]], calls: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each request that is not as published. Those of a vendor whose file is absent are passed over."""
    lines = []
    ready: dict[str, Judge | None] = {}
    for call in calls:
        product = call["product"]
        if product not in ready:
            try:
                ready[product] = known[product]()
            except Absent:
                ready[product] = None
        judge = ready[product]
        if judge is not None and (problem := judge.problem(call)):
            lines.append(f"{product}: {call['method']} {call['path']}: {problem}")
    return lines
