"""The tables of the gate: what its rules, lists and allowances protect, with the precedence already worked out."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from include.soar.gate.hosts import host_of_url, levels
from include.soar.gate.intervals import BITS, Intervals, Row, flatten, network_row, overlay
from include.soar.gate.layers import ALLOW, LAYERS, OWN, PARTNER, SPECIAL, WELL_KNOWN, Hit
from include.soar.gate.rules import Allowance, NeverBlock, Protected
from include.soar.gate.special import DISGUISES, DOCUMENTATION, SPECIAL_NAMES, SPECIAL_PURPOSE, embedded_network
from include.soar.gate.warninglists import WarningLists

Rows = dict[int, list[Row]]


class Tables:
    """
    Values are numbers: below zero one of ``hits`` (-1 is the first), above zero an entry of the warning lists, and zero
    nothing.

    :ivar below: names that protect all names below them
    :ivar itself: names that are protected as such
    :ivar files: file hashes
    :ivar networks: all layers as one, by family
    """

    def __init__(self, rules: NeverBlock, lists: WarningLists, allowances: Sequence[Allowance]) -> None:
        self.hits: list[Hit] = []
        self.below: dict[str, int] = {}
        self.itself: dict[str, int] = {}
        self.files: dict[str, int] = {}
        rows: dict[str, Rows] = {layer: {4: [], 6: []} for layer in LAYERS}
        # In the order of the layers: of two that protect the same name the first one answers.
        self._special(rules, rows[SPECIAL])
        self._protected(OWN, "own", rules.own, "ours", rows[OWN])
        self._protected(PARTNER, "partners", rules.partners, "a partner's", rows[PARTNER])
        for allowance in allowances:
            self._allow(allowance, rows[ALLOW])
        self._protected(WELL_KNOWN, "well_known", rules.well_known, "well-known good infrastructure", rows[WELL_KNOWN])
        self.networks: dict[int, Intervals] = {}
        for family in BITS:
            # The small tables first: those of the lists are long, and so are copied once only.
            table: Intervals = ([0], [0])
            for layer in reversed(LAYERS):
                table = overlay(flatten(rows[layer][family], family), table)
            self.networks[family] = overlay(table, lists.networks[family])

    def _protected(self, layer: str, key: str, protected: Protected, words: str, rows: Rows) -> None:
        for text in protected.networks:
            self._network(rows, text, layer, f"policy.yaml never_block.{key}.networks", f"{text} is {words}")
        for name in protected.domains:
            reason = f"{name} and all names below it are protected: {words}"
            self._name(
                name, Hit(layer=layer, list_name=f"policy.yaml never_block.{key}.domains", entry=name, reason=reason)
            )

    def _value(self, hit: Hit) -> int:
        self.hits.append(hit)
        return -len(self.hits)

    def _special(self, rules: NeverBlock, rows: Rows) -> None:
        real = rules.documentation_ranges_are_real
        for text, words in (SPECIAL_PURPOSE if real else SPECIAL_PURPOSE | DOCUMENTATION).items():
            self._network(rows, text, SPECIAL, "iana", f"{text} is {words}")
        # Disguises are no special purpose: the address inside decides.
        rows[6] += [network_row(ipaddress.ip_network(text), 0) for text in DISGUISES]
        for name in SPECIAL_NAMES if real else (*SPECIAL_NAMES, "example"):
            self.below[name] = self._value(
                Hit(layer=SPECIAL, list_name="iana", entry=name, reason=f"names below {name} are special-use")
            )

    def _network(self, rows: Rows, text: str, layer: str, list_name: str, reason: str) -> None:
        network = ipaddress.ip_network(text)
        value = self._value(Hit(layer=layer, list_name=list_name, entry=text, reason=reason))
        rows[network.version].append(network_row(network, value))
        # A rule for a disguise protects the address in it. A special purpose of IPv6 holds for IPv6 only.
        inside = embedded_network(network)
        if layer != SPECIAL and inside and inside.prefixlen:
            rows[4].append(network_row(inside, value))

    def _name(self, name: str, hit: Hit) -> None:
        value = self._value(hit)
        self.below.setdefault(name, value)
        self._above(name, hit)

    def _above(self, name: str, hit: Hit) -> None:
        """A block of a name above would hit what is protected below it."""
        above = hit.model_copy(update={"reason": f"a block would hit {hit.entry} below it; {hit.reason}"})
        for parent in levels(name.partition(".")[2]):
            self.itself.setdefault(parent, self._value(above))

    def _allow(self, allowance: Allowance, rows: Rows) -> None:
        list_name, value = "policy.yaml never_block.allow", allowance.value
        hit = Hit(layer=ALLOW, list_name=list_name, entry=value, reason=allowance.words)
        # A URL's host is protected, without the names below it: whatever we block, we block by host.
        host = host_of_url(value) if allowance.kind == "url" else None
        if allowance.kind in ("address", "network"):
            self._network(rows, value, ALLOW, list_name, allowance.words)
        elif allowance.kind == "file":
            self.files.setdefault(value, self._value(hit))
        elif allowance.kind == "domain":
            self._name(value, hit)
        elif isinstance(host, bytes):
            first = int.from_bytes(host, "big")
            bits = len(host) * 8
            rows[4 if bits == 32 else 6].append(Row(first, first, bits, self._value(hit)))
        elif host:
            self.itself.setdefault(host, self._value(hit))
            self._above(host, hit)
