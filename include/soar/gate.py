"""The never-block gate: what is never blocked, whatever speaks against it.

Pure: rules and lists in, a decision out.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from include.soar.model import Observable, ObservableType

if TYPE_CHECKING:
    from include.soar.policy import NeverBlock

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: IANA special-purpose registries (RFC 6890 and successors). Written out, because the tables behind
#: ``ipaddress.is_global`` changed between patch releases of Python, and it calls multicast global.
SPECIAL_PURPOSE: dict[str, str] = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "IETF protocol assignments",
    "192.88.99.0/24": "6to4 relay anycast",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved and broadcast",
    "64:ff9b:1::/48": "translation inside one network",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "100::/64": "discard-only",
    "2001::/23": "IETF protocol assignments",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
DOCUMENTATION: dict[str, str] = {
    "192.0.2.0/24": "documentation",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
}
#: RFC 6761 and successors: names that mean nothing on the Internet. ``example`` counts as documentation.
SPECIAL_NAMES = ("localhost", "local", "internal", "invalid", "test", "onion", "home.arpa", "in-addr.arpa", "ip6.arpa")

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def unwrap(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 IPv6 address; any other address as it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class Hit(BaseModel):
    """Why something is protected: which layer of the gate, which entry of it, in words."""

    model_config = ConfigDict(frozen=True)
    layer: str
    entry: str
    reason: str


class NetworkTable:
    """Networks with a value each; look-up by address in logarithmic time. Overlaps: the longest prefix wins."""

    def __init__(self, entries: Iterable[tuple[Network, Hit]]) -> None:
        self._tables: dict[int, tuple[list[int], list[Hit | None]]] = {}
        by_version: dict[int, list[tuple[int, int, int, Hit]]] = {4: [], 6: []}
        for network, hit in entries:
            first, last = int(network.network_address), int(network.broadcast_address)
            by_version[network.version].append((first, last, network.prefixlen, hit))
        for version, rows in by_version.items():
            self._tables[version] = self._flatten(rows)

    @staticmethod
    def _flatten(rows: list[tuple[int, int, int, Hit]]) -> tuple[list[int], list[Hit | None]]:
        # Networks nest or are disjoint, so one pass with a stack gives disjoint intervals.
        starts: list[int] = []
        hits: list[Hit | None] = []
        stack: list[tuple[int, Hit]] = []

        def cut(at: int, hit: Hit | None) -> None:
            if starts and starts[-1] == at:
                hits[-1] = hit
            else:
                starts.append(at)
                hits.append(hit)

        for first, last, _, hit in sorted(rows, key=lambda row: (row[0], row[2])):
            while stack and stack[-1][0] < first:
                ended, _ = stack.pop()
                cut(ended + 1, stack[-1][1] if stack else None)
            cut(first, hit)
            stack.append((last, hit))
        while stack:
            ended, _ = stack.pop()
            cut(ended + 1, stack[-1][1] if stack else None)
        return starts, hits

    def get(self, address: Address) -> Hit | None:
        starts, hits = self._tables[address.version]
        place = bisect_right(starts, int(address)) - 1
        return hits[place] if place >= 0 else None


class Gate:
    """What is never blocked, whatever speaks against it. The first layer that knows a value answers."""

    def __init__(self, rules: NeverBlock) -> None:
        special = dict(SPECIAL_PURPOSE)
        if not rules.documentation_ranges_are_real:
            special |= DOCUMENTATION
        self._special = self._table("special-purpose", special)
        self._layers: list[tuple[str, NetworkTable, frozenset[str]]] = []
        for layer, protected, words in (
            ("own", rules.own, "ours"),
            ("partner", rules.partners, "a partner's"),
            ("well-known", rules.well_known, "well-known good infrastructure"),
        ):
            networks = self._table(layer, dict.fromkeys(protected.networks, words))
            self._layers.append((layer, networks, frozenset(protected.domains)))
        self._names = SPECIAL_NAMES if rules.documentation_ranges_are_real else (*SPECIAL_NAMES, "example")

    @staticmethod
    def _table(layer: str, networks: Mapping[str, str]) -> NetworkTable:
        return NetworkTable(
            (ipaddress.ip_network(network), Hit(layer=layer, entry=network, reason=f"{network} is {words}"))
            for network, words in networks.items()
        )

    def special_purpose(self, observable: Observable) -> Hit | None:
        """Whether an observable means nothing on the Internet: such a thing is not asked about either."""
        if observable.is_address:
            return self._special.get(unwrap(ipaddress.ip_address(observable.value)))
        name = _host_of(observable)
        if name is None or not isinstance(name, str):
            return self._special.get(unwrap(name)) if name is not None else None
        for suffix in _suffixes(name):
            if suffix in self._names:
                return Hit(layer="special-purpose", entry=suffix, reason=f"names below {suffix} are special-use")
        return None

    def private(self, observable: Observable) -> Hit | None:
        """Why this is nobody else's business, or None: such a value is never sent to a provider."""
        hit = self.check(observable)
        return hit if hit and hit.layer in ("special-purpose", "own", "partner") else None

    def check(self, observable: Observable) -> Hit | None:
        """The reason why this is never blocked, or None."""
        if hit := self.special_purpose(observable):
            return hit
        host: Address | str | None
        host = ipaddress.ip_address(observable.value) if observable.is_address else _host_of(observable)
        if host is None:
            return None
        for layer, networks, domains in self._layers:
            if not isinstance(host, str):
                # Both disguises and plain: an IPv4 address inside an IPv6 one is that IPv4 address.
                if hit := networks.get(unwrap(host)) or networks.get(host):
                    return hit
                continue
            for suffix in _suffixes(host):
                if suffix in domains:
                    return Hit(layer=layer, entry=suffix, reason=f"{suffix} and all names below it are protected")
        return None


def _suffixes(name: str) -> Iterable[str]:
    """``a.b.c`` -> ``a.b.c``, ``b.c``, ``c``."""
    labels = name.split(".")
    return (".".join(labels[i:]) for i in range(len(labels)))


def _host_of(observable: Observable) -> Address | str | None:
    """The host that a domain, URL or e-mail address names; None for a file."""
    value = observable.value
    if observable.type is ObservableType.DOMAIN:
        return value
    if observable.type is ObservableType.EMAIL:
        return value.rsplit("@", 1)[-1].lower()
    if observable.type is ObservableType.URL:
        authority = value.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0].rsplit("@", 1)[-1]
        host = authority[1:].split("]", 1)[0] if authority.startswith("[") else authority.rsplit(":", 1)[0]
        try:
            return ipaddress.ip_address(host)
        except ValueError:
            return host.lower().rstrip(".")
    return None
