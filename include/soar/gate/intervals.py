"""Networks as disjoint intervals of addresses: made once, then one bisection answers for any address."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

from include.soar.gate.layers import Hit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Disjoint intervals over all addresses of one family: ``values[n]`` holds from ``starts[n]`` up to the next start.
Intervals = tuple[list[int], list[int]]
BITS = {4: 32, 6: 128}


class Row(NamedTuple):
    """A network as an interval, with its value."""

    first: int
    last: int
    prefix: int
    value: int


def network_row(network: Network, value: int) -> Row:
    return Row(int(network.network_address), int(network.broadcast_address), network.prefixlen, value)


def interval(text: str) -> tuple[int, int, int, int]:
    """
    Family, first and last address and prefix length of an address or a network; host bits are cleared.

    :raises ValueError: is neither
    """
    address, slash, prefix = text.partition("/")
    family = 6 if ":" in address else 4
    try:
        value = int.from_bytes(inet_pton(AF_INET6 if family == 6 else AF_INET, address), "big")
    except OSError:
        raise ValueError(f"{text!r} is not a network") from None
    length = int(prefix) if slash else BITS[family]
    rest = BITS[family] - length
    if rest < 0 or length < 0:
        raise ValueError(f"{text!r} is not a network")
    first = value >> rest << rest
    return family, first, first + (1 << rest) - 1, length


def flatten(rows: Iterable[Row], family: int) -> Intervals:
    """Networks as disjoint intervals: the longest prefix wins, and of equal networks the first."""
    # Networks nest or are disjoint, so one pass with a stack does it.
    starts, values, stack = [0], [0], list[Row]()

    def cut(at: int, value: int) -> None:
        if starts[-1] == at:
            values[-1] = value
        elif at < 1 << BITS[family]:
            starts.append(at)
            values.append(value)

    last_first = list(rows)[::-1]
    for row in sorted(last_first, key=lambda row: (row.first, row.prefix)):
        while stack and stack[-1].last < row.first:
            ended = stack.pop()
            cut(ended.last + 1, stack[-1].value if stack else 0)
        cut(row.first, row.value)
        stack.append(row)
    while stack:
        ended = stack.pop()
        cut(ended.last + 1, stack[-1].value if stack else 0)
    return starts, values


def overlay(above: Intervals, below: Intervals) -> Intervals:
    """Two layers as one: ``above`` answers where it has a value, ``below`` elsewhere."""
    starts: list[int] = []
    values: list[int] = []

    def put(at: int, value: int) -> None:
        if not values or values[-1] != value:
            starts.append(at)
            values.append(value)

    ends = (*above[0][1:], 1 << BITS[6])
    for at, value, end in zip(*above, ends, strict=True):
        if value:
            put(at, value)
        else:
            first, last = bisect_right(below[0], at), bisect_left(below[0], end)
            put(at, below[1][first - 1])
            starts += below[0][first:last]
            values += below[1][first:last]
    return starts, values


def edges_of(table: Intervals) -> list[int]:
    """Where values begin and end in turn: an address with an odd number of edges up to it has a value."""
    edges: list[int] = []
    for start, value in zip(*table, strict=True):
        if bool(value) != len(edges) % 2:
            edges.append(start)
    return edges


def overlapped(table: Intervals, network: Network) -> list[int]:
    """The values of every interval that a network overlaps."""
    starts, values = table
    first = bisect_right(starts, int(network.network_address)) - 1
    return values[first : bisect_right(starts, int(network.broadcast_address))]


class NetworkTable:
    """Networks with a value each; look-up by address in logarithmic time. Overlaps: the longest prefix wins."""

    def __init__(self, entries: Iterable[tuple[Network, Hit]]) -> None:
        self._hits: list[Hit] = []
        rows: dict[int, list[Row]] = {4: [], 6: []}
        for network, hit in entries:
            self._hits.append(hit)
            rows[network.version].append(network_row(network, len(self._hits)))
        self._tables = {family: flatten(some, family) for family, some in rows.items()}

    def get(self, address: Address) -> Hit | None:
        starts, values = self._tables[address.version]
        value = values[bisect_right(starts, int(address)) - 1]
        return self._hits[value - 1] if value else None
