"""What the server remembers: API roots, their collections and the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from fastapi import HTTPException

from include.simulators.kit import Simulator, parse_instant
from include.simulators.taxii.answers import Refused, Stix, instant, text_of


@dataclass(frozen=True)
class Added:
    """A version of an object, and when it came."""

    stix: Stix
    at: datetime

    @property
    def version(self) -> str:
        """STIX 2.1's cyber observables have none of their own: when they were added is their version."""
        return str(self.stix.get("modified") or self.stix.get("created") or text_of(self.at))

    @property
    def spec_version(self) -> str:
        return str(self.stix.get("spec_version", "2.0" if "created" in self.stix else "2.1"))


@dataclass
class Collection:
    id: str
    title: str
    description: str | None = None
    can_read: bool = True
    can_write: bool = False
    added: list[Added] = field(default_factory=list)

    def shown(self) -> dict[str, Any]:
        described = {"description": self.description} if self.description else {}
        rights = {"can_read": self.can_read, "can_write": self.can_write}
        media = sorted({f"application/stix+json;version={one.spec_version}" for one in self.added})
        return {"id": self.id, "title": self.title, **described, **rights, **({"media_types": media} if media else {})}


@dataclass
class Root:
    title: str
    collections: dict[str, Collection] = field(default_factory=dict)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_filter(added: Sequence[Added], query: dict[str, str], *, every_version: bool) -> list[Added]:
    found = list(added)
    if "added_after" in query:
        after = instant(query["added_after"])
        found = [one for one in found if one.at > after]
    if "match[id]" in query:
        found = [one for one in found if one.stix["id"] in query["match[id]"].split(",")]
    if "match[type]" in query:
        found = [one for one in found if one.stix["type"] in query["match[type]"].split(",")]
    if "match[spec_version]" in query:
        found = [one for one in found if one.spec_version in query["match[spec_version]"].split(",")]
    wanted = "all" if every_version else query.get("match[version]", "last")
    if wanted == "all":
        return found
    chosen: set[tuple[str, str]] = set()
    for word in wanted.split(","):
        for id_ in {one.stix["id"] for one in found}:
            versions = sorted(one.version for one in found if one.stix["id"] == id_)
            picked = {"first": versions[:1], "last": versions[-1:]}.get(word, [v for v in versions if v == word])
            chosen |= {(id_, version) for version in picked}
    return [one for one in found if (one.stix["id"], one.version) in chosen]


class Roots(Simulator):
    """The API roots, and who may read or write a collection."""

    def clear(self) -> None:
        self.title = "TAXII simulator"
        self.roots: dict[str, Root] = {}

    def seed(self, data: dict[str, Any]) -> None:
        if set(data) - {"title", "roots"}:
            raise HTTPException(400, f"taxii: unknown seed members {sorted(set(data) - {'title', 'roots'})}")
        self.title = data.get("title", self.title)
        now = self.clock.now()
        for name, given in data.get("roots", {}).items():
            root = self.roots.setdefault(name, Root(given.get("title", name)))
            for record in given.get("collections", []):
                kept = {k: v for k, v in record.items() if k != "objects"}
                collection = root.collections.setdefault(record["id"], Collection(**kept))
                for number, stix in enumerate(record.get("objects", [])):
                    at = stix.get("_date_added")
                    when = parse_instant(at) if at else now + timedelta(microseconds=number)
                    self._put(collection, {k: v for k, v in stix.items() if k != "_date_added"}, when)

    def snapshot(self) -> dict[str, Any]:
        return {
            name: {collection.title: len(collection.added) for collection in root.collections.values()}
            for name, root in self.roots.items()
        }

    def _put(self, collection: Collection, stix: Stix, at: datetime) -> None:
        when = at.replace(microsecond=0) if self.knobs["whole_seconds"] else at
        new = Added(stix, when)
        if all(one.stix["id"] != stix["id"] or one.version != new.version for one in collection.added):
            collection.added.append(new)
            collection.added.sort(key=lambda one: one.at)

    def _root(self, name: str) -> Root:
        if name not in self.roots:
            raise Refused(404, f"API root '{name}' not found")
        return self.roots[name]

    def _collection(self, root: str, collection_id: str) -> Collection:
        collections = self._root(root).collections
        if collection_id not in collections:
            raise Refused(404, f"Collection '{collection_id}' not found")
        return collections[collection_id]

    def _readable(self, root: str, collection_id: str) -> list[Added]:
        collection = self._collection(root, collection_id)
        if not collection.can_read:
            raise Refused(403, f"Forbidden to read collection '{collection_id}'")
        now = self.clock.now()
        return [one for one in collection.added if one.at <= now]

    def _writable(self, root: str, collection_id: str) -> Collection:
        collection = self._collection(root, collection_id)
        if not collection.can_write:
            raise Refused(403, f"Forbidden to write collection '{collection_id}'")
        return collection

    @staticmethod
    def _versions_of(added: Sequence[Added], object_id: str) -> list[Added]:
        found = [one for one in added if one.stix["id"] == object_id]
        if not found:
            raise Refused(404, f"Object '{object_id}' not found")
        return found
