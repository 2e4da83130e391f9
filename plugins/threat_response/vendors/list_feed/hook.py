"""Block lists: their locations, and the last good copy of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
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
from threat_response.runtime import settings
from threat_response.transport.asking import Meter, Provider
from threat_response.transport.copies import Copies, Reference, has_shrunk, level_of, load_copy, read_object
from threat_response.transport.hook import VendorHook, basic_secrets
from threat_response.vendors.list_feed import api
from threat_response.vendors.list_feed.api import Copy, ListIndex, Source
from threat_response.vendors.list_feed.formats import parse_list
from threat_response.vendors.list_feed.vendor import VENDOR


class ListFeedHook(Provider, VendorHook):
    """
    Read block lists over HTTP or from object storage, and keep the last good copy in the archive.

    Connection: ``host`` (for lists over HTTP), extra ``lists`` (see :func:`api.parse_sources`), optionally
    ``login`` and ``password`` (Basic), or ``password`` alone with extra ``key_header`` naming its header.
    """

    declared = VENDOR
    types = frozenset(
        {
            ObservableType.IPV4,
            ObservableType.IPV6,
            ObservableType.DOMAIN,
            ObservableType.URL,
            ObservableType.FILE,
            ObservableType.ASN,
        }
    )
    #: Spamhaus asks for no more than one pull an hour.
    refresh_every = timedelta(hours=1)

    def auth(self, connection: Connection) -> AuthBase | None:
        if connection.login:
            return HTTPBasicAuth(connection.login, connection.password or "")
        return None

    def headers(self, connection: Connection) -> dict[str, str]:
        name = self.settings.key_header
        return {name: self.credential("password")} if name else {}

    def sources(self) -> list[Source]:
        """
        The lists that the connection names.

        :raises WrongConnection: the connection's ``lists`` is wrong; names the line
        """
        try:
            return api.parse_sources(self.settings.lists)
        except ValueError as error:
            raise WrongConnection(self.vendor, "connection", f"wrong field lists: {error}") from None

    @property
    def stale_after(self) -> timedelta:
        """A list that could not be read for this long says nothing about what it does not name."""
        return timedelta(hours=self.settings.stale_after_hours)

    def refresh(self, source: Source, *, now: datetime, not_before: timedelta) -> dict[str, Any]:
        """
        The newest good copy of a list: asks when it was last asked for, with or without success, longer ago than
        ``not_before``.

        :return: ``{name, format, score, location, uri, entries, digest, body_digest, broken, broken_uri, etag,
            last_modified, fetched_at}``; ``fetched_at`` is when the provider last said that this is its list
        :raises Unavailable, RateLimited, Unexpected: the list cannot be read and there is no copy to go on with
        """
        copies = Copies(settings.archive() / "lists" / source.name, asdict(source))

        def download(references: list[Reference]) -> list[Reference]:
            current = references[0] if references else None
            content, etag, last_modified = self._download(source, current)
            if content is None and current:
                return [{**current, "fetched_at": now.isoformat()}]
            unchanged = {"etag": etag, "last_modified": last_modified, "fetched_at": now.isoformat()}
            return [{**self._keep(copies, source, content or b"", current), **unchanged}]

        def on_outage(error: VendorError) -> None:
            then = f"Going on with the copy of {copies.references[0]['fetched_at']}"
            self.log.log(level_of(error), "List %s: %s. %s", source.name, error, then)

        (reference,) = copies.refresh(download, now=now, not_before=not_before, on_outage=on_outage)
        return reference

    def load(self, reference: dict[str, Any]) -> list[str]:
        """
        The entries of a copy.

        :raises Unexpected: it is not there any more, or not whole
        """
        operation = f"list {reference['name']}"
        return load_copy(self.vendor, operation, reference, lambda content: content.decode().splitlines())

    def refresh_all(
        self, *, now: datetime, not_before: timedelta, meter: Callable[[str], Meter]
    ) -> list[dict[str, Any]]:
        """
        A list that cannot be read now is replaced by its last good copy, with a warning. One without a copy costs
        itself only: its reference has no ``uri``, and what no other list names was then not checked.

        :raises VendorError: no list can be read; or a person must act, since all lists are of this connection
        """
        references, failures = [], []
        for source in self.sources():
            try:
                reference = self.refresh(source, now=now, not_before=not_before)
            except Unauthorized:
                raise
            except VendorError as error:
                self.log.error("List %s is left out: %s", source.name, error)
                failures.append(error)
                reference = {**asdict(source), "uri": None, "problem": error.reason}
            else:
                self.log.info("List %(name)s: %(entries)d entries, fetched at %(fetched_at)s", reference)
            references.append(reference)
        if len(failures) == len(references):
            raise failures[0]
        return references

    def answers(
        self, observables: Sequence[Observable], copies: Sequence[Mapping[str, Any]], *, now: datetime
    ) -> list[Reputation]:
        lists, states = [], {}
        for reference in map(dict, copies):
            name, doubt = reference["name"], api.doubt(reference, now=now, stale_after=self.stale_after)
            entries: list[str] = []
            if reference["uri"] is not None:
                try:
                    entries = self.load(reference)
                except VendorError as error:
                    doubt = f"could not be read: {error.reason}"
            if doubt:
                self.log.error("List %s %s", name, doubt)
            read_at = datetime.fromisoformat(reference["fetched_at"]) if entries else now
            states[name] = Copy(read_at, reference.get("body_digest", ""), doubt)
            lists.append((Source(name, reference["format"], reference["location"], reference["score"]), entries))
        index = ListIndex(lists, states)
        return [index.reputation(observable, known_at=now) for observable in observables]

    def ping(self) -> str:
        found = []
        for source in self.sources():
            content, _, _ = self._download(source, None)
            found.append(f"{source.name} {len(parse_list(source, content or b'').entries)}")
        return f"{len(found)} lists can be read, entries: {', '.join(found)}"

    def _download(self, source: Source, current: dict[str, Any] | None) -> tuple[bytes | None, str | None, str | None]:
        """Content (None: unchanged), ETag, Last-Modified."""
        largest = self.settings.largest_megabytes * 2**20
        if not source.is_http:
            operation = f"list {source.name}"
            return read_object(self.vendor, operation, source.location, largest_bytes=largest), None, None
        known = current or {}
        request = api.list_request(
            source, etag=known.get("etag"), last_modified=known.get("last_modified"), largest_bytes=largest
        )
        response = self.exchange(request)
        if response.status == 304 and current:
            return None, None, None
        response = self.accept(request, response)
        return response.body, response.headers.get("etag"), response.headers.get("last-modified")

    def _keep(self, copies: Copies, source: Source, content: bytes, before: Reference | None) -> Reference:
        entries, broken = parse_list(source, content)
        largest_loss = self.settings.largest_loss
        if before and has_shrunk(before["entries"], len(entries), largest_loss=largest_loss):
            problem = (
                f"shrank from {before['entries']} to {len(entries)} entries: more likely cut than cleaned "
                f"(largest_loss is {largest_loss} %)"
            )
            raise Unexpected(self.vendor, f"list {source.name}", problem)
        name = digest(entries)
        uri = copies.keep(f"{name[:16]}.txt", "\n".join(entries).encode())
        broken_uri = None
        if broken:
            aside = "\n".join(broken[: api.MOST_BROKEN_KEPT]).encode("utf-8", "replace")
            broken_uri = copies.keep(f"{name[:16]}.broken.txt", aside)
            self.log.warning("List %s: %d lines could not be read; kept at %s", source.name, len(broken), broken_uri)
        self.log.info("List %s: %d entries, copy %s", source.name, len(entries), one_line(uri))
        return {
            **asdict(source),
            "uri": uri,
            "entries": len(entries),
            "digest": name,
            "body_digest": hashlib.sha256(content).hexdigest(),
            "broken": len(broken),
            "broken_uri": broken_uri,
        }

    def secrets(self, connection: Connection) -> Iterable[str | None]:
        return basic_secrets(connection)
