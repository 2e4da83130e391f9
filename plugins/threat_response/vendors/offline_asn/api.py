"""Whose network an address is in, by a local table. Without I/O.

The table is one of https://iptoasn.com, see ``include/soar/gate/asn.py``. It says nothing good or bad about an
address, so there is no score: a person who reads an incident wants to know it, a verdict does not.
"""

from __future__ import annotations

import io
import ipaddress
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from include.soar.gate.asn import AsnTable
from include.soar.model import Answer, Observable, Reputation
from include.soar.vendor.errors import Unexpected

VENDOR = "offline_asn"

#: The combined table has about 10 MB packed and 45 MB unpacked (inferred; both grow slowly).
LARGEST_FILE = 128 * 2**20
LARGEST_TABLE = 512 * 2**20

_COLUMNS = 5
_LARGEST_ASN = 2**32 - 1


class Origin(NamedTuple):
    """:param country: two letters; empty where the table does not say"""

    asn: int
    country: str
    name: str

    @property
    def tags(self) -> tuple[str, ...]:
        tags = (f"AS{self.asn}", f"as-name:{self.name}" if self.name else "", f"country:{self.country}")
        return tuple(tag for tag in tags if tag and tag != "country:")


class OriginTable:
    """
    The ranges with all that the table says of them.

    :raises ValueError: naming the line
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._origins: list[Origin] = []
        self._ranges = AsnTable(self._numbered(lines))

    def __len__(self) -> int:
        return len(self._ranges)

    def get(self, observable: Observable) -> Origin | None:
        number = self._ranges.get(ipaddress.ip_address(observable.value))
        return None if number is None else self._origins[number - 1]

    def _numbered(self, lines: Iterable[str]) -> Iterator[str]:
        """The ranges with our number of what is said of them in the place of the AS number: the rest is kept once."""
        numbers: dict[tuple[str, ...], int] = {}
        for place, line in enumerate(lines, start=1):
            if not line.strip():
                yield ""
                continue
            cells = line.rstrip("\r\n").split("\t", _COLUMNS - 1)
            said = tuple(cells[2:])
            number = numbers.get(said)
            if number is None:
                try:
                    origin = _origin(said)
                except ValueError as error:
                    raise ValueError(f"line {place}: {error}") from None
                if origin.asn:
                    self._origins.append(origin)
                number = numbers[said] = len(self._origins) if origin.asn else 0
            yield f"{cells[0]}\t{cells[1]}\t{number}"


def _origin(said: tuple[str, ...]) -> Origin:
    if len(said) != _COLUMNS - 2:
        raise ValueError("not five columns, apart by tabs")
    number, country, name = said
    if not (number.isascii() and number.isdigit() and int(number) <= _LARGEST_ASN):
        raise ValueError(f"{number!r} is no AS number")
    # "None" where it is not routed.
    return Origin(int(number), country if len(country) == 2 and country.isalpha() else "", name.strip())


def parse_table(content: bytes) -> OriginTable:
    """
    :param content: the file, packed by gzip or not
    :raises Unexpected: it is no such table
    """
    try:
        # Line by line: half a million lines at once would take a hundred megabytes more.
        table = OriginTable(io.TextIOWrapper(io.BytesIO(_unpacked(content)), encoding="utf-8", errors="replace"))
    except (ValueError, zlib.error) as error:
        raise Unexpected(VENDOR, "table", str(error)) from None
    if not len(table):
        raise Unexpected(VENDOR, "table", "there is no range in it")
    return table


def _unpacked(content: bytes) -> bytes:
    if not content.startswith(b"\x1f\x8b"):
        return content
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    text = unpacker.decompress(content, LARGEST_TABLE)
    if not unpacker.eof:
        problem = "cut" if len(text) < LARGEST_TABLE else f"longer than {LARGEST_TABLE:,} bytes when unpacked"
        raise ValueError(f"the file is {problem}")
    return text


def context(observable: Observable, table: OriginTable, *, body_digest: str, known_at: datetime) -> Reputation:
    """No opinion, and so ``not_applicable``; what is known stands in the tags."""
    origin = table.get(observable)
    return Reputation(
        observable=observable,
        provider=VENDOR,
        answer=Answer.NOT_APPLICABLE,
        summary="context, no opinion" if origin else "in no routed range",
        tags=origin.tags if origin else (),
        body_digest=body_digest if origin else "",
        known_at=known_at,
    )
