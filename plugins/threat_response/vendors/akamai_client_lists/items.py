"""The items of a list without I/O: which hold an address, which are ours, and what the list lacks."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from include.soar.model import Action, Indicator, Observable, ObservableType
from include.soar.vendor.errors import one_line
from threat_response.vendors.akamai_client_lists import api
from threat_response.vendors.akamai_client_lists.api import IPAddress, IPNetwork, Item, UnreadableItem

#: One row of a write: ``append``, ``update`` or ``delete``, and the item.
Row = tuple[str, dict[str, Any]]
#: Why ours is not written again, since a person removed it (given None) or changed it (given what, in words).
Decided = Callable[[Indicator, str | None], str | None]
#: An end that cannot be known.
ANY_END: frozenset[datetime | None] = frozenset({None})


class Holdings:
    """The items of a list, found by address: exactly, or as a network that covers it."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items: dict[IPNetwork, Item] = {}
        for item in items:
            try:
                self._items[ipaddress.ip_network(item.value.strip(), strict=False)] = item
            except ValueError:
                continue  # nothing that could be one of our addresses
        self._lengths = {v: sorted({n.prefixlen for n in self._items if n.version == v}, reverse=True) for v in (4, 6)}

    def exactly(self, address: IPAddress) -> Item | None:
        """The item for just this address, whoever made it."""
        return self._items.get(ipaddress.ip_network(address))

    def has(self, item: Item) -> bool:
        """Whether the same item, as it is, is among these."""
        try:
            other = self._items.get(ipaddress.ip_network(item.value.strip(), strict=False))
        except ValueError:
            return False
        return other is not None and _settings(other) == _settings(item)

    def holding(self, address: IPAddress, now: datetime) -> tuple[Item | None, bool]:
        """
        The item that holds the address, and whether it is ours to change: our own item for just this address, else
        another owner's that has not ended, else another owner's that has.
        """
        exact = self._items.get(ipaddress.ip_network(address))
        if exact is not None and exact.ours:
            return exact, True
        if exact is not None and exact.in_force_at(now):
            return exact, False
        return self._covering(address, now) or exact, False

    def ours(self) -> dict[Observable, Item]:
        """Our items, each by its address."""
        return {
            observable: item
            for network, item in self._items.items()
            if item.ours and network.prefixlen == network.max_prefixlen
            for observable in [_observable(network)]
        }

    def changes_of_others(self, before: Holdings) -> int:
        """How many items that are not ours are here and were not there before, or were, or were different."""
        mine, theirs = ({n: _settings(i) for n, i in h._items.items() if not i.ours} for h in (self, before))
        return sum(mine.get(network) != theirs.get(network) for network in mine.keys() | theirs.keys())

    def _covering(self, address: IPAddress, now: datetime) -> Item | None:
        """The narrowest item wider than the address that covers it and is not over."""
        for length in self._lengths[address.version]:
            if length < address.max_prefixlen:
                item = self._items.get(ipaddress.ip_network((address, length), strict=False))
                if item is not None and item.in_force_at(now) and not isinstance(item, UnreadableItem):
                    return item
        return None


def _observable(network: IPNetwork) -> Observable:
    kind = ObservableType.IPV4 if network.version == 4 else ObservableType.IPV6
    return Observable(type=kind, value=str(network.network_address))


def _settings(item: Item) -> tuple[Any, ...]:
    """What a client can set."""
    return item.value, item.expirationDate, item.description or "", frozenset(item.tags)


@dataclass
class Changes:
    """
    What a list needs in order to hold the indicators.

    :param delete: items of ours past their end that make room
    :param held: by observable, the item that holds it already, or that ``update`` will prolong
    :param by_person: by observable, why it is left as a person has it
    """

    append: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    delete: dict[Observable, Item] = field(default_factory=dict)
    held: dict[Observable, Item] = field(default_factory=dict)
    no_room: set[Observable] = field(default_factory=set)
    by_person: dict[Observable, str] = field(default_factory=dict)

    @property
    def written(self) -> set[str]:
        return {entry["value"] for entry in (*self.append, *self.update)}

    def rows(self) -> list[Row]:
        """What makes room comes first."""
        deletes = [("delete", {"value": item.value}) for item in self.delete.values()]
        return [*deletes, *(("update", one) for one in self.update), *(("append", one) for one in self.append)]


def changes_for(
    client_list: api.ClientList,
    indicators: Sequence[Indicator],
    incidents: Mapping[str, Sequence[str]],
    now: datetime,
    *,
    decided: Decided = lambda _indicator, _altered: None,
    ends: Mapping[str, Collection[datetime | None]] | None = None,
) -> Changes:
    """
    Compare. The most certain indicators come first, since the list may not hold all of them.

    :param decided: why a person's decision about ours stands
    :param ends: by observable key, the ends that we can have left
    """
    holdings = Holdings(client_list.items or ())
    changes = Changes()
    missing: list[Indicator] = []
    for indicator in sorted(indicators, key=lambda i: (-i.confidence, i.observable.key)):
        address = ipaddress.ip_address(indicator.observable.value)
        item, is_ours = holdings.holding(address, now)
        if item is None:
            if why := decided(indicator, None):
                changes.by_person[indicator.observable] = why
            else:
                missing.append(indicator)
            continue
        changes.held[indicator.observable] = item
        if is_ours and item.expirationDate and item.expirationDate < ends_at(indicator):
            left = (ends or {}).get(indicator.observable.key, ANY_END)
            if why := decided(indicator, altered(item, left)):
                changes.by_person[indicator.observable] = why
            else:
                changes.update.append(_entry(item.value, item.description, item.tags, ends_at(indicator)))
    _make_room(changes, client_list.itemsCount, len(missing), holdings, {i.observable for i in indicators}, now)
    room = api.MAXIMUM_ITEMS - client_list.itemsCount + len(changes.delete)
    for indicator in missing[:room] if room > 0 else ():
        about = describe(indicator, incidents.get(indicator.observable.key, []))
        entry = _entry(indicator.observable.value, about, (api.OUR_TAG,), ends_at(indicator))
        changes.append.append(entry)
    changes.no_room = {indicator.observable for indicator in missing[max(room, 0) :]}
    return changes


def _make_room(
    changes: Changes, size: int, more: int, holdings: Holdings, wanted: Collection[Observable], now: datetime
) -> None:
    """Ours that have ended longest go first, and only as many as are needed."""
    needed = size + more - api.MAXIMUM_ITEMS
    if needed <= 0 or not more:
        return
    over = [
        (item.expirationDate, observable.key, observable, item)
        for observable, item in holdings.ours().items()
        if item.expirationDate and item.expirationDate <= now and observable not in wanted and not altered(item)
    ]
    changes.delete = {observable: item for _, _, observable, item in sorted(over, key=lambda o: o[:2])[:needed]}


def ends_at(indicator: Indicator) -> datetime:
    """Whole seconds: a fraction that the vendor might cut off would make every item seem too short for ever."""
    return indicator.expires_at.replace(microsecond=0)


def describe(indicator: Indicator, incidents: Sequence[str]) -> str:
    about = ", ".join(incidents) or "no incident yet"
    return one_line(f"{api.OUR_WORDS}{about}; confidence {indicator.confidence}", api.DESCRIPTION_LENGTH)


def altered(item: Item, ends: Collection[datetime | None] = ANY_END) -> str:
    """
    What a person changed of our item since we left it, in words; empty: nothing.

    :param ends: those that we can have left; None among them: not known
    """
    left = {end.replace(microsecond=0) for end in ends if end}
    has = item.expirationDate.replace(microsecond=0) if item.expirationDate else None
    changed = [
        name
        for name, differs in (
            ("tags", set(item.tags) != {api.OUR_TAG}),
            ("description", not (item.description or "").startswith(api.OUR_WORDS)),
            ("end", None not in ends and has not in left),
        )
        if differs
    ]
    return f"the item's {' and '.join(changed)} changed since we wrote it" if changed else ""


def kept_because(item: Item, action: Action) -> str | None:
    """Why an item stays although the action is to be lifted; None: it is ours, and as we left it."""
    if not item.ours:
        return f"the item {item.value} is not ours and was left alone"
    changed = altered(item, {action.expires_at})
    return f"{changed}, so it was left alone" if changed else None


def _entry(value: str, description: str | None, tags: Sequence[str], ends: datetime) -> dict[str, Any]:
    """Every member that a client can set, since ``update`` erases those left out."""
    return {
        "value": value,
        "description": description or "",
        "tags": list(tags),
        "expirationDate": ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+00:00"),
    }


def chunks(rows: Sequence[Row]) -> list[list[Row]]:
    """In order, each small enough for one write."""
    result: list[list[Row]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(row[1])) + 2
        if not result or len(result[-1]) >= api.ITEMS_PER_WRITE or size + length > api.BYTES_PER_WRITE:
            result.append([])
            size = 0
        result[-1].append(row)
        size += length
    return result
