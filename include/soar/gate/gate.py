"""The never-block gate: what is never blocked, whatever evidence there is against it.

Pure: rules and lists in, a decision out. Six layers, of which the first that knows a value answers:

``special-purpose``  addresses and names that mean nothing on the Internet (IANA's registries)
``own``              our networks and domains
``partner``          our partners'
``allow``            entries with an owner, a reason and an end
``well-known``       good infrastructure that ``policy.yaml`` names
``warning-list``     the MISP warning lists and our own that ``never_block/lists.yaml`` refuses, and the names below
                     which anybody can rent one (public suffix list)

Within a layer the longest prefix or the longest name answers. Precedence is worked out when the gate is made, so that
a decision is one look-up per address and one to a few per name.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from socket import AF_INET6, inet_aton, inet_pton

from include.soar.extract.values import CIDR, DOMAIN, EMAIL, FILE, IPV4, IPV6, URL
from include.soar.gate.hosts import host_of, host_of_url, levels, match_plain_url, plain_host
from include.soar.gate.intervals import edges_of, flatten, network_row, overlapped, overlay
from include.soar.gate.layers import LISTED, RANK, Hit
from include.soar.gate.rules import Allowance, NeverBlock
from include.soar.gate.special import DISGUISES, embedded_address, networks_of
from include.soar.gate.tables import Tables
from include.soar.gate.warninglists import Entry, WarningLists
from include.soar.model import Observable

_DIGITS = frozenset("0123456789")
_from_bytes = int.from_bytes
#: How many of a name's last characters the sieve compares, and of a short name's.
_ENDING, _SHORT_ENDING = 7, 4


def gate_of(rules: NeverBlock, lists: WarningLists, now: datetime, more: Sequence[Allowance] = ()) -> Gate:
    """
    The gate with the ``allow`` entries that count at ``now``. Made once for each set of these.

    :param more: entries beside those of the rules
    """
    return _gate(rules, lists, (*rules.valid(now), *(entry for entry in more if now < entry.until)))


@lru_cache(maxsize=8)
def _gate(rules: NeverBlock, lists: WarningLists, allowances: tuple[Allowance, ...]) -> Gate:
    return Gate(rules, lists, allowances=allowances)


class Gate:
    """
    What is never blocked, whatever evidence there is against it.

    :param rules: the ``never_block`` section of the policy
    :param lists: the warning lists; ``index_file.shipped()`` gives the installed ones
    :param allowances: the entries of ``never_block.allow`` that count now; see :func:`gate_of`
    """

    def __init__(self, rules: NeverBlock, lists: WarningLists, *, allowances: Sequence[Allowance] = ()) -> None:
        self._lists = lists
        self._made: dict[int, Hit] = {}
        tables = Tables(rules, lists, allowances)
        self._hits, self._networks, self._files = tables.hits, tables.networks, tables.files
        self._below, self._itself = tables.below, tables.itself
        self._make_sieve()

    def _make_sieve(self) -> None:
        """
        A fast test that most values pass because nothing protects them; only the rest is looked up. For addresses,
        where protected space begins and ends in turn, disguises included. For names, the last characters of protected
        ones, so that two slices and two look-ups are enough.
        """
        disguises = (*map(ipaddress.ip_network, DISGUISES), ipaddress.ip_network("2002::/16"))
        maybe = flatten((network_row(network, 1) for network in disguises), 6)
        self._edges4 = edges_of(self._networks[4])
        self._edges6 = edges_of(overlay(maybe, self._networks[6]))
        self._exact = self._lists.exact_names
        names = (*self._below, *self._itself, *self._lists.suffixes, *self._lists.wildcards)
        long = [name for name in names if len(name) >= _ENDING - 1]
        short = [name for name in names if len(name) < _ENDING - 1]
        # With a dot before it for the names below, without for the name itself.
        self._endings = frozenset(text[-_ENDING:] for name in long for text in (name, f".{name}"))
        self._short_endings = frozenset(text[-_SHORT_ENDING:] for name in short for text in (name, f".{name}"))

    def check(self, observable: Observable) -> Hit | None:
        """The reason why this is never blocked, or None."""
        kind = observable.type
        if kind is IPV4:
            number = _from_bytes(inet_aton(observable.value), "big")
            return self._ipv4(number) if bisect_right(self._edges4, number) & 1 else None
        if kind is DOMAIN:
            return self._host(observable.value)
        if kind is URL:
            return self._url(observable.value)
        if kind is IPV6:
            packed = inet_pton(AF_INET6, observable.value)
            return self._ipv6(packed) if bisect_right(self._edges6, _from_bytes(packed, "big")) & 1 else None
        return self._other(observable)

    def private(self, observable: Observable) -> Hit | None:
        """Why a value is never sent to a provider, or None."""
        hit = self.check(observable)
        return hit if hit and hit.is_private else None

    def tags(self, observable: Observable) -> tuple[str, ...]:
        """Names of the warning lists that name a value and refuse nothing."""
        return self._lists.tags(observable)

    def _hit(self, value: int) -> Hit:
        """The hit of a value of the network tables."""
        if value < 0:
            return self._hits[-value - 1]
        if value not in self._made:
            self._made[value] = _listed(self._lists.network(value))
        return self._made[value]

    def _precedence(self, value: int) -> tuple[int, int]:
        return RANK[self._hits[-value - 1].layer if value < 0 else LISTED], abs(value)

    def _ipv4(self, number: int) -> Hit | None:
        starts, values = self._networks[4]
        value = values[bisect_right(starts, number) - 1]
        return self._hit(value) if value else None

    def _ipv6(self, packed: bytes) -> Hit | None:
        starts, values = self._networks[6]
        value = values[bisect_right(starts, _from_bytes(packed, "big")) - 1]
        hit = self._hit(value) if value else None
        inside = embedded_address(packed)
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
        """The hit of the first layer that protects a name."""
        host = plain_host(name)
        if isinstance(host, bytes):
            return self._packed(host)
        found = [hit for suffix in levels(host) if (value := self._below.get(suffix)) and (hit := self._hit(value))]
        if value := self._itself.get(host):
            found.insert(0, self._hit(value))
        if value := self._lists.exact.get(host):
            found.append(_listed(self._lists.name(value, host)))
        else:
            for suffix in levels(host):
                if value := self._lists.suffixes.get(suffix):
                    found.append(_listed(self._lists.name(value, suffix)))
                    break
            else:
                if value := self._lists.wildcards.get(host.partition(".")[2]):
                    found.append(_listed(self._lists.name(value, host)))
        return _first(found)

    def _url(self, value: str) -> Hit | None:
        if plain := match_plain_url(value):
            return self._host(plain[1])
        host = host_of_url(value)
        return self._packed(host) if isinstance(host, bytes) else self._host(host) if host else None

    def _other(self, observable: Observable) -> Hit | None:
        value = observable.value
        if observable.type is FILE:
            if protected := self._files.get(value):
                return self._hit(protected)
            listed = self._lists.file(value)
            return _listed(listed) if listed else None
        if observable.type is CIDR:
            # An overlap in either direction: a block would hit what is protected, or is inside it.
            values = {v for n in networks_of(value) for v in overlapped(self._networks[n.version], n) if v}
            return self._hit(min(values, key=self._precedence)) if values else None
        if observable.type is EMAIL:
            host = host_of(observable)
            hit = self._packed(host) if isinstance(host, bytes) else self._host(host) if host else None
            if hit and hit.layer != LISTED:
                return hit
            listed = self._lists.email(value)
            return hit or (_listed(listed) if listed else None)
        return None


def _listed(entry: Entry) -> Hit:
    kind, _, name = entry.list_name.rpartition(":")
    words = {"misp": "the MISP warning list ", "own": "our own list "}.get(kind, "the ")
    reason = f"{entry.entry} is on {words}{name}: {entry.reason}"
    return Hit(layer=LISTED, list_name=entry.list_name, entry=entry.entry, reason=reason)


def _first(hits: Iterable[Hit]) -> Hit | None:
    """The hit of the first layer; within a layer, the first one."""
    return min(hits, key=lambda hit: RANK[hit.layer], default=None)
