"""The never-block gate: what is never blocked, whatever speaks against it.

Pure: rules and lists in, a decision out. Seven layers, of which the first that knows a value answers:

``special-purpose``  addresses and names that mean nothing on the Internet (IANA's registries)
``own``              our networks and domains
``partner``          our partners'
``allow``            entries with an owner, a reason and an end
``well-known``       good infrastructure that ``policy.yaml`` names
``warning-list``     the MISP warning lists that ``never_block/lists.yaml`` refuses

Within a layer the longest prefix or the longest name answers. Precedence is worked out when the gate is made, so that
a decision is one look-up per address and one to a few per name.
"""

from __future__ import annotations

import ipaddress
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, repeat
from socket import AF_INET6, inet_aton, inet_pton

from include.soar.gate.hosts import (
    _DOMAIN,
    _IPV4,
    _IPV6,
    _PLAIN_URL,
    _URL,
    _plain_hosts,
    host_of,
    host_of_url,
    plain_host,
)
from include.soar.gate.intervals import BITS, Intervals, Network, Row, _edges, flatten, network_row, overlapped, overlay
from include.soar.gate.layers import _PRIVATE, _RANK, ALLOW, LAYERS, LISTED, OWN, PARTNER, SPECIAL, WELL_KNOWN, Hit
from include.soar.gate.rules import Allowance, NeverBlock
from include.soar.gate.special import (
    DISGUISES,
    DOCUMENTATION,
    SPECIAL_NAMES,
    SPECIAL_PURPOSE,
    _embedded,
    _from_bytes,
    embedded_network,
)
from include.soar.gate.warninglists import Entry, WarningLists, shipped
from include.soar.model import Observable, ObservableType

_DIGITS = frozenset("0123456789")
#: How many of a name's last characters the sieve compares, and of a short name's.
_ENDING, _SHORT_ENDING = 7, 4


class Gate:
    """
    What is never blocked, whatever speaks against it.

    :param rules: the ``never_block`` section of the policy
    :param lists: the warning lists; the installed ones if not given
    :param allowances: the entries of ``never_block.allow`` that count now; see ``Policy.gate_at``
    """

    def __init__(
        self, rules: NeverBlock, lists: WarningLists | None = None, *, allowances: Sequence[Allowance] = ()
    ) -> None:
        self._lists = lists = lists or shipped()
        #: Values below zero stand for these: -1 for the first.
        self._hits: list[Hit] = []
        self._made: dict[int, Hit] = {}
        self._files: dict[str, int] = {}
        #: Names that protect all names below them; and names that are protected as such.
        self._below: dict[str, int] = {}
        self._itself: dict[str, int] = {}
        rows: dict[str, dict[int, list[Row]]] = {layer: {4: [], 6: []} for layer in LAYERS}
        self._special(rules, rows[SPECIAL])
        for layer, key, protected, words in (
            (OWN, "own", rules.own, "ours"),
            (PARTNER, "partners", rules.partners, "a partner's"),
            (WELL_KNOWN, "well_known", rules.well_known, "well-known good infrastructure"),
        ):
            for text in protected.networks:
                self._network(rows[layer], text, layer, f"policy.yaml never_block.{key}.networks", f"{text} is {words}")
            for name in protected.domains:
                reason = f"{name} and all names below it are protected: {words}"
                self._name(
                    name,
                    Hit(layer=layer, list_name=f"policy.yaml never_block.{key}.domains", entry=name, reason=reason),
                )
            if layer == PARTNER:
                for allowance in allowances:
                    self._allow(allowance, rows[ALLOW])
        self._networks: dict[int, Intervals] = {}
        for family in BITS:
            # The small ones first: the lists are long, and are copied once.
            table: Intervals = ([0], [0])
            for layer in reversed(LAYERS):
                table = overlay(flatten(rows[layer][family], family), table)
            self._networks[family] = overlay(table, lists.networks[family])
        self._make_sieve()

    def _make_sieve(self) -> None:
        """
        Most values are protected by nothing, and this says so quickly; only what it holds back is decided. Addresses:
        where protected space begins and ends in turn, with disguises counted in. Names: how protected ones end, so
        that two slices and two look-ups do.
        """
        disguises = (*map(ipaddress.ip_network, DISGUISES), ipaddress.ip_network("2002::/16"))
        maybe = flatten((network_row(network, 1) for network in disguises), 6)
        self._edges4 = _edges(self._networks[4])
        self._edges6 = _edges(overlay(maybe, self._networks[6]))
        self._edges4_array = array("I", self._edges4)
        self._exact = self._lists.exact_names
        names = (*self._below, *self._itself, *self._lists.suffixes)
        long = [name for name in names if len(name) >= _ENDING - 1]
        short = [name for name in names if len(name) < _ENDING - 1]
        # With the dot before it for the names below, without it for the name itself.
        self._endings = frozenset(text[-_ENDING:] for name in long for text in (name, f".{name}"))
        self._short_endings = frozenset(text[-_SHORT_ENDING:] for name in short for text in (name, f".{name}"))

    # --- making it ----------------------------------------------------------------------------------------------

    def _value(self, hit: Hit) -> int:
        self._hits.append(hit)
        return -len(self._hits)

    def _special(self, rules: NeverBlock, rows: dict[int, list[Row]]) -> None:
        real = rules.documentation_ranges_are_real
        for text, words in (SPECIAL_PURPOSE if real else SPECIAL_PURPOSE | DOCUMENTATION).items():
            self._network(rows, text, SPECIAL, "iana", f"{text} is {words}")
        # Disguises are no special purpose: the address inside decides.
        rows[6] += [network_row(ipaddress.ip_network(text), 0) for text in DISGUISES]
        for name in SPECIAL_NAMES if real else (*SPECIAL_NAMES, "example"):
            self._below[name] = self._value(
                Hit(layer=SPECIAL, list_name="iana", entry=name, reason=f"names below {name} are special-use")
            )

    def _network(self, rows: dict[int, list[Row]], text: str, layer: str, list_name: str, reason: str) -> None:
        network = ipaddress.ip_network(text)
        value = self._value(Hit(layer=layer, list_name=list_name, entry=text, reason=reason))
        rows[network.version].append(network_row(network, value))
        # Whoever protects a disguise protects who is in it. A special purpose of IPv6 is one of IPv6 only.
        inside = embedded_network(network)
        if layer != SPECIAL and inside and inside.prefixlen:
            rows[4].append(network_row(inside, value))

    def _name(self, name: str, hit: Hit) -> None:
        value = self._value(hit)
        self._below.setdefault(name, value)
        self._above(name, hit)

    def _above(self, name: str, hit: Hit) -> None:
        """A block of a name above would hit what is protected below it."""
        above = hit.model_copy(update={"reason": f"a block would hit {hit.entry} below it; {hit.reason}"})
        for parent in _suffixes(name.partition(".")[2]):
            self._itself.setdefault(parent, self._value(above))

    def _allow(self, allowance: Allowance, rows: dict[int, list[Row]]) -> None:
        list_name, value = "policy.yaml never_block.allow", allowance.value
        hit = Hit(layer=ALLOW, list_name=list_name, entry=value, reason=allowance.words)
        # A URL's host is protected, without the names below it: whatever we block, we block by host.
        host = host_of_url(value) if allowance.kind == "url" else None
        if allowance.kind in ("address", "network"):
            self._network(rows, value, ALLOW, list_name, allowance.words)
        elif allowance.kind == "file":
            self._files.setdefault(value, self._value(hit))
        elif allowance.kind == "domain":
            self._name(value, hit)
        elif isinstance(host, bytes):
            first = int.from_bytes(host, "big")
            bits = len(host) * 8
            rows[4 if bits == 32 else 6].append(Row(first, first, bits, self._value(hit)))
        elif host:
            self._itself.setdefault(host, self._value(hit))
            self._above(host, hit)

    # --- asking it ----------------------------------------------------------------------------------------------

    def check(self, observable: Observable) -> Hit | None:
        """The reason why this is never blocked, or None."""
        kind = observable.type
        if kind is _IPV4:
            number = _from_bytes(inet_aton(observable.value), "big")
            return self._ipv4(number) if bisect_right(self._edges4, number) & 1 else None
        if kind is _DOMAIN:
            return self._host(observable.value)
        if kind is _URL:
            return self._url(observable.value)
        if kind is _IPV6:
            packed = inet_pton(AF_INET6, observable.value)
            return self._ipv6(packed) if bisect_right(self._edges6, _from_bytes(packed, "big")) & 1 else None
        return self._other(observable)

    def check_all(self, observables: Sequence[Observable]) -> list[Hit | None]:
        """``check`` for each, in order. Sieved kind by kind: twice as fast as one by one where kinds are mixed."""
        found: list[Hit | None] = [None] * len(observables)
        for place in self._held_back(observables):
            found[place] = self.check(observables[place])
        return found

    def _held_back(self, observables: Sequence[Observable]) -> Iterator[int]:
        """Which of many are not free at first sight. The conditions are those of ``check``."""
        import numpy as np  # here, for a task that asks about few values need not wait for it

        places: dict[ObservableType, list[int]] = {kind: [] for kind in ObservableType}
        for place, observable in enumerate(observables):
            places[observable.type].append(place)
        values = [observable.value for observable in observables]
        packed = b"".join(map(inet_aton, [values[place] for place in places[_IPV4]]))
        edges = np.searchsorted(self._edges4_array, np.frombuffer(packed, ">u4").astype(np.uint32), side="right")
        yield from compress(places.pop(_IPV4), (edges & 1).tolist())
        numbers = map(_from_bytes, map(inet_pton, repeat(AF_INET6), [values[place] for place in places[_IPV6]]))
        counts = map(bisect_right, repeat(self._edges6), numbers)
        yield from [place for place, count in zip(places.pop(_IPV6), counts, strict=True) if count & 1]
        named, urls = places.pop(_DOMAIN), places.pop(_URL)
        names = [values[place] for place in named]
        # No name stands for a URL that has to be read with care.
        names += _plain_hosts([values[place] for place in urls])
        named += urls
        exact, endings, short, digits = self._exact, self._endings, self._short_endings, _DIGITS
        long_from, short_from = -_ENDING, -_SHORT_ENDING
        together = "\n".join(names)
        if "0x" in together or not together.isascii():
            yield from [p for p, n in zip(named, names, strict=True) if "0x" in n or not n.isascii()]
        yield from [
            place
            for place, name in zip(named, names, strict=True)
            if not name
            or name[long_from:] in endings
            or name[short_from:] in short
            or name in exact
            or name[-1] in digits
        ]
        for others in places.values():
            yield from others

    def tags(self, observable: Observable) -> tuple[str, ...]:
        """Names of the lists that are worth showing and refuse nothing: cloud ranges, VPN exits, scanners…"""
        tables, (exact, suffixes) = self._lists.tagged_networks, self._lists.tagged_names
        values: list[int] = []
        host: bytes | str | None = None
        if observable.type is ObservableType.CIDR:
            for network in _networks_of(observable.value):
                values += overlapped(tables[network.version], network)
        elif observable.type is ObservableType.FILE:
            values.append(exact.get(observable.value, 0))
        else:
            host = host_of(observable)
        if isinstance(host, bytes):
            for packed in (host, _embedded(host) if len(host) == 16 else None):
                if packed:
                    starts, tagged = tables[4 if len(packed) == 4 else 6]
                    values.append(tagged[bisect_right(starts, int.from_bytes(packed, "big")) - 1])
        elif host:
            values += [exact.get(host, 0), *(suffixes.get(name, 0) for name in _suffixes(host))]
        return self._lists.tags(values)

    def private(self, observable: Observable) -> Hit | None:
        """Why this is nobody else's business, or None: such a value is never sent to a provider."""
        hit = self.check(observable)
        return hit if hit and hit.layer in _PRIVATE else None

    def special_purpose(self, observable: Observable) -> Hit | None:
        """Whether an observable means nothing on the Internet."""
        hit = self.check(observable)
        return hit if hit and hit.layer == SPECIAL else None

    def _hit(self, value: int) -> Hit:
        """What a value of the network tables stands for."""
        if value < 0:
            return self._hits[-value - 1]
        if value not in self._made:
            self._made[value] = _listed(self._lists.network(value))
        return self._made[value]

    def _precedence(self, value: int) -> tuple[int, int]:
        return _RANK[self._hits[-value - 1].layer if value < 0 else LISTED], abs(value)

    def _ipv4(self, number: int) -> Hit | None:
        starts, values = self._networks[4]
        value = values[bisect_right(starts, number) - 1]
        return self._hit(value) if value else None

    def _ipv6(self, packed: bytes) -> Hit | None:
        starts, values = self._networks[6]
        value = values[bisect_right(starts, _from_bytes(packed, "big")) - 1]
        hit = self._hit(value) if value else None
        inside = _embedded(packed)
        return _first(h for h in (self._ipv4(_from_bytes(inside, "big")), hit) if h) if inside else hit

    def _packed(self, packed: bytes) -> Hit | None:
        return self._ipv6(packed) if len(packed) == 16 else self._ipv4(_from_bytes(packed, "big"))

    def _host(self, name: str) -> Hit | None:
        if (
            name in self._exact
            or name[-_ENDING:] in self._endings
            or name[-_SHORT_ENDING:] in self._short_endings
            # What a browser reads as a number.
            or name[-1] in _DIGITS
            or "0x" in name
            or not name.isascii()
        ):
            return self._protected_name(name)
        return None

    def _protected_name(self, name: str) -> Hit | None:
        """Every layer's answer to a name, and of these the first layer's."""
        host = plain_host(name)
        if isinstance(host, bytes):
            return self._packed(host)
        found = [hit for suffix in _suffixes(host) if (value := self._below.get(suffix)) and (hit := self._hit(value))]
        if value := self._itself.get(host):
            found.insert(0, self._hit(value))
        if value := self._lists.exact.get(host):
            found.append(_listed(self._lists.name(value, host)))
        else:
            for suffix in _suffixes(host):
                if value := self._lists.suffixes.get(suffix):
                    found.append(_listed(self._lists.name(value, suffix)))
                    break
        return _first(found)

    def _url(self, value: str) -> Hit | None:
        if plain := _PLAIN_URL(value):
            return self._host(plain[1])
        host = host_of_url(value)
        return self._packed(host) if isinstance(host, bytes) else self._host(host) if host else None

    def _other(self, observable: Observable) -> Hit | None:
        value = observable.value
        if observable.type is ObservableType.FILE:
            if protected := self._files.get(value):
                return self._hit(protected)
            listed = self._lists.file(value)
            return _listed(listed) if listed else None
        if observable.type is ObservableType.CIDR:
            # An overlap in either direction: a block would hit what is protected, or is inside of it.
            values = {v for n in _networks_of(value) for v in overlapped(self._networks[n.version], n) if v}
            return self._hit(min(values, key=self._precedence)) if values else None
        if observable.type is ObservableType.EMAIL:
            host = host_of(observable)
            hit = self._packed(host) if isinstance(host, bytes) else self._host(host) if host else None
            if hit and hit.layer != LISTED:
                return hit
            listed = self._lists.email(value)
            return hit or (_listed(listed) if listed else None)
        return None


def _listed(entry: Entry) -> Hit:
    name = entry.list_name.removeprefix("misp:")
    reason = f"{entry.entry} is on the MISP warning list {name}: {entry.reason}"
    return Hit(layer=LISTED, list_name=entry.list_name, entry=entry.entry, reason=reason)


def _first(hits: Iterable[Hit]) -> Hit | None:
    """The first layer's; of one layer the first."""
    return min(hits, key=lambda hit: _RANK[hit.layer], default=None)


def _networks_of(value: str) -> tuple[Network, ...]:
    network = ipaddress.ip_network(value)
    inside = embedded_network(network)
    return (network, inside) if inside else (network,)


# --- hosts --------------------------------------------------------------------------------------------------------


def _suffixes(name: str) -> Iterator[str]:
    """``a.b.c`` -> ``a.b.c``, ``b.c``, ``c``; nothing of an empty name."""
    while name:
        yield name
        name = name.partition(".")[2]
