"""The MISP warning lists as one index, which the gate asks: what is refused a block, and what is only named.

The lists come from the package ``pymispwarninglists`` (the data of https://github.com/MISP/misp-warninglists); its own
look-up is not used: by default it compares strings only, and its exact search takes seconds to load. What each list
means to us is in ``include/config/never_block/lists.yaml``. ``index_builder.py`` makes the index, ``index_file.py``
reads the lists and keeps the index on disk.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from include.soar.extract.values import CIDR, FILE
from include.soar.gate.hosts import host_of, levels
from include.soar.gate.intervals import BITS, Intervals, overlapped
from include.soar.gate.special import embedded_address, networks_of
from include.soar.model import HASH_BY_LENGTH, Observable

#: A part of the index, as the file holds it.
Block = bytes | memoryview

#: Set in the value of a name that is an entry with ``www.`` before it.
WWW = 1 << 16

Match = Literal["exact", "www", "suffix"]


class ListsError(ValueError):
    """The decisions on the warning lists cannot be read; the message names file, list and problem."""


class ListDecision(BaseModel):
    """
    What one list means to us.

    :param use: ``refuse`` a block, ``tag`` only, or ``ignore``
    :param match: how names match, where the list's own type does not say it well (see lists.yaml)
    :param exceptions: entries that do not count, and why. A network inside an entry is cut out of it.
    :param refused: entries of a ``tag`` list that are refused all the same, and why
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["refuse", "tag", "ignore"]
    reason: str = Field(min_length=10)
    match: Match | None = None
    exceptions: dict[str, str] = Field(default_factory=dict, alias="except")
    refused: dict[str, str] = Field(default_factory=dict, alias="refuse")


#: A list that nobody has decided on protects: a block that was not made can be made later, a block of a friend is an
#: outage. The reason appears in the incident, which asks for a decision.
UNDECIDED = ListDecision(use="refuse", reason="no decision on this new list yet (never_block/lists.yaml)")


#: Who lays a list of their own beside the package's wants it to protect.
UNDECIDED_OWN = ListDecision(use="refuse", reason="on a list of our own")
#: What the public-suffix list is called among the lists.
SUFFIXES = "public suffix list"


class Entry(NamedTuple):
    list_name: str
    entry: str
    reason: str


class WarningLists:
    """
    The index. Its values are numbers, which ``network`` and ``name`` turn into entries; 0 is no entry.

    :param head: ``lists`` (name and reason of each), ``tagged`` (the lists of each tag value), ``emails``
        (pattern and list of each), ``skipped`` (entries that are of no kind that we know), ``wildcards`` (names of
        which each name below is let to anybody, with the number of their list)
    """

    def __init__(self, head: dict[str, Any], sections: Mapping[str, Block]) -> None:
        self.head = head
        self.sections = sections
        self._lists: list[list[str]] = head["lists"]
        self._tagged: list[list[int]] = head["tagged"]
        self.networks = {family: self._intervals(f"refuse.{family}") for family in (4, 6)}
        self.exact = self._names("refuse.exact")
        self.suffixes = self._names("refuse.suffix")
        self.wildcards: dict[str, int] = dict(head["wildcards"])
        self.emails = [(re.compile(pattern, re.IGNORECASE), number) for pattern, number in head["emails"]]

    @property
    def skipped(self) -> list[list[str]]:
        """List and entry of what could not be read. It protects nothing, so a test requires a decision on it."""
        skipped: list[list[str]] = self.head["skipped"]
        return skipped

    def network(self, value: int) -> Entry:
        """The entry of a value of ``networks``."""
        texts, numbers = self._network_entries
        return self._entry(numbers[value - 1], texts[value - 1])

    def name(self, value: int, matched: str) -> Entry:
        """The entry of a value of ``exact`` or ``suffixes``, given the name under which it was found."""
        return self._entry((value & ~WWW) - 1, matched.removeprefix("www.") if value & WWW else matched)

    def file(self, value: str) -> Entry | None:
        """:param value: a hash in lower-case hexadecimal digits"""
        starts, rows, numbers = self._hashes.get(len(value), ((), b"", ()))
        wanted, size = bytes.fromhex(value), len(value) // 2
        start = int.from_bytes(wanted[:8], "big")
        place = bisect_left(starts, start)
        while place < len(starts) and starts[place] == start:
            if rows[place * size : place * size + size] == wanted:
                return self._entry(numbers[place], value)
            place += 1
        return None

    def email(self, value: str) -> Entry | None:
        for pattern, number in self.emails:
            if pattern.fullmatch(value):
                return self._entry(number, pattern.pattern)
        return None

    @cached_property
    def exact_names(self) -> frozenset[str]:
        """The keys of ``exact`` as a set, in which a look-up takes half the time."""
        return frozenset(self.exact)

    @cached_property
    def tagged_networks(self) -> dict[int, Intervals]:
        return {family: self._intervals(f"tag.{family}") for family in (4, 6)}

    @cached_property
    def tagged_names(self) -> tuple[dict[str, int], dict[str, int]]:
        """By the whole name, and by it or any name above it."""
        return self._names("tag.exact"), self._names("tag.suffix")

    def tags(self, observable: Observable) -> tuple[str, ...]:
        """Names of the lists that name a value and refuse nothing, in order: cloud ranges, VPN exits, scanners…"""
        exact, suffix = self.tagged_names
        values: list[int] = []
        host: bytes | str | None = None
        if observable.type is CIDR:
            for network in networks_of(observable.value):
                values += overlapped(self.tagged_networks[network.version], network)
        elif observable.type is FILE:
            values.append(exact.get(observable.value, 0))
        else:
            host = host_of(observable)
        if isinstance(host, bytes):
            for packed in (host, embedded_address(host) if len(host) == 16 else None):
                if packed:
                    starts, tagged = self.tagged_networks[4 if len(packed) == 4 else 6]
                    values.append(tagged[bisect_right(starts, int.from_bytes(packed, "big")) - 1])
        elif host:
            values += [exact.get(host, 0), *(suffix.get(name, 0) for name in levels(host))]
        return tuple(sorted({self._lists[number][0] for value in values if value for number in self._tagged[value]}))

    def _entry(self, number: int, entry: str) -> Entry:
        name, reason = self._lists[number]
        return Entry(name if name == SUFFIXES or name.startswith("own:") else f"misp:{name}", entry, reason)

    def _numbers(self, name: str, kind: str = "I") -> array[int]:
        numbers = array(kind)
        numbers.frombytes(self.sections[name])
        return numbers

    def _intervals(self, name: str) -> Intervals:
        starts, size = self.sections[f"{name}.starts"], BITS[int(name[-1])] // 8
        if size == 4:
            return self._numbers(f"{name}.starts").tolist(), self._numbers(f"{name}.values").tolist()
        rows = [int.from_bytes(starts[at : at + size], "big") for at in range(0, len(starts), size)]
        return rows, self._numbers(f"{name}.values").tolist()

    def _names(self, name: str) -> dict[str, int]:
        names = str(self.sections[f"{name}.names"], "utf-8")
        return dict(zip(names.split("\n"), self._numbers(f"{name}.values"), strict=True)) if names else {}

    @cached_property
    def _network_entries(self) -> tuple[list[str], array[int]]:
        return str(self.sections["entries"], "utf-8").split("\n"), self._numbers("entries.lists")

    @cached_property
    def _hashes(self) -> dict[int, tuple[array[int], Block, array[int]]]:
        return {
            digits: (
                self._numbers(f"hash.{digits}.starts", "Q"),
                self.sections[f"hash.{digits}.rows"],
                self._numbers(f"hash.{digits}.lists"),
            )
            for digits in HASH_BY_LENGTH
        }
