"""Akamai Client Lists v1 without I/O. Field names are the vendor's.

There is no public OpenAPI of this API. Shapes: Akamai's Go SDK (``pkg/clientlists`` of AkamaiOPEN-edgegrid-golang v11)
and PowerShell module; limits: https://techdocs.akamai.com/terraform/docs/set-up-client-lists.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field, field_validator

from include.soar.model import Action, Indicator, Observable
from include.soar.vendor.errors import ClockSkew, Unauthorized, Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode, error_text, load_json

VENDOR = "akamai_client_lists"
BASE = "/client-list/v1"

#: The mark of our items. An item without it belongs to a person and is never changed.
OUR_TAG = "threat-response"

#: Published: addresses in one list of type IP.
MAXIMUM_ITEMS = 10_000

# INFERRED, to be checked on a real tenant:
#: Items in one write. No limit is published.
ITEMS_PER_WRITE = 500
#: Only the first 131,072 bytes of a body are signed; whether a longer one is refused is not known.
BYTES_PER_WRITE = 100_000
DESCRIPTION_LENGTH = 255
#: How a description of ours begins.
OUR_WORDS = "Threat response: "
#: A second activation while one is pending: Akamai's Terraform provider retries on both.
ACTIVATION_IN_PROGRESS = (409, 422)
#: Environment states in which the network enforces its active version. MODIFIED: the list was changed since.
IN_FORCE = ("ACTIVE", "MODIFIED", "PENDING_ACTIVATION")
PENDING = "PENDING_ACTIVATION"

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Item(VendorShape):
    value: str
    description: str | None = None
    tags: tuple[str, ...] = ()
    expirationDate: datetime | None = None
    createdVersion: int | None = None
    stagingStatus: str | None = None
    productionStatus: str | None = None

    @field_validator("tags", mode="before")
    @classmethod
    def _no_tags(cls, value: Any) -> Any:
        return value or ()

    @field_validator("expirationDate", mode="before")
    @classmethod
    def _no_expiry(cls, value: Any) -> Any:
        return value or None  # "" clears the expiry

    @field_validator("expirationDate")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without an offset")
        try:
            return value.astimezone(UTC) if value else None
        except OverflowError:
            raise ValueError("lies outside of the calendar") from None

    @property
    def ours(self) -> bool:
        return OUR_TAG in self.tags

    def in_force_at(self, now: datetime) -> bool:
        return self.expirationDate is None or self.expirationDate > now


class ClientList(VendorShape):
    """A list; ``items`` is None when they were not asked for."""

    listId: str
    name: str
    type: str
    version: int
    itemsCount: int = Field(ge=0)
    readOnly: bool = False
    deprecated: bool = False
    stagingActiveVersion: int | None = None
    productionActiveVersion: int | None = None
    items: tuple[Item, ...] | None = None

    def active_version(self, network: str) -> int | None:
        return self.productionActiveVersion if network == "PRODUCTION" else self.stagingActiveVersion


class Environment(VendorShape):
    """
    What a network has: the last activation, with the network's status of now. ``version`` and ``activationId``
    are the last activation's.
    """

    activationStatus: str
    version: int | None = None
    activationId: int | None = None


class Activation(VendorShape):
    activationId: int
    activationStatus: str
    version: int


@dataclass(frozen=True)
class State:
    """
    How far a network is with a list.

    :param latest: the list's version
    :param active: the version that the network enforces, None when it enforces none
    """

    list_id: str
    network: str
    status: str
    latest: int
    active: int | None
    pending: int | None
    activation_id: int | None

    def after(self, activation: Activation) -> State:
        """The same, now that this activation was requested."""
        return replace(
            self,
            status=activation.activationStatus,
            pending=activation.version,
            activation_id=activation.activationId,
        )

    def enforces(self, version: int) -> bool:
        return self.active is not None and self.active >= version

    def enforces_item(self, item: Item) -> bool:
        """
        Whether the network's version holds this item as the list does.

        A list is changed by others too, so that it often is ahead of the network by changes that are not ours.
        Then the version that made the item and the item's own status decide: an item that was changed since says
        so (INFERRED from the statuses' names).
        """
        if self.enforces(self.latest):
            return True
        status = item.productionStatus if self.network == "PRODUCTION" else item.stagingStatus
        return item.createdVersion is not None and self.enforces(item.createdVersion) and status in (None, "ACTIVE")


def state_of(client_list: ClientList, environment: Environment, network: str) -> State:
    status = environment.activationStatus
    active = client_list.active_version(network) if status in IN_FORCE else None
    if active is None and status == "ACTIVE":
        active = environment.version
    return State(
        list_id=client_list.listId,
        network=network,
        status=status,
        latest=client_list.version,
        active=active,
        pending=environment.version if status == PENDING else None,
        activation_id=environment.activationId,
    )


# --- requests and answers -----------------------------------------------------------------------------------


def _list_path(list_id: str) -> str:
    return f"/lists/{quote(list_id, safe='')}"


def list_request(list_id: str, *, items: bool) -> Request:
    params = (("includeItems", "true"),) if items else ()
    return Request("GET", BASE + _list_path(list_id), operation="list", params=params)


def parse_list(response: Response, *, items: bool) -> ClientList:
    """
    :raises Unexpected: there are fewer items than the list says that it has
    """
    found = decode(VENDOR, "list", ClientList, response.body)
    if items and (found.items is None or len(found.items) != found.itemsCount):
        got = 0 if found.items is None else len(found.items)
        raise Unexpected(VENDOR, "list", f"{got} of {found.itemsCount} items came")
    return found


def usable(client_list: ClientList) -> None:
    """:raises Unauthorized: the list cannot hold our blocks; a person must name another"""
    problem = None
    if client_list.type != "IP":
        problem = f"is of type {one_line(client_list.type, 30)}, not IP"
    elif client_list.deprecated:
        problem = "is deprecated"
    elif client_list.readOnly:
        problem = "is read-only"
    if problem:
        raise Unauthorized(VENDOR, "list", f"client list {one_line(client_list.listId, 80)} {problem}")


def environment_request(list_id: str, network: str) -> Request:
    return Request("GET", f"{BASE}{_list_path(list_id)}/environments/{network}/status", operation="environment status")


def parse_environment(response: Response) -> Environment:
    return decode(VENDOR, "environment status", Environment, response.body)


def items_request(
    list_id: str,
    *,
    append: Sequence[dict[str, Any]] = (),
    update: Sequence[dict[str, Any]] = (),
    delete: Sequence[dict[str, Any]] = (),
) -> Request:
    """``update`` takes the place of an item: a member left out is erased."""
    return Request(
        "POST",
        f"{BASE}{_list_path(list_id)}/items",
        operation="change items",
        json={"append": list(append), "update": list(update), "delete": list(delete)},
        writes=True,
    )


def activation_request(
    list_id: str, network: str, *, api_version: str, comments: str, recipients: Sequence[str]
) -> Request:
    return Request(
        "POST",
        f"/client-list/{api_version}{_list_path(list_id)}/activations",
        operation="activate",
        json={
            "action": "ACTIVATE",
            "network": network,
            "comments": comments,
            "notificationRecipients": list(recipients),
        },
        writes=True,
    )


def parse_activation(response: Response) -> Activation:
    return decode(VENDOR, "activate", Activation, response.body)


def authentication_problem(operation: str, response: Response) -> Unauthorized | None:
    """EdgeGrid answers a skewed clock with 400; the kind of the problem tells it from a wrong item."""
    if response.status != 400 or b"pep-authn" not in response.body:
        return None
    document = load_json(VENDOR, operation, response.body)
    request_id = document.get("requestId") if isinstance(document, dict) else None
    kind = ClockSkew if b"timestamp" in response.body.lower() else Unauthorized
    return kind(VENDOR, operation, error_text(response.body), status=400, request_id=request_id)


# --- what the list lacks ------------------------------------------------------------------------------------


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

    def holding(self, address: IPAddress, now: datetime) -> tuple[Item | None, bool]:
        """
        The item that holds the address, and whether it is ours to change: our own item for just this address, else
        somebody's that is not over, else somebody's that is.
        """
        exact = self._items.get(ipaddress.ip_network(address))
        if exact is not None and exact.ours:
            return exact, True
        if exact is not None and exact.in_force_at(now):
            return exact, False
        return self._covering(address, now) or exact, False

    def _covering(self, address: IPAddress, now: datetime) -> Item | None:
        """The narrowest item wider than the address that covers it and is not over."""
        for length in self._lengths[address.version]:
            if length < address.max_prefixlen:
                item = self._items.get(ipaddress.ip_network((address, length), strict=False))
                if item is not None and item.in_force_at(now):
                    return item
        return None


@dataclass
class Changes:
    """
    What a list needs in order to hold the indicators.

    :param held: by observable, the item that holds it already, or that ``update`` will prolong
    """

    append: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    held: dict[Observable, Item] = field(default_factory=dict)
    no_room: set[Observable] = field(default_factory=set)


def changes_for(
    client_list: ClientList, indicators: Sequence[Indicator], incidents: Mapping[str, Sequence[str]], now: datetime
) -> Changes:
    """Compare. The most certain indicators come first, since the list may not hold all of them."""
    holdings = Holdings(client_list.items or ())
    room = MAXIMUM_ITEMS - client_list.itemsCount
    changes = Changes()
    for indicator in sorted(indicators, key=lambda i: (-i.confidence, i.observable.key)):
        address = ipaddress.ip_address(indicator.observable.value)
        item, ours = holdings.holding(address, now)
        if item is not None:
            changes.held[indicator.observable] = item
            if ours and item.expirationDate and item.expirationDate < ends_at(indicator):
                changes.update.append(_entry(item.value, item.description, item.tags, ends_at(indicator)))
        elif room <= 0:
            changes.no_room.add(indicator.observable)
        else:
            room -= 1
            changes.append.append(
                _entry(
                    indicator.observable.value,
                    describe(indicator, incidents.get(indicator.observable.key, [])),
                    (OUR_TAG,),
                    ends_at(indicator),
                )
            )
    return changes


def ends_at(indicator: Indicator) -> datetime:
    """Whole seconds: a fraction that the vendor might cut off would make every item seem too short for ever."""
    return indicator.expires_at.replace(microsecond=0)


def describe(indicator: Indicator, incidents: Sequence[str]) -> str:
    about = ", ".join(incidents) or "no incident yet"
    return one_line(f"{OUR_WORDS}{about}; confidence {indicator.confidence}", DESCRIPTION_LENGTH)


def kept_because(item: Item, action: Action) -> str | None:
    """Why an item stays although the action is to be lifted; None: it is ours, and as we left it."""
    if not item.ours:
        return f"the item {item.value} is not ours and was left alone"
    changed = [
        name
        for name, differs in (
            ("tags", set(item.tags) != {OUR_TAG}),
            ("description", not (item.description or "").startswith(OUR_WORDS)),
            ("end", action.expires_at is not None and item.expirationDate != action.expires_at),
        )
        if differs
    ]
    if changed:
        return f"the item's {' and '.join(changed)} changed since we wrote it, so it was left alone"
    return None


def _entry(value: str, description: str | None, tags: Sequence[str], ends: datetime) -> dict[str, Any]:
    """Every member that a client can set, since ``update`` erases those left out."""
    return {
        "value": value,
        "description": description or "",
        "tags": list(tags),
        "expirationDate": ends.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000+00:00"),
    }


def chunks(entries: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """In order, each small enough for one write."""
    result: list[list[dict[str, Any]]] = []
    size = 0
    for entry in entries:
        length = len(json.dumps(entry)) + 2
        if not result or len(result[-1]) >= ITEMS_PER_WRITE or size + length > BYTES_PER_WRITE:
            result.append([])
            size = 0
        result[-1].append(entry)
        size += length
    return result
