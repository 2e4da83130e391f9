"""Block lists without I/O: the formats they come in, and looking a value up in them.

``drop``        Spamhaus DROP's NDJSON: ``{"cidr": "…", "sblid": "…", "rir": "…"}`` a line, or ``{"asn": 64496, …}``; a
                last line of metadata. https://www.spamhaus.org/blocklists/do-not-route-or-peer/
``plain``       one address, network, range (``203.0.113.0-203.0.113.9``), domain, URL, hash or AS number a line; ``#``
                and ``;`` begin a comment at the line's start and behind a blank. Also the lines of a hosts file
                (``0.0.0.0 evil.example``), of an ad blocker (``||evil.example^``) and of md5sum.
``csv:COLUMN``  such a thing in one column of every row: its name in the head line, which may be a comment
                (``csv:dst_ip``), or its number from 1 on where there is no head (``csv:2``). ``csv:Start-End`` where a
                range has a column for each of its ends. Apart by commas, or by semicolons.
``tsv:COLUMN``  the same, apart by tabs.

Any of them may be packed by gzip, and its values defanged.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from include.soar.gate.intervals import NetworkTable
from include.soar.gate.layers import Hit
from include.soar.model import Answer, Listing, Observable, ObservableType, Reputation, digest
from include.soar.vendor.errors import one_line
from include.soar.vendor.wire import Request

VENDOR = "list_feed"
FORMATS = ("drop", "plain", "csv:COLUMN", "tsv:COLUMN")
_FORMAT = re.compile(r"drop|plain|(csv|tsv):(.+)")
TIMEOUT_SECONDS = 60.0

#: So many of the lines that could not be read are kept for a person to look at.
MOST_BROKEN_KEPT = 1000


@dataclass(frozen=True)
class Source:
    """
    One list to read.

    :param location: a path on the connection's host (``/drop/drop_v4.json``), or an object-storage URL
    :param score: 1-100, how bad being on this list is
    """

    name: str
    format: str
    location: str
    score: int

    @property
    def is_http(self) -> bool:
        return self.location.startswith("/")


def parse_sources(text: str) -> list[Source]:
    """
    The connection's ``lists``: one a line (or separated by ``|``), ``name format location [score]``.

    :raises ValueError: naming the line and what is wrong with it
    """
    sources = []
    for number, line in enumerate(text.replace("|", "\n").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (3, 4):
            raise ValueError(f"lists, line {number}: write 'name format location [score]'")
        name, kind, location = words[:3]
        given = words[3] if len(words) == 4 else "100"
        score = int(given) if given.isascii() and given.isdigit() else 0
        if not _FORMAT.fullmatch(kind):
            raise ValueError(f"lists, line {number}: format {kind!r} is not one of {', '.join(FORMATS)}")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"lists, line {number}: name {name!r} is not letters, digits, - and _")
        if not 1 <= score <= 100:
            raise ValueError(f"lists, line {number}: score {given!r} is not 1 to 100")
        if not location.startswith("/") and "://" not in location:
            raise ValueError(f"lists, line {number}: location {location!r} is neither a path nor a URL")
        if location.startswith(("http://", "https://")):
            raise ValueError(f"lists, line {number}: give the path only; the host is the connection's")
        sources.append(Source(name, kind, location, score))
    if not sources:
        raise ValueError("lists: none given")
    return sources


def list_request(source: Source, *, etag: str | None, last_modified: str | None, largest_bytes: int) -> Request:
    """A conditional GET: an unchanged list costs the provider nothing."""
    headers = {"Accept": "*/*"}
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    return Request(
        "GET",
        source.location,
        operation=f"list {source.name}",
        headers=headers,
        timeout_seconds=TIMEOUT_SECONDS,
        largest_bytes=largest_bytes,
    )


@dataclass(frozen=True)
class Copy:
    """
    What we hold of a list.

    :param read_at: when the provider last said that this is its list
    :param doubt: why its silence is no answer, e.g. that it is too old; empty where it is one
    """

    read_at: datetime
    body_digest: str
    doubt: str = ""


class ListIndex:
    """
    Several lists, looked up at once: networks by longest prefix, domains by suffix, the rest exactly.

    :param copies: by the list's name
    """

    def __init__(self, lists: Iterable[tuple[Source, Sequence[str]]], copies: Mapping[str, Copy] | None = None) -> None:
        self._copies = dict(copies or {})
        self._exact: dict[str, list[Source]] = {}
        self._networks: list[tuple[Source, NetworkTable]] = []
        for source, entries in lists:
            networks = []
            for entry in entries:
                kind, _, value = entry.partition(":")
                if kind == "network":
                    hit = Hit(layer=source.name, entry=value, reason=value)
                    networks.append((ipaddress.ip_network(value), hit))
                else:
                    self._exact.setdefault(entry, []).append(source)
            if networks:
                self._networks.append((source, NetworkTable(networks)))

    def look_up(self, observable: Observable) -> list[tuple[Source, str]]:
        """Every list that names the observable, with the entry that does."""
        found: list[tuple[Source, str]] = []
        if observable.is_address:
            address = ipaddress.ip_address(observable.value)
            found = [(s, hit.entry) for s, table in self._networks if (hit := table.get(address))]
        elif observable.type is ObservableType.DOMAIN:
            labels = observable.value.split(".")
            # A listed domain lists the names below it; a top-level domain never does.
            for start in range(len(labels) - 1):
                name = ".".join(labels[start:])
                found += [(s, name) for s in self._exact.get(f"{ObservableType.DOMAIN.value}:{name}", ())]
        else:
            found = [(s, observable.value) for s in self._exact.get(observable.key, ())]
        return found

    def reputation(self, observable: Observable, *, known_at: datetime) -> Reputation:
        """
        Listed where a list names it, also an old one: it says how old, and its word fades as any other. Not listed only
        where no list is in doubt.
        """
        found = self.look_up(observable)
        names = {source.name for source, _ in found} or set(self._copies)
        copies = {name: copy for name, copy in self._copies.items() if name in names}
        doubts = [f"{name} {copy.doubt}" for name, copy in copies.items() if copy.doubt]
        bodies = sorted(copy.body_digest for copy in copies.values())
        about: dict[str, Any] = {
            "observable": observable,
            "provider": VENDOR,
            "body_digest": bodies[0] if len(bodies) == 1 else digest(bodies) if bodies else "",
            "known_at": known_at,
        }
        if found:
            scores = {source.name: source.score for source, _ in found}
            said = [f"{source.name} lists {one_line(entry, 100)}" for source, entry in found]
            return Reputation(
                **about,
                answer=Answer.LISTED,
                score=max(scores.values()),
                summary="; ".join(said + doubts),
                last_reported_at=max(c.read_at for c in copies.values()) if len(doubts) == len(names) else None,
                lists=tuple(Listing(name=name, score=score) for name, score in scores.items()),
            )
        if doubts:
            return Reputation(**about, answer=Answer.NOT_CHECKED, summary=f"on no list, but {'; '.join(doubts)}")
        return Reputation(**about, answer=Answer.NOT_LISTED, score=0, summary="on no list")


def doubt(reference: Mapping[str, Any], *, now: datetime, stale_after: timedelta) -> str:
    """Why a list's silence is no answer; empty where it is one."""
    if reference["uri"] is None:
        return f"could not be read: {reference['problem']}"
    read_at = datetime.fromisoformat(reference["fetched_at"])
    return f"is stale: last read at {read_at:%Y-%m-%d %H:%M}Z" if now - read_at >= stale_after else ""
