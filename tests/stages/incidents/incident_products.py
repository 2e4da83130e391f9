"""
The case-management products over which the contract suite and the tests of stages 4, 5 and 9 run.

A :class:`Product` is a product seen from behind: what a test puts into it and finds in it, and what it makes go wrong,
whatever the client does. To have the suite run over another product write its subclass and name it in ``PRODUCTS``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from include.soar.incident import marks
from tests.stages.incidents import memory_cases
from tests.stages.incidents.incident_examples import NOW
from tests.support import SimServer
from tests.vendors.support import connect
from threat_response.stages.incident_system import IncidentSystem, Words, incident_system


@dataclass(frozen=True)
class Held:
    """A case as the product has it. ``state``: open, closed or merged."""

    id: str
    title: str
    state: str
    labels: tuple[str, ...]
    description: str


def described(title: str, description: str | None) -> str:
    """What a case says: the reference of ours, if its title has a mark and nothing else is given."""
    if description is not None:
        return description
    mark = marks.marker_in(title)
    return f"<table><tr><th>reference</th><td>{mark}</td></tr></table>" if mark else "d"


class Product:
    """
    :cvar title_source: how the product calls the source ``akamai_api_security``
    :cvar first_labels: of a new incident of that source
    :cvar merges: whether cases can be merged
    :cvar comments_have_times: whether a comment tells when it was written
    :cvar denied_creates: how often a create is sent when the key is refused
    :cvar not_attachable: a value of a type that the product does not know as threat intel
    :cvar nowhere: the id of a case that does not exist
    """

    vendor: str
    title_source: str
    first_labels: tuple[str, ...]
    words: Words
    merges: bool
    comments_have_times: bool
    denied_creates: int
    not_attachable: str
    nowhere: str

    @property
    def conn_id(self) -> str:
        return f"{self.vendor}_default"

    def system(self, *, writes_allowed: bool = True) -> IncidentSystem:
        return incident_system(self.vendor, self.conn_id, writes_allowed=writes_allowed)

    def seed(
        self, title: str, *values: str, days: float = 1.0, state: str = "open", description: str | None = None
    ) -> str:
        """
        A case made by somebody else ``days`` ago, with these addresses attached; its id. With a mark in its title it
        is one that another run of ours has made, unless a ``description`` is given: then a person has.
        """
        raise NotImplementedError

    def held(self) -> list[Held]:
        """Every case, in the order of its making."""
        raise NotImplementedError

    def comments(self, id: str) -> list[str]:
        """In the order of their making."""
        raise NotImplementedError

    def attached(self, id: str) -> list[str]:
        """The values attached to a case, sorted; a value that was attached twice is there twice."""
        raise NotImplementedError

    def links(self) -> list[tuple[str, str]]:
        """Each link between two cases as the sorted pair of ids, once for each time that it was made."""
        raise NotImplementedError

    def change(self, id: str, **fields: Any) -> None:
        """As an analyst would: ``title``, ``labels``."""
        raise NotImplementedError

    def clear(self) -> None:
        """All cases are gone."""
        raise NotImplementedError

    def fault(self, verb: str, kind: str, *, times: int = 1, about: str = "", skip: int = 0) -> None:
        """
        What happens to the next calls of a verb: ``lost`` (done, but the answer does not arrive), ``down``,
        ``refused``, ``denied``, ``limited``.

        :param verb: ``list``, ``get``, ``create``, ``close``, ``comments``, ``comment``, ``label``, ``attach``,
            ``attached``, ``link``
        :param times: -1 for ever
        :param about: only where the call's title (``create``) or case id contains it
        :param skip: how many of these calls pass first
        """
        raise NotImplementedError

    def hide_once(self) -> None:
        """The next listing shows nothing, and says that this is all."""
        raise NotImplementedError

    def forget_attached(self) -> None:
        """From now on threat intel is accepted and lost."""
        raise NotImplementedError

    def calls(self, verb: str = "") -> int:
        """How many calls there were since :meth:`forget_calls`, of all verbs or of one."""
        raise NotImplementedError

    def writes(self) -> int:
        raise NotImplementedError

    def forget_calls(self) -> None:
        raise NotImplementedError

    def pass_time(self) -> None:
        """A second of the product's own clock."""


class MemoryProduct(Product):
    vendor = memory_cases.VENDOR
    title_source = "akamai_api_security"
    first_labels = ("new",)
    words = memory_cases.MemoryCases.words
    merges = False
    comments_have_times = False
    denied_creates = 1
    not_attachable = "https://evil.badware.example/a"
    nowhere = "case/999"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = memory_cases.Memory()
        monkeypatch.setattr(memory_cases, "STORE", self.store)
        # As if its folder lay beside the other vendors'.
        monkeypatch.setitem(sys.modules, f"threat_response.vendors.{self.vendor}.cases", memory_cases)
        connect(monkeypatch, self.conn_id, self.vendor, "http://127.0.0.1:9")

    def seed(
        self, title: str, *values: str, days: float = 1.0, state: str = "open", description: str | None = None
    ) -> str:
        record = self.store.add(title, described(title, description), NOW - timedelta(days=days))
        record.done, record.values = state != "open", list(values)
        return record.id

    def held(self) -> list[Held]:
        return [
            Held(r.id, r.title, "closed" if r.done else "open", tuple(r.labels), r.description)
            for r in self.store.records.values()
        ]

    def comments(self, id: str) -> list[str]:
        return list(self.store.records[id].notes)

    def attached(self, id: str) -> list[str]:
        return sorted(self.store.records[id].values)

    def links(self) -> list[tuple[str, str]]:
        return sorted((min(r.id, o), max(r.id, o)) for r in self.store.records.values() for o in r.links)

    def change(self, id: str, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self.store.records[id], name, value)

    def clear(self) -> None:
        self.store.records.clear()

    def fault(self, verb: str, kind: str, *, times: int = 1, about: str = "", skip: int = 0) -> None:
        self.store.faults.append(memory_cases.Fault(verb, kind, times, about, skip))

    def hide_once(self) -> None:
        for record in self.store.records.values():
            record.hidden_for = 1

    def forget_attached(self) -> None:
        self.store.forgets = True

    def calls(self, verb: str = "") -> int:
        return sum(call == verb or not verb for call in self.store.calls)

    def writes(self) -> int:
        return sum(call in memory_cases.WRITES for call in self.store.calls)

    def forget_calls(self) -> None:
        self.store.calls.clear()


class RespondProduct(Product):
    vendor = "cyware_respond"
    title_source = "Akamai API Security"
    first_labels = ("auto-onboarded", "akamai-api-security")
    words = Words(blocked="blocked", pending="block-pending")
    merges = True
    comments_have_times = True
    denied_creates = 2  # once more with a new signature
    not_attachable = "AS64496"
    nowhere = "00000000-0000-4000-8000-000000000999"

    #: Verb -> method, path.
    CALLS = {
        "list": ("GET", "/v1/incident/$"),
        "get": ("GET", "/v1/incident/[^/]+/$"),
        "create": ("POST", "/v1/incident/$"),
        "comments": ("GET", "/v1/comments/incident/"),
        "comment": ("POST", "/v1/comments/incident/"),
        "close": ("PUT", "/v1/incident/"),
        "label": ("PUT", "/v1/incident/"),
        "attach": ("POST", "/connect-the-dots/link-components/"),
        "attached": ("GET", "/v1/incident/[^/]+/connect-the-dots/$"),
        "link": ("POST", "/connect-the-dots/advanced-link-components/"),
    }
    KINDS: dict[str, dict[str, Any]] = {
        "lost": {"kind": "reset_after_commit"},
        "down": {"kind": "status", "status": 503},
        "refused": {"kind": "status", "status": 400, "detail": "paused"},
        "denied": {"kind": "status", "status": 403},
        "limited": {"kind": "status", "status": 429, "headers": {"Retry-After": "5"}},
    }

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sim: SimServer) -> None:
        self.sim = sim
        connect(monkeypatch, self.conn_id, self.vendor, sim, login="sim-access", password="sim-secret")

    @property
    def simulator(self) -> Any:
        return self.sim.world.simulators[self.vendor]

    def seed(
        self, title: str, *values: str, days: float = 1.0, state: str = "open", description: str | None = None
    ) -> str:
        before = {case.id for case in self.held()}
        incident = {
            "title": title,
            "description": described(title, description),
            "labels": list(self.first_labels) if description is None and marks.marker_in(title) else [],
            "status": state,
            "created": (NOW - timedelta(days=days)).isoformat(),
            "_iocs": {"ioc_ip": list(values)},
        }
        self.sim.seed(self.vendor, {"incidents": [incident]})
        [made] = [case.id for case in self.held() if case.id not in before]
        return made

    def held(self) -> list[Held]:
        return [
            Held(i["unique_id"], i["title"], i["status"], tuple(i.get("labels") or ()), i.get("description") or "")
            for i in self.sim.state(self.vendor)["incidents"]
        ]

    def comments(self, id: str) -> list[str]:
        return [c["description"] for c in self.sim.state(self.vendor)["comments"].get(id, [])]

    def attached(self, id: str) -> list[str]:
        values = {ioc["unique_id"]: ioc["value"] for ioc in self.sim.state(self.vendor)["iocs"]}
        found: list[str] = []
        for ids, posted in self._links():
            if id in ids:
                found += [values[other] for other in ids if other in values] * posted
        return sorted(found)

    def links(self) -> list[tuple[str, str]]:
        cases = {case.id for case in self.held()}
        pairs = [((min(ids), max(ids)), posted) for ids, posted in self._links() if set(ids) <= cases]
        return sorted(pair for pair, posted in pairs for _ in range(posted))

    def _links(self) -> list[tuple[list[str], int]]:
        # What a test seeds has been posted zero times.
        return [
            ([unique_id for _, unique_id in entry["pair"]], max(entry["posted"], 1))
            for entry in self.sim.state(self.vendor)["links"]
        ]

    def change(self, id: str, **fields: Any) -> None:
        self.simulator.incidents[id].update(fields)

    def clear(self) -> None:
        self.simulator.clear()

    def fault(self, verb: str, kind: str, *, times: int = 1, about: str = "", skip: int = 0) -> None:
        method, path = self.CALLS[verb]
        more: dict[str, Any] = {"body": about} if verb == "create" and about else {}
        if about and not more:
            path = path.replace("[^/]+", about) if "[^/]+" in path else path + about
        self.sim.fault(self.vendor, method=method, path=path, times=times, skip=skip, **self.KINDS[kind], **more)

    def hide_once(self) -> None:
        empty = {"results": [], "count": 0}
        self.sim.fault(self.vendor, "merge", method="GET", path="/v1/incident/$", patch=empty)

    def forget_attached(self) -> None:
        path = self.CALLS["attached"][1]
        self.sim.fault(self.vendor, "merge", method="GET", path=path, patch={"ioc_ip": None}, times=-1)

    def calls(self, verb: str = "") -> int:
        method, path = self.CALLS[verb] if verb else (None, "")
        return sum(bool(re.search(path, call["path"])) for call in self.sim.calls(self.vendor, method))

    def writes(self) -> int:
        return sum(call["method"] != "GET" for call in self.sim.calls(self.vendor))

    def forget_calls(self) -> None:
        self.sim.world.calls.clear()

    def pass_time(self) -> None:
        self.sim.world.clock.advance(1)


PRODUCTS = ("cyware_respond", "memory_cases")


def product_named(name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Product:
    if name == "memory_cases":
        return MemoryProduct(monkeypatch)
    return RespondProduct(monkeypatch, request.getfixturevalue("sim"))
