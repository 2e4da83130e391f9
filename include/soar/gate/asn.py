"""Which autonomous system an address is in, by an offline table. Pure: lines in, answers out.

The table is one of https://iptoasn.com (``ip2asn-v4.tsv``, ``ip2asn-v6.tsv`` or ``ip2asn-combined.tsv``; public
domain by the PDDL 1.0): ``range_start``, ``range_end``, ``AS_number``, ``country_code``, ``AS_description``, apart by
tabs, both ends of a range included. AS 0 stands for "not routed".
"""

from __future__ import annotations

import ipaddress
from array import array
from bisect import bisect_right
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LARGEST = 2**32 - 1


class AsnTable:
    """
    Ranges that do not overlap, in order; a look-up is one bisection.

    :raises ValueError: naming the line
    """

    def __init__(self, lines: Iterable[str]) -> None:
        rows: dict[int, list[tuple[int, int, int]]] = {4: [], 6: []}
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    version, row = _row(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None
                if row[2]:
                    rows[version].append(row)
        self._ranges: dict[int, tuple[array[int] | list[int], array[int] | list[int], array[int]]] = {}
        for version, found in rows.items():
            found.sort()
            starts, ends = [r[0] for r in found], [r[1] for r in found]
            for end, start in zip(ends, starts[1:], strict=False):
                if start <= end:
                    raise ValueError(f"two ranges hold {_address(version, start)}")
            asns = array("Q", (r[2] for r in found))
            # Half a million ranges: an array costs a quarter of a list of integers. IPv6 does not fit into one.
            self._ranges[version] = (
                (array("Q", starts), array("Q", ends), asns) if version == 4 else (starts, ends, asns)
            )

    def __len__(self) -> int:
        return sum(len(asns) for _, _, asns in self._ranges.values())

    def get(self, address: Address) -> int | None:
        starts, ends, asns = self._ranges[address.version]
        place = bisect_right(starts, int(address)) - 1
        return asns[place] if place >= 0 and int(address) <= ends[place] else None


def _row(line: str) -> tuple[int, tuple[int, int, int]]:
    cells = line.rstrip("\r\n").split("\t", 3)
    if len(cells) < 3:
        raise ValueError("not range_start, range_end and AS_number, apart by tabs")
    version, start = _number(cells[0])
    end_version, end = _number(cells[1])
    if version != end_version or end < start:
        raise ValueError(f"{cells[0]} to {cells[1]} is no range")
    if not (cells[2].isascii() and cells[2].isdigit() and int(cells[2]) <= _LARGEST):
        raise ValueError(f"{cells[2]!r} is no AS number")
    return version, (start, end, int(cells[2]))


def _number(text: str) -> tuple[int, int]:
    """An address as its version and number. IPv4 by hand, since a million of them by ``ipaddress`` take seconds."""
    if ":" in text:
        return 6, int(ipaddress.IPv6Address(text))
    octets = bytes(map(int, text.split(".")))
    if len(octets) != 4:
        raise ValueError(f"{text!r} is no address")
    return 4, int.from_bytes(octets, "big")


def _address(version: int, number: int) -> Address:
    return ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number)
