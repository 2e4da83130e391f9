"""MISP warning lists as one index: what is refused a block, and what is only tagged.

The lists come from the package ``pymispwarninglists`` (the data of https://github.com/MISP/misp-warninglists); its own
look-up is not used: by default it compares strings only, and its exact search takes seconds to load. What each list
means to us is in ``include/config/never_block/lists.yaml``.

Reading the lists takes longer than a task should wait, so the index is kept in a file. Its name is a digest of all
that it follows from: the package's version, our decisions, and this module. It holds numbers and text only, nothing
that could be executed; a broken one is made again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import ipaddress
import json
import re
import sys
import tempfile
import zlib
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from include.soar.gate.hosts import plain_name
from include.soar.gate.intervals import BITS, Intervals, Network, Row, flatten, interval
from include.soar.model import HASH_BY_LENGTH

PACKAGE = "pymispwarninglists"
DECISIONS = Path(__file__).resolve().parents[2] / "config/never_block/lists.yaml"


#: A part of the index as it lies in the file.
Block = bytes | memoryview

#: Set in the value of a name that stands for its entry with ``www.`` before it.
WWW = 1 << 16

_MAGIC = b"never-block 1\n"
_HASH = re.compile(r"[0-9a-f]+")
_REGEX = re.compile(r"/(.*)/i?")

#: MISP's attribute types -> the kinds of entries that we read from a list.
_ADDRESSES = {"ip-src", "ip-dst", "domain|ip"}
_NAMES = {"domain", "hostname", "url", "domain|ip", "dns-soa"}
_HASHES = {"md5", "sha1", "sha256", "sha512"}
_EMAILS = {"email-src", "email-dst"}

Match = Literal["exact", "www", "suffix"]
_MATCH: Mapping[str, Match] = {"string": "exact", "hostname": "www", "substring": "suffix"}


class ListsError(ValueError):
    """The decisions on the warning lists cannot be read; the message names file, list and problem."""


class ListDecision(BaseModel):
    """
    What one list means to us.

    :param use: ``refuse`` a block, ``tag`` only, or ``ignore``
    :param match: how names match, where the list's own type does not say it well (see lists.yaml)
    :param exceptions: entries that do not count, and why. A network may lie inside of an entry: it is cut out.
    :param refused: entries of a ``tag`` list that are refused all the same, and why
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: Literal["refuse", "tag", "ignore"]
    reason: str = Field(min_length=10)
    match: Match | None = None
    exceptions: dict[str, str] = Field(default_factory=dict, alias="except")
    refused: dict[str, str] = Field(default_factory=dict, alias="refuse")


#: A list that nobody has decided on protects: too few blocks can be mended, a block of a friend is an outage. The
#: words appear in the incident, so that somebody decides.
UNDECIDED = ListDecision(use="refuse", reason="nobody has decided on this new list yet (never_block/lists.yaml)")


class Entry(NamedTuple):
    list_name: str
    entry: str
    reason: str


def read_decisions(path: Path) -> dict[str, ListDecision]:
    """:raises ListsError: naming file, list and problem"""
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
        lists = document["lists"]
        names = list(lists)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ListsError(f"{path}: {error}") from None
    decided = {}
    for name in names:
        try:
            decided[name] = ListDecision.model_validate(lists[name])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ListsError(f"{path}: lists.{name}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return decided


def package_lists() -> Path:
    """The folder that holds a folder per list, each with a ``list.json``. :raises ListsError: not installed"""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ListsError(f"{PACKAGE} is not installed: without its lists nothing well-known would be protected")
    return Path(found.submodule_search_locations[0]) / "data/misp-warninglists/lists"


def cache_folder() -> Path:
    """
    In the environment that the package is installed in: who may write there may change our code as well, so the index
    is as safe as that. Where a task may not write (a container), the index is made at set-up.
    """
    return Path(sys.prefix) / "share/threat-response"


@lru_cache(maxsize=1)
def shipped() -> WarningLists:
    """The installed package's lists under the project's decisions."""
    return load(DECISIONS, cache=cache_folder())


def load(decisions: Path, *, cache: Path | None) -> WarningLists:
    """
    The index, from ``cache`` if it is there; else it is made, and kept there if that folder can be written.

    :param cache: None keeps nothing
    :raises ListsError: the decisions or the package cannot be read
    """
    lists = package_lists()
    try:
        parts = (_MAGIC, version(PACKAGE).encode(), sys.byteorder.encode(), decisions.read_bytes())
    except OSError as error:
        raise ListsError(f"{decisions}: {error}") from None
    key = hashlib.sha256(b"\0".join((*parts, Path(__file__).read_bytes()))).hexdigest()[:32]
    path = cache / f"never-block-{key}.index" if cache else None
    if path and (kept := _read(path)):
        return kept
    made = build(read_decisions(decisions), lists)
    if path:
        _write(path, made)
    return made


def _read(path: Path) -> WarningLists | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # A checksum, not a signature: it is about a disk that was full, not about an enemy (see cache_folder).
    body = memoryview(content)[len(_MAGIC) + 4 :]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) :][:4] != zlib.crc32(body).to_bytes(4, "big"):
        return None
    size = int.from_bytes(body[:4], "big")
    head = json.loads(bytes(body[4 : 4 + size]))
    sections: dict[str, Block] = {}
    at = 4 + size
    for name, length in head.pop("sections"):
        sections[name] = body[at : at + length]
        at += length
    return WarningLists(head, sections)


def _write(path: Path, made: WarningLists) -> None:
    sections = [[name, len(content)] for name, content in made.sections.items()]
    head = json.dumps({**made.head, "sections": sections}).encode()
    body = b"".join((len(head).to_bytes(4, "big"), head, *made.sections.values()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under a name of its own until it is whole: several processes may be at it.
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body)
                file.flush()
                part.chmod(0o644)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        # An environment has one package, one code and one set of decisions: what was made of others is of no use.
        for old in path.parent.glob("never-block-*.index"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError:
        return  # A folder that cannot be written costs time at the next load, not an answer.


# --- look-up ------------------------------------------------------------------------------------------------------


class WarningLists:
    """
    The index. Values are numbers: ``entry`` and ``name`` say what they stand for; 0 is no entry.

    :param head: ``lists`` (name and reason of each), ``tagged`` (which lists a tag value stands for), ``emails``
        (pattern and list of each), ``skipped`` (entries that are of no kind that we know)
    """

    def __init__(self, head: dict[str, Any], sections: Mapping[str, Block]) -> None:
        self.head = head
        self.sections = sections
        self._lists: list[list[str]] = head["lists"]
        self._tagged: list[list[int]] = head["tagged"]
        self.networks = {family: self._intervals(f"refuse.{family}") for family in (4, 6)}
        self.exact = self._names("refuse.exact")
        self.suffixes = self._names("refuse.suffix")
        self.emails = [(re.compile(pattern, re.IGNORECASE), number) for pattern, number in head["emails"]]

    @property
    def skipped(self) -> list[list[str]]:
        """List and entry of what could not be read: protects nothing, so a test wants it decided on."""
        skipped: list[list[str]] = self.head["skipped"]
        return skipped

    def network(self, value: int) -> Entry:
        """What a value of ``networks`` stands for."""
        texts, numbers = self._network_entries
        return self._entry(numbers[value - 1], texts[value - 1])

    def name(self, value: int, matched: str) -> Entry:
        """What a value of ``exact`` or ``suffixes`` stands for, given the name that was found there."""
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
        """The keys of ``exact`` as a set, which is asked twice as fast."""
        return frozenset(self.exact)

    @cached_property
    def tagged_networks(self) -> dict[int, Intervals]:
        return {family: self._intervals(f"tag.{family}") for family in (4, 6)}

    @cached_property
    def tagged_names(self) -> tuple[dict[str, int], dict[str, int]]:
        """By the whole name, and by it or any name above it."""
        return self._names("tag.exact"), self._names("tag.suffix")

    def tags(self, values: Iterable[int]) -> tuple[str, ...]:
        """Names of the lists that values of ``tagged_networks`` or ``tagged_names`` stand for, in order."""
        return tuple(sorted({self._lists[number][0] for value in values if value for number in self._tagged[value]}))

    def _entry(self, number: int, entry: str) -> Entry:
        name, reason = self._lists[number]
        return Entry(f"misp:{name}", entry, reason)

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


# --- making the index ---------------------------------------------------------------------------------------------


class _Builder:
    """Collects entries. Order counts: of two lists with the same entry the first one answers."""

    def __init__(self) -> None:
        self.lists: list[list[str]] = []
        self.skipped: list[list[str]] = []
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
                # SHA-224 is none of STIX's, nor of ours: such an observable does not come.
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
        """Which lists hold where: intervals of several lists overlap, and every one of them is named."""
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


def build(decisions: Mapping[str, ListDecision], folder: Path) -> WarningLists:
    """
    Read every list that counts.

    :param folder: holds a folder per list, as in the package. A list that is not there is passed over.
    :raises ListsError: a list cannot be read
    """
    builder = _Builder()
    there = sorted(path.parent.name for path in folder.glob("*/list.json"))
    decided = [name for name in decisions if name in set(there)]
    for name in (*decided, *(name for name in there if name not in decisions)):
        decision = decisions.get(name, UNDECIDED)
        if decision.use == "ignore":
            continue
        path = folder / name / "list.json"
        try:
            builder.add(name, decision, json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ListsError(f"{path}: {error}") from None
    return builder.index()
