"""Block lists without I/O: the formats they come in, and looking a value up in them.

``drop``   Spamhaus DROP's NDJSON: ``{"cidr": "…", "sblid": "…", "rir": "…"}`` a line, a last line of metadata.
           https://www.spamhaus.org/blocklists/do-not-route-or-peer/
``plain``  one address, network, domain, URL or hash a line; ``#`` and ``;`` begin a comment.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.soar.errors import Unexpected, one_line
from include.soar.gate import Hit, NetworkTable
from include.soar.model import Answer, Observable, ObservableType, Reputation
from include.soar.observables import parse_domain, parse_hash, parse_url
from include.soar.wire import Request

VENDOR = "list_feed"
FORMATS = ("drop", "plain")
TIMEOUT_SECONDS = 60.0

#: A list shorter than this share of its predecessor is more likely a broken download than a cleaned Internet.
SMALLEST_SHARE = 0.5
#: A network wider than this is a slip of the list's author: 0.0.0.0/0 would list everybody.
SHORTEST_PREFIX = {4: 8, 6: 16}


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
        if kind not in FORMATS:
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


def list_request(source: Source, *, etag: str | None, last_modified: str | None) -> Request:
    """A conditional GET: an unchanged list costs the provider nothing."""
    headers = {"Accept": "*/*"}
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    return Request(
        "GET", source.location, operation=f"list {source.name}", headers=headers, timeout_seconds=TIMEOUT_SECONDS
    )


def parse_list(source: Source, content: bytes) -> tuple[list[str], int]:
    """
    A list's entries in canonical text, and how many lines could not be read.

    :raises Unexpected: nothing in it can be read (a web page, say): such a thing is not an empty list
    """
    lines = [line for line in map(str.strip, content.decode("utf-8", "replace").splitlines()) if line]
    texts = _drop_texts(source, lines) if source.format == "drop" else _plain_texts(lines)
    entries = [entry for entry in map(_entry, texts) if entry is not None]
    unreadable = len(texts) - len(entries)
    if not entries or unreadable > len(entries):
        problem = f"{len(entries)} entries and {unreadable} unreadable lines: not a {source.format} list"
        raise Unexpected(VENDOR, f"list {source.name}", problem)
    return sorted(set(entries)), unreadable


def _plain_texts(lines: list[str]) -> list[str]:
    texts = (line.split("#", 1)[0].split(";", 1)[0].strip() for line in lines)
    return [text for text in texts if text]


def _drop_texts(source: Source, lines: list[str]) -> list[str]:
    """
    The networks' texts; an empty one for a line that is no JSON.

    :raises Unexpected: the metadata line counts other records than there are: the list was cut
    """
    rows = [_json(line) for line in lines]
    networks = [row for row in rows if row.get("type") != "metadata"]
    for row in rows:
        if row.get("type") == "metadata" and row.get("records", len(networks)) != len(networks):
            problem = f"says that it has {row['records']} records, and holds {len(networks)}"
            raise Unexpected(VENDOR, f"list {source.name}", problem)
    if rows and not rows[-1]:
        raise Unexpected(VENDOR, f"list {source.name}", "ends in the middle of a line, or is not a drop list")
    return [str(row.get("cidr", "")) for row in networks]


def _json(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _entry(text: str) -> str | None:
    if "://" in text:
        return url.key if (url := parse_url(text)) else None
    try:
        network = ipaddress.ip_network(text, strict=False)
        return f"network:{network}" if network.prefixlen >= SHORTEST_PREFIX[network.version] else None
    except ValueError:
        pass
    for parse in (parse_hash, parse_domain):
        if found := parse(text):
            return found.key
    return None


class ListIndex:
    """Several lists, looked up at once: networks by longest prefix, domains by suffix, the rest exactly."""

    def __init__(self, lists: Iterable[tuple[Source, Sequence[str]]]) -> None:
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
        found = self.look_up(observable)
        if not found:
            return Reputation(
                observable=observable,
                provider=VENDOR,
                answer=Answer.NOT_LISTED,
                score=0,
                summary="on no list",
                known_at=known_at,
            )
        return Reputation(
            observable=observable,
            provider=VENDOR,
            answer=Answer.LISTED,
            score=max(source.score for source, _ in found),
            summary="; ".join(f"{source.name} lists {one_line(entry, 100)}" for source, entry in found),
            known_at=known_at,
        )
