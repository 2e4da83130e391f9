"""Makes the index of the warning lists from the lists and our decisions on them. Pure."""

from __future__ import annotations

import ipaddress
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from include.soar.gate.hosts import plain_name
from include.soar.gate.intervals import BITS, Intervals, Network, Row, flatten, interval
from include.soar.gate.warninglists import SUFFIXES, WWW, Block, ListDecision, Match, WarningLists
from include.soar.model import HASH_BY_LENGTH

_HASH = re.compile(r"[0-9a-f]+")
_NOTE = re.compile(r"(?:^|\s)#")
_REGEX = re.compile(r"/(.*)/i?")

#: MISP's attribute types -> the kinds of entries that we read from a list.
_ADDRESSES = {"ip-src", "ip-dst", "domain|ip"}
_NAMES = {"domain", "hostname", "url", "domain|ip", "dns-soa"}
_HASHES = {"md5", "sha1", "sha256", "sha512"}
_EMAILS = {"email-src", "email-dst"}
_MATCH: Mapping[str, Match] = {"string": "exact", "hostname": "www", "substring": "suffix"}


class OwnList(NamedTuple):
    """A list of the SOC's own. :param content: as in the package: ``list``, ``type``, ``matching_attributes``"""

    name: str
    decision: ListDecision
    content: Mapping[str, Any]


def own_list(text: str) -> list[dict[str, Any]]:
    """
    A list of a SOC's own as the package writes them: an address, network, name or hash a line, notes behind a ``#``.
    A name is meant as such; with a dot before it, it is meant with all names below it.

    :raises ValueError: naming the line that is none of these
    """
    names, hashes = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = _NOTE.split(line, maxsplit=1)[0].strip()
        if not entry:
            continue
        if len(entry) in HASH_BY_LENGTH and _HASH.fullmatch(entry.lower()):
            hashes.append(entry)
        elif _is_network(entry) or ((name := plain_name(entry)) and "." in name and not name[-1].isdigit()):
            names.append(entry)
        else:
            raise ValueError(f"line {number}: {entry!r} is no address, network, name or hash")
    kinds = ((names, ["ip-src", "hostname"]), (hashes, ["sha256"]))
    return [{"list": found, "type": "string", "matching_attributes": kind} for found, kind in kinds if found]


class IndexBuilder:
    """Collects entries. Order counts: of two lists with the same entry the first one answers."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []
        self.skipped: list[list[str]] = []
        self.wildcards: dict[str, int] = {}
        self.emails: list[tuple[str, int]] = []
        self.entries: list[str] = []
        self.entry_lists: list[int] = []
        self.rows: dict[int, list[Row]] = {4: [], 6: []}
        self.tag_rows: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
        self.names: dict[str, dict[str, int]] = {"exact": {}, "suffix": {}}
        self.tag_names: dict[str, dict[str, set[int]]] = {"exact": defaultdict(set), "suffix": defaultdict(set)}
        self.hashes: dict[int, dict[str, int]] = {digits: {} for digits in HASH_BY_LENGTH}
        self.combinations: dict[tuple[int, ...], int] = {(): 0}

    def add(self, name: str, decision: ListDecision, content: Mapping[str, Any]) -> None:
        self.lists.append([name, decision.reason])
        kinds = set(content["matching_attributes"])
        entries = [text for entry in content["list"] if (text := str(entry).strip()) not in decision.exceptions]
        holes = [ipaddress.ip_network(text) for text in decision.exceptions if _is_network(text)]
        for entry in entries:
            tag = decision.use == "tag" and entry not in decision.refused
            if not self._add_entry(entry, content["type"], kinds, decision.match, tag=tag, holes=holes):
                self.skipped.append([name, entry])

    def add_suffixes(self, suffixes: Sequence[str]) -> None:
        """The names below which anybody can rent one: a block of the name itself would hit all of them."""
        self.lists.append([SUFFIXES, "anybody can rent a name below it, so a block would hit unrelated people"])
        for suffix in suffixes:
            if name := plain_name(suffix.removeprefix("*.")):
                self.names["exact"].setdefault(name, len(self.lists))
                if suffix.startswith("*."):
                    self.wildcards[name] = len(self.lists)

    def _add_entry(
        self, entry: str, kind: str, kinds: set[str], match: Match | None, *, tag: bool, holes: Sequence[Network]
    ) -> bool:
        if kinds & _ADDRESSES and (kind == "cidr" or entry[-1].isdigit() or ":" in entry) and _is_network(entry):
            self._add_network(entry, tag, holes)
        elif kind == "regex":
            found = _REGEX.fullmatch(entry)
            if not kinds & _EMAILS or found is None or tag:
                return False
            self.emails.append((found[1], len(self.lists) - 1))
        elif kinds & _HASHES:
            digits = entry.lower()
            if not _HASH.fullmatch(digits):
                return False
            if tag:
                self.tag_names["exact"][digits].add(len(self.lists) - 1)
            else:
                # Neither STIX nor we have SHA-224, so there is never such an observable.
                self.hashes.get(len(digits), {}).setdefault(digits, len(self.lists) - 1)
        elif kinds & _NAMES and (name := plain_name(entry)) and (len(name) > 2 or not entry.startswith(".")):
            self._add_name(name, "suffix" if entry.startswith(".") else match or _MATCH[kind], tag)
        else:
            return False
        return True

    def _add_network(self, entry: str, tag: bool, holes: Sequence[Network]) -> None:
        pieces = [interval(entry)]
        for hole in holes:
            pieces = [part for piece in pieces for part in _without(piece, hole)]
        if not tag:
            self.entries.append(entry)
            self.entry_lists.append(len(self.lists) - 1)
        for family, first, last, prefix in pieces:
            if tag:
                self.tag_rows[family].append((first, last, len(self.lists) - 1))
            else:
                self.rows[family].append(Row(first, last, prefix, len(self.entries)))

    def _add_name(self, name: str, match: Match, tag: bool) -> None:
        number = len(self.lists) - 1
        table = "suffix" if match == "suffix" else "exact"
        with_www = match == "www" and not name.startswith("www.")
        if tag:
            for spelled in (name, f"www.{name}") if with_www else (name,):
                self.tag_names[table][spelled].add(number)
        else:
            self.names[table].setdefault(name, number + 1)
            if with_www:
                self.names[table].setdefault(f"www.{name}", (number + 1) | WWW)

    def _combination(self, numbers: Iterable[int]) -> int:
        return self.combinations.setdefault(tuple(sorted(numbers)), len(self.combinations))

    def _sweep(self, rows: Iterable[tuple[int, int, int]], family: int) -> Intervals:
        """Which lists name which addresses: networks of several lists overlap, and each list is named."""
        changes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for first, last, number in rows:
            changes[first].append((number, 1))
            changes[last + 1].append((number, -1))
        starts, values, current = [0], [0], Counter[int]()
        for at in sorted(changes):
            for number, change in changes[at]:
                current[number] += change
            value = self._combination(number for number, count in current.items() if count)
            if at == 0:
                values[0] = value
            elif value != values[-1] and at < 1 << BITS[family]:
                starts.append(at)
                values.append(value)
        return starts, values

    def index(self) -> WarningLists:
        sections: dict[str, Block] = {
            "entries": "\n".join(self.entries).encode(),
            "entries.lists": array("I", self.entry_lists).tobytes(),
        }
        for family in (4, 6):
            for name, (starts, values) in (
                ("refuse", flatten(self.rows[family], family)),
                ("tag", self._sweep(self.tag_rows[family], family)),
            ):
                packed = (
                    array("I", starts).tobytes() if family == 4 else b"".join(s.to_bytes(16, "big") for s in starts)
                )
                sections[f"{name}.{family}.starts"] = packed
                sections[f"{name}.{family}.values"] = array("I", values).tobytes()
        for table in ("exact", "suffix"):
            tagged = {name: self._combination(numbers) for name, numbers in self.tag_names[table].items()}
            for use, names in (("refuse", self.names[table]), ("tag", tagged)):
                sections[f"{use}.{table}.names"] = "\n".join(names).encode()
                sections[f"{use}.{table}.values"] = array("I", names.values()).tobytes()
        for digits, lists in self.hashes.items():
            ordered = sorted(lists)
            rows = [bytes.fromhex(value) for value in ordered]
            sections[f"hash.{digits}.starts"] = array("Q", (int.from_bytes(r[:8], "big") for r in rows)).tobytes()
            sections[f"hash.{digits}.rows"] = b"".join(rows)
            sections[f"hash.{digits}.lists"] = array("I", (lists[value] for value in ordered)).tobytes()
        head = {
            "lists": self.lists,
            "tagged": list(self.combinations),
            "emails": self.emails,
            "skipped": self.skipped,
            "wildcards": list(self.wildcards.items()),
        }
        return WarningLists(head, sections)


def _is_network(text: str) -> bool:
    try:
        interval(text)
    except ValueError:
        return False
    return True


def _without(piece: tuple[int, int, int, int], hole: Network) -> Iterator[tuple[int, int, int, int]]:
    """What is left of a network when another is cut out of it: networks again."""
    family, first, last, prefix = piece
    if hole.version != family or int(hole.broadcast_address) < first or int(hole.network_address) > last:
        yield piece
    elif hole.prefixlen > prefix:
        whole = ipaddress.ip_network((first, prefix)) if family == 4 else ipaddress.IPv6Network((first, prefix))
        for left in whole.address_exclude(hole):  # type: ignore[arg-type]
            yield family, int(left.network_address), int(left.broadcast_address), left.prefixlen
