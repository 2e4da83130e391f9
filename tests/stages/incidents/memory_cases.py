"""
A second case-management product, in memory, and its ``cases`` module: so that the protocol of stages 4, 5 and 9 is not
merely Cyware Respond's verbs by other names.

Its quirks: ids with a slash in them, no names for people, no page, times in whole minutes (so ties), labels replaced as
a whole, comments inside a frame and without a time, nothing is ever merged, no URLs as threat intel, a list that may
lag behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from include.soar.model import Observable, ObservableType
from include.soar.vendor.errors import RateLimited, Rejected, Unauthorized, Unavailable, WriteInPlanMode
from threat_response.runtime import settings
from threat_response.stages.incident_system import Case, CaseId, Comment, Draft, State, Words

VENDOR = "memory_cases"
WRITES = frozenset({"create", "close", "comment", "label", "attach", "link"})


@dataclass
class Record:
    """:param values: one entry for each time that a value was attached; ``links``: likewise"""

    number: int
    title: str
    description: str
    created_at: datetime
    done: bool = False
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    hidden_for: int = 0

    @property
    def id(self) -> str:
        return f"case/{self.number}"


@dataclass
class Fault:
    """:param kind: ``lost`` (it happens, the answer does not arrive), ``down``, ``refused``, ``denied``, ``limited``"""

    verb: str
    kind: str
    times: int
    about: str
    skip: int = 0


class Memory:
    """
    The product itself.

    :ivar lag: how many listings do not show a new case
    :ivar forgets: whether what is attached or linked is accepted and lost
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.calls: list[str] = []
        self.faults: list[Fault] = []
        self.lag = 0
        self.forgets = False

    def add(self, title: str, description: str, created_at: datetime) -> Record:
        minute = created_at.replace(second=0, microsecond=0)
        record = Record(len(self.records) + 7, title, description, minute)
        self.records[record.id] = record
        return record

    @contextmanager
    def call(self, verb: str, about: str = "") -> Iterator[None]:
        """One request: a fault hits it before anything happens, or when all has happened."""
        self.calls.append(verb)
        fault = next((f for f in self.faults if f.verb == verb and f.times and f.about in about), None)
        if fault and fault.skip:
            fault.skip -= 1
            fault = None
        if fault:
            fault.times -= 1
            if fault.kind != "lost":
                raise {
                    "down": Unavailable(VENDOR, verb, "down"),
                    "refused": Rejected(VENDOR, verb, "paused"),
                    "denied": Unauthorized(VENDOR, verb, "wrong key"),
                    "limited": RateLimited(VENDOR, verb, "too many", retry_after=5),
                }[fault.kind]
        yield
        if fault:
            raise Unavailable(VENDOR, verb, "the answer was lost")


#: The product that :func:`cases` connects to; a test puts its own here.
STORE = Memory()


def cases(conn_id: str, *, writes_allowed: bool) -> MemoryCases:
    return MemoryCases(STORE, writes_allowed=writes_allowed)


class MemoryCases:
    name = VENDOR
    words = Words(blocked="contained", pending="waiting", sources={"akamai_sia": "DNS firewall"})

    def __init__(self, store: Memory, *, writes_allowed: bool) -> None:
        self.store = store
        self.writes_allowed = writes_allowed

    def created_since(self, at: datetime) -> list[Case]:
        with self.store.call("list"):
            shown = []
            for record in self.store.records.values():
                if record.hidden_for:
                    record.hidden_for -= 1
                elif record.created_at >= at:
                    shown.append(_case(record, whole=False))
            return sorted(shown, key=lambda case: case.order)

    def get(self, id: str) -> Case | None:
        with self.store.call("get", id):
            record = self.store.records.get(id)
            return _case(record, whole=True) if record else None

    def create(self, draft: Draft) -> CaseId:
        with self._write("create", draft.title):
            record = self.store.add(draft.title, draft.description, settings.now())
            record.labels = ["new"]
            record.hidden_for = self.store.lag
            return CaseId(record.id)

    def close_as_duplicate(self, case: Case, of: Case, note: str) -> None:
        with self._write("close", case.id):
            record = self._record(case.id)
            record.done = True
            record.notes.append(note)

    def comments(self, id: str) -> list[Comment]:
        with self.store.call("comments", id):
            return [Comment(f"<article>{note}</article>") for note in reversed(self._record(id).notes)]

    def comment(self, id: str, markup: str) -> None:
        with self._write("comment", id):
            self._record(id).notes.append(markup)

    def label(self, id: str, labels: Sequence[str]) -> None:
        with self._write("label", id):
            self._record(id).labels = list(labels)

    def can_attach(self, observable: Observable) -> bool:
        return observable.type is not ObservableType.URL

    def attached(self, id: str, observables: Sequence[Observable]) -> set[str]:
        with self.store.call("attached", id):
            values = self._record(id).values
            return {o.key for o in observables if o.value in values}

    def attach(self, id: str, observables: Sequence[Observable]) -> dict[str, Rejected]:
        with self._write("attach", id):
            refused = {o.key: Rejected(VENDOR, "attach", "no such host") for o in observables if "_" in o.value}
            if not self.store.forgets:
                self._record(id).values += [o.value for o in observables if o.key not in refused]
            return refused

    def sharing(self, id: str, observables: Sequence[Observable]) -> dict[str, tuple[Observable, ...]]:
        with self.store.call("sharing", id):
            mine = [o for o in observables if o.value in self._record(id).values]
            found = {
                other.id: tuple(o for o in mine if o.value in other.values)
                for other in self.store.records.values()
                if other.id != id
            }
            return {other: shared for other, shared in found.items() if shared}

    def linked(self, id: str) -> set[str]:
        with self.store.call("linked", id):
            return {*self._record(id).links, *(r.id for r in self.store.records.values() if id in r.links)}

    def link(self, id: str, other: str) -> None:
        with self._write("link", id):
            self._record(other)
            if not self.store.forgets:
                self._record(id).links.append(other)

    def page(self, case: CaseId) -> str | None:
        return None

    @contextmanager
    def _write(self, verb: str, about: str) -> Iterator[None]:
        if not self.writes_allowed:
            raise WriteInPlanMode(f"{VENDOR} {verb}")
        with self.store.call(verb, about):
            yield

    def _record(self, id: str) -> Record:
        try:
            return self.store.records[id]
        except KeyError:
            raise Rejected(VENDOR, "case", f"there is no {id}", status=404) from None


def _case(record: Record, *, whole: bool) -> Case:
    return Case(
        id=record.id,
        title=record.title,
        created_at=record.created_at,
        state=State.CLOSED if record.done else State.OPEN,
        description=record.description if whole else None,
        labels=tuple(record.labels) if whole else (),
    )
