"""The lines of a list -> its entries (the formats are named in ``api.py``)."""

from __future__ import annotations

import csv
import ipaddress
import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from include.soar.extract.refang import refang
from include.soar.extract.values import parse_asn, parse_domain, parse_hash, parse_url
from include.soar.vendor.errors import Unexpected
from threat_response.vendors.list_feed.api import VENDOR, Source

#: A network wider than this is a slip of the list's author: 0.0.0.0/0 would list everybody.
SHORTEST_PREFIX = {4: 8, 6: 16}
#: What a packed list may come to.
LARGEST_UNPACKED = 512 * 2**20
#: So many lines are tried as the head line of a table: a remark in front of it may hold the column's name too.
MOST_HEADS = 10

_DELIMITERS = {"csv": (",", ";"), "tsv": ("\t",)}
#: A comment in a plain list. Within a word they are part of a URL (RFC 3986 3.3, 3.5).
_COMMENT = re.compile(r"(?:^|\s)[#;].*", re.S)
_RANGE = re.compile(r"([0-9a-fA-F.:]+)\s*-\s*([0-9a-fA-F.:]+)")
_AD_BLOCKER = re.compile(r"\|\|([^/^$*|]+)\^(?:\$.*)?")
_DEFANGED = re.compile(r"[\[({]|hxxp|\bfxp", re.I)
#: The first word of a hosts file's lines, and names in them that list nobody.
_NOWHERE = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})
_LOCAL = re.compile(r"localhost(?:\.localdomain|[46])?|local|broadcasthost|ip6-\S+|0\.0\.0\.0")
#: What a column of first addresses is called, and the one of the last.
_ENDS = (("start", "end"), ("begin", "end"), ("first", "last"), ("from", "to"), ("low", "high"))


class Parsed(NamedTuple):
    """
    :param entries: in canonical text, sorted
    :param broken: the lines that could not be read
    """

    entries: list[str]
    broken: list[str]


class Row(NamedTuple):
    """A line, and the text in it that should be an entry."""

    line: str
    text: str


def parse_list(source: Source, content: bytes) -> Parsed:
    """
    :raises Unexpected: nothing in it can be read (a web page, say): such a thing is not an empty list
    """
    # utf-8-sig: a spreadsheet begins its CSV with a mark.
    text = _unpacked(source, content).decode("utf-8-sig", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    kind, _, column = source.format.partition(":")
    if kind == "drop":
        return _parsed(source, _drop_rows(source, lines))
    if kind == "plain":
        return _parsed(source, _plain_rows(lines))
    problem = Unexpected(VENDOR, f"list {source.name}", f"no line has a column {column!r}: not a {source.format} list")
    for rows in _tables(source, lines, _DELIMITERS[kind], column):
        try:
            return _parsed(source, rows)
        except Unexpected as error:
            problem = error
    raise problem


def _unpacked(source: Source, content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        text = unpacker.decompress(content, LARGEST_UNPACKED)
    except zlib.error:
        problem = f"begins as gzip and cannot be unpacked: not a {source.format} list"
        raise Unexpected(VENDOR, f"list {source.name}", problem) from None
    if not unpacker.eof:
        problem = "cut" if len(text) < LARGEST_UNPACKED else f"longer than {LARGEST_UNPACKED:,} bytes unpacked"
        raise Unexpected(VENDOR, f"list {source.name}", f"is {problem}: not a {source.format} list")
    return text


def _parsed(source: Source, rows: list[Row]) -> Parsed:
    entries: set[str] = set()
    broken = []
    for row in rows:
        if found := _entries(row.text):
            entries.update(found)
        else:
            broken.append(row.line)
    if not entries or 2 * len(broken) > len(rows):
        kind = source.format.partition(":")[0]
        problem = f"{len(rows) - len(broken)} entries and {len(broken)} unreadable lines: not a {kind} list"
        raise Unexpected(VENDOR, f"list {source.name}", problem)
    return Parsed(sorted(entries), broken)


# --- plain --------------------------------------------------------------------------------------------------


def _plain_rows(lines: list[str]) -> list[Row]:
    return [Row(line, text) for line in lines for text in _plain_texts(_COMMENT.sub("", line).strip())]


def _plain_texts(text: str) -> list[str]:
    words = text.split()
    if len(words) < 2:
        return [text] if text else []
    if words[0] in _NOWHERE and "-" not in words[1:]:
        return [word for word in words[1:] if not _LOCAL.fullmatch(word)]
    # md5sum's lines: the hash, and whatever the file is called.
    return words[:1] if parse_hash(words[0]) else [text]


# --- csv and tsv --------------------------------------------------------------------------------------------


def _tables(source: Source, lines: list[str], delimiters: tuple[str, ...], column: str) -> Iterator[list[Row]]:
    """
    The cells of one column, by every reading of where the table begins and what is between its cells.

    :raises Unexpected: the column has the first addresses of ranges, and not their last
    """
    for delimiter in delimiters:
        # Line by line: a stray quote costs its own line, and does not swallow the rest of the list.
        cells = [_cells(line.lstrip("#; "), delimiter) for line in lines]
        numbers = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", column)
        if numbers:
            places = [int(number) - 1 for number in numbers.groups() if number]
            if min(places) >= 0:
                rows = _column(lines, cells, places)
                if len(places) == 1 and _begins_ranges(lines, cells, places[0]):
                    ends = f"{places[0] + 1}-{places[0] + 2}"
                    problem = f"column {column} has the first addresses of ranges: write {source.format[:3]}:{ends}"
                    raise Unexpected(VENDOR, f"list {source.name}", problem)
                yield rows
            continue
        heads = [(n, places) for n, row in enumerate(cells) if (places := _places(row, column))]
        for number, places in heads[:MOST_HEADS]:
            yield _column(lines[number + 1 :], cells[number + 1 :], places)


def _places(head: list[str], column: str) -> list[int]:
    """Where the column is: one place, or the two of a range. None: this is not the head line."""
    for fold in (str, str.lower):
        names = [fold(cell) for cell in head]
        wanted = fold(column)
        if wanted in names:
            return [names.index(wanted), *_end_of_range([cell.lower() for cell in head], column.lower())]
        for cut in (i for i, sign in enumerate(wanted) if sign == "-"):
            if wanted[:cut] in names and wanted[cut + 1 :] in names:
                return [names.index(wanted[:cut]), names.index(wanted[cut + 1 :])]
    return []


def _end_of_range(head: list[str], column: str) -> list[int]:
    """``Start`` beside ``End``: by itself it would pass for single addresses (DShield's block list)."""
    others = [column.replace(start, end) for start, end in _ENDS if start in column]
    return [head.index(other) for other in others if other in head][:1]


def _column(lines: list[str], cells: list[list[str]], places: list[int]) -> list[Row]:
    return [
        Row(line, "-".join(row[place] if place < len(row) else "" for place in places))
        for line, row in zip(lines, cells, strict=True)
        if line.lstrip()[0] not in "#;"
    ]


def _begins_ranges(lines: list[str], cells: list[list[str]], place: int) -> bool:
    """Whether the next column has, in every row, the last address of the network that the column's begins."""
    rows = _column(lines, cells, [place, place + 1])
    spans = [_network_of(row.text) for row in rows]
    return bool(spans) and all(spans)


def _network_of(text: str) -> bool:
    match = _RANGE.fullmatch(text)
    found = _range(match[1], match[2]) if match else []
    return len(found) == 1 and found[0].num_addresses > 1


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for row in csv.reader([line], delimiter=delimiter, skipinitialspace=True) for cell in row]
    except csv.Error:
        return []


# --- drop ---------------------------------------------------------------------------------------------------


def _drop_rows(source: Source, lines: list[str]) -> list[Row]:
    """
    The networks' or AS numbers' texts; an empty one for a line that is no JSON.

    :raises Unexpected: the metadata line counts other records than there are: the list was cut
    """
    rows = [(line, _json(line)) for line in lines]
    records = [(line, row) for line, row in rows if row.get("type") != "metadata"]
    for _, row in rows:
        if row.get("type") == "metadata" and row.get("records", len(records)) != len(records):
            problem = f"says that it has {row['records']} records, and holds {len(records)}"
            raise Unexpected(VENDOR, f"list {source.name}", problem)
    if rows and not rows[-1][1]:
        raise Unexpected(VENDOR, f"list {source.name}", "ends in the middle of a line, or is not a drop list")
    return [Row(line, str(row.get("cidr", "")) or f"AS{row.get('asn', '')}") for line, row in records]


def _json(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


# --- one entry ----------------------------------------------------------------------------------------------


def _entries(text: str) -> list[str]:
    """Canonical texts of what one text lists: several where it is a range. None: it cannot be read."""
    if _DEFANGED.search(text):
        text = refang(text)
    if "://" in text:
        return [url.key] if (url := parse_url(text)) else []
    if blocked := _AD_BLOCKER.fullmatch(text):
        text = blocked[1]
    if (span := _RANGE.fullmatch(text)) and (networks := _range(span[1], span[2])):
        return [f"network:{one}" for one in networks] if all(map(_is_narrow, networks)) else []
    try:
        network = ipaddress.ip_network(text, strict=False)
        return [f"network:{network}"] if _is_narrow(network) else []
    except ValueError:
        pass
    parsers: tuple[Callable[[str], Any], ...] = (parse_hash, parse_asn, parse_domain)
    # A listed domain lists the names below it anyhow.
    return next(([found.key] for parse in parsers if (found := parse(text.removeprefix("*.")))), [])


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_narrow(network: Network) -> bool:
    return network.prefixlen >= SHORTEST_PREFIX[network.version]


def _range(first: str, last: str) -> list[Network]:
    """Empty where it is none."""
    try:
        ends = ipaddress.ip_address(first), ipaddress.ip_address(last)
        return list(ipaddress.summarize_address_range(*ends))
    except (ValueError, TypeError):  # no address, two families, the last before the first
        return []
