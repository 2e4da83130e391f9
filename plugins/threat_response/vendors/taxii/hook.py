"""TAXII: its collections, and our copy of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import Connection
from requests.auth import AuthBase, HTTPBasicAuth

from include.soar.model import Observable, ObservableType, Reputation, digest
from include.soar.vendor.errors import (
    Unauthorized,
    Unexpected,
    VendorError,
    WrongConnection,
    one_line,
)
from include.soar.vendor.wire import Request, Response
from threat_response.runtime import settings
from threat_response.transport.asking import Meter, Provider
from threat_response.transport.copies import Copies, Reference, has_shrunk, level_of, load_copy
from threat_response.transport.hook import VendorHook, basic_secrets
from threat_response.transport.paging import Paging
from threat_response.vendors.taxii import api
from threat_response.vendors.taxii.api import Collection, State
from threat_response.vendors.taxii.index import Index, doubt
from threat_response.vendors.taxii.vendor import VENDOR

#: How a key goes into ``Authorization``.
SCHEMES = {"bearer": "Bearer ", "token": "Token "}


class TaxiiHook(Provider, VendorHook):
    """
    Read the collections of a TAXII 2.1 server, and keep a copy of each in the archive.

    Connection: ``host``; ``login`` and ``password`` (Basic), or a key as ``password`` with extra ``auth`` bearer,
    token or header; in the extra optionally ``discovery_path``, ``api_root``, ``collections``, ``page_size``,
    ``first_days``, ``stale_after_hours``.
    """

    declared = VENDOR
    types = frozenset(
        {
            ObservableType.IPV4,
            ObservableType.IPV6,
            ObservableType.CIDR,
            ObservableType.DOMAIN,
            ObservableType.URL,
            ObservableType.EMAIL,
            ObservableType.FILE,
        }
    )
    refresh_every = timedelta(hours=1)

    def auth(self, connection: Connection) -> AuthBase | None:
        if self.settings.auth == "basic" and connection.login:
            return HTTPBasicAuth(connection.login, connection.password or "")
        return None

    def headers(self, connection: Connection) -> dict[str, str]:
        kind = self.settings.auth
        if kind == "basic":
            return {}
        if kind == "header":
            return {self.settings.key_header: self.credential("password")}
        return {"Authorization": SCHEMES[kind] + self.credential("password")}

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return basic_secrets(connection)

    def accept(self, request: Request, response: Response) -> Response:
        if response.status == 406:
            raise Unexpected(self.vendor, request.operation, f"the server does not speak {api.ACCEPT}", status=406)
        response = super().accept(request, response)
        api.check_media_type(request.operation, response)
        return response

    def collections(self) -> list[Collection]:
        """
        The collections to read: those that the connection names by id or title, else every readable one.

        :raises Unauthorized: there is none, or the connection names one that is not there or may not be read
        """
        root = self._root()
        readable, closed = api.parse_collections(root, self.send(api.collections_request(root)))
        wanted = self.settings.collections
        if not readable:
            # The silence of no collection would pass for "not listed".
            raise Unauthorized(self.vendor, "collections", f"no collection at {root} may be read", status=403)
        if not wanted:
            if closed:
                self.log.info("TAXII: %d collections may not be read: %s", len(closed), one_line("; ".join(closed)))
            return readable
        missing = [name for name in wanted if not any(name in (c.id, c.title) for c in readable)]
        if missing:
            there = "; ".join(collection.title for collection in readable)
            problem = f"no readable collection {missing[0]!r}; there are: {there}"
            raise WrongConnection(self.vendor, "connection", problem)
        return [c for c in readable if c.id in wanted or c.title in wanted]

    @property
    def stale_after(self) -> timedelta:
        """A collection that could not be read for this long says nothing about what it does not name."""
        return timedelta(hours=self.settings.stale_after_hours)

    def refresh(self, *, now: datetime, not_before: timedelta, full_after: timedelta) -> list[dict[str, Any]]:
        """
        Our copies of all collections, brought up to date: only what was added since is read, and everything anew when
        a copy was last read in full longer than ``full_after`` ago, since TAXII does not tell of deletions.

        A collection that cannot be read now is replaced by its last good copy. One without a copy costs itself only:
        its reference has no ``uri``.

        :param not_before: when the server was last asked, with or without success, more recently than that, it is not
            asked now
        :return: ``{root, collection, title, uri, digest, indicators, readable, unreadable, added_after, fetched_at,
            full_at}`` or ``{root, collection, title, uri, problem}`` for each
        :raises VendorError: nothing can be read and there is no copy to go on with
        """
        extra = self.connection.extra_dejson  # as it was written: another wording is another copy
        wanted = {name: extra.get(name) for name in ("discovery_path", "api_root", "collections", "first_days")}
        wanted = {name: None if value == "" else value for name, value in wanted.items()}
        copies = Copies(settings.archive() / "taxii" / digest([self.url, wanted])[:16], wanted)

        def download(references: list[Reference]) -> list[Reference]:
            before = {(r["root"], r["collection"]): r for r in references if r["uri"]}
            failures: list[VendorError] = []
            found = []
            for collection in self.collections():
                current = before.get((collection.root, collection.id))
                try:
                    found.append(self._bring_up_to_date(copies, collection, current, now=now, full_after=full_after))
                except Unauthorized:  # a person must act
                    raise
                except VendorError as error:
                    found.append(self._go_on_with(collection, current, error))
                    failures += [error] if current is None else []
            if failures and len(failures) == len(found):
                raise failures[0]
            return found

        def on_outage(error: VendorError) -> None:
            self._tell("The server's collections", error, "Going on with the copies there are")

        return copies.refresh(download, now=now, not_before=not_before, on_outage=on_outage)

    def load(self, reference: dict[str, Any]) -> State:
        """
        The records of a copy.

        :raises Unexpected: it is not there any more, or not whole
        """
        return load_copy(self.vendor, "objects", reference, api.load)

    def refresh_all(
        self, *, now: datetime, not_before: timedelta, meter: Callable[[str], Meter]
    ) -> list[dict[str, Any]]:
        references = self.refresh(now=now, not_before=not_before, full_after=api.FULL_AFTER)
        for reference in filter(lambda one: one["uri"], references):
            self.log.info("%s", _summary(reference))
        return references

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        states, doubts = [], []
        for reference in map(dict, copies):
            why = doubt(reference, now=now, stale_after=self.stale_after)
            if reference["uri"] is not None:
                try:
                    states.append(self.load(reference))
                except VendorError as error:
                    why = f"{reference['title']} could not be read: {error.reason}"
            if why:
                self.log.error("Collection %s", why)
                doubts.append(why)
        index, read = Index(states), digest([reference.get("digest") for reference in copies])
        return [index.reputation(o, body_digest=read, doubts=doubts, known_at=now) for o in observables]

    def ping(self) -> str:
        found = self.collections()
        titles = one_line("; ".join(collection.title for collection in found), 150)
        return f"{len(found)} collections can be read at {self._root()}: {titles}"

    def _root(self) -> str:
        """
        The API root's path: the connection's, else the server's default, else its only one.

        :raises Unauthorized: the server has several and neither names one
        """
        path = self.settings.discovery_path
        if named := self.settings.api_root:
            return api.root_path(named, url=self.url, discovery_path=path)
        found = api.parse_discovery(self.send(api.discovery_request(path)))
        chosen = found.default or (found.api_roots[0] if len(found.api_roots) == 1 else None)
        if chosen is None:
            there = "; ".join(found.api_roots) or "none"
            raise self._wrong(f"has no api_root, and the server names no default: {there}")
        if api.is_elsewhere(chosen, url=self.url):
            self.log.warning("TAXII: the server names its API root at another host; ours is asked for that path")
        return api.root_path(chosen, url=self.url, discovery_path=path)

    def _bring_up_to_date(
        self,
        copies: Copies,
        collection: Collection,
        current: dict[str, Any] | None,
        *,
        now: datetime,
        full_after: timedelta,
    ) -> dict[str, Any]:
        state, start = None, None
        if current and now - datetime.fromisoformat(current["full_at"]) < full_after:
            try:
                state, start = self.load(current), current["added_after"]
            except Unexpected as error:
                self.log.warning("Collection %s: %s. Reading all of it", one_line(collection.title, 100), error)
        in_full = state is None
        state, added_after = self._download(collection, state or {}, start, now)
        known = api.count(state)
        if current and in_full and has_shrunk(current["indicators"], known.indicators, largest_loss=api.LARGEST_LOSS):
            problem = f"shrank from {current['indicators']} to {known.indicators} indicators: more likely broken"
            raise Unexpected(self.vendor, "objects", problem)
        content = api.dump(state)
        name = hashlib.sha256(content).hexdigest()
        return {
            **_identity(collection),
            "uri": copies.keep(f"{name[:16]}.jsonl", content),
            "digest": name,
            **known.model_dump(),
            "added_after": added_after,
            "fetched_at": now.isoformat(),
            "full_at": now.isoformat() if in_full or current is None else current["full_at"],
        }

    def _go_on_with(self, collection: Collection, current: dict[str, Any] | None, error: VendorError) -> dict[str, Any]:
        name = f"Collection {one_line(collection.title, 100)}"
        if current is None:
            self.log.error("%s is left out: %s", name, error)
            return {**_identity(collection), "uri": None, "problem": error.reason}
        self._tell(name, error, f"Going on with the copy of {current['fetched_at']}")
        return current

    def _tell(self, what: str, error: VendorError, then: str) -> None:
        self.log.log(level_of(error), "%s: %s. %s", what, error, then)

    def _download(
        self, collection: Collection, state: State, start: str | None, now: datetime
    ) -> tuple[State, str | None]:
        """
        The state after this reading, and where the next one goes on. Nothing is kept of a reading that fails.

        :param start: where the former reading ended; None: this is the first one
        """
        days = self.settings.first_days
        if start is None and days:
            start = (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        limit = self.settings.page_size
        place, last = api.Paging(start), None
        nameless = objects = 0
        paging = Paging(self.vendor, "objects", api.MOST_PAGES, largest_bytes=api.LARGEST_READING)
        for _ in paging:
            response = paging.take(self.send(place.request(collection, limit=limit)))
            page = api.parse_envelope(response)
            nameless += api.merge(state, page.objects)
            objects += len(page.objects)
            # Of a page without an object the header has no meaning (section 3.4), whatever stands in it.
            reached = api.date_added_last(response) if page.objects else None
            last = reached or last
            if not page.more:
                break
            place.go_on(page, reached)
        self.log.info("Collection %s: %d objects read", one_line(collection.title), objects)
        if nameless:
            self.log.warning("Collection %s: %d objects without an id", one_line(collection.title), nameless)
        return api.forget_lapsed(state, now=now), api.cursor(start, last, now=now)


def _summary(reference: Reference) -> str:
    unreadable = ", ".join(f"{number} {problem}" for problem, number in reference["unreadable"].items())
    return (
        f"Collection {reference['title']}: {reference['indicators']} indicators, {reference['readable']} can be looked"
        f" up, fetched at {reference['fetched_at']}; not readable: {one_line(unreadable) or 'none'}"
    )


def _identity(collection: Collection) -> dict[str, str]:
    return {"root": collection.root, "collection": collection.id, "title": one_line(collection.title, 200)}
