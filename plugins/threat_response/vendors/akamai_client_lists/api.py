"""Akamai Client Lists without I/O: v1, and activations of v2. Field names are the vendor's.

There is no public OpenAPI of this API. Shapes: Akamai's Go SDK (``pkg/clientlists`` of AkamaiOPEN-edgegrid-golang v11)
and PowerShell module; answers of the live service as recorded in chronicle/content-hub
(``google/akamai_integration/tests/mock_data.json``, 2025-06 and 2026-02), which win where they differ; limits:
https://techdocs.akamai.com/terraform/docs/set-up-client-lists.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field, ValidationError, field_validator

from include.soar.vendor.errors import ClockSkew, Unauthorized, Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode, error_text, first_problem, load_json

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
#: What a second activation while one is pending may be refused with: Akamai's Terraform provider retries on both.
#: Neither proves that one is pending.
MAY_BE_PENDING = (409, 422)
#: Environment states in which the network enforces its active version. MODIFIED: the list was changed since. FAILED:
#: the last activation did not get through, and the network keeps what it had.
IN_FORCE = ("ACTIVE", "MODIFIED", "PENDING_ACTIVATION", "FAILED")
#: Those in which it enforces nothing of the list, whatever an item says.
WITHDRAWN = ("INACTIVE", "DEACTIVATED", "PENDING_DEACTIVATION")
PENDING = "PENDING_ACTIVATION"
FAILED = "FAILED"
#: A list's ``listType``; one of the Network Lists API that is shown among them has another (INFERRED: NL).
CLIENT_LIST = "CL"
#: What to do about the id of a list of the other API. Both kinds look like 12345_NAME.
NETWORK_LIST = (
    "is a network list, which this control cannot write: upgrade it to a client list in Control Center, or name a "
    "client list of type IP that the security policy blocks"
)
#: Items on one page of a version's snapshot. The vendor's PowerShell module asks for as many lists.
SNAPSHOT_PAGE = 1_000

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Item(VendorShape):
    """
    ``stagingStatus`` and ``productionStatus`` are the vendor's word on the item itself. Items of a live list carry no
    ``createdVersion``; what Akamai's own Go SDK makes of one that is absent is 0.
    """

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
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without an offset")
        try:
            return value.astimezone(UTC)
        except OverflowError:  # at either end of the calendar: what a person writes for "never", or "long ago"
            last, first = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)
            return last if value.year > 1 else first

    @property
    def ours(self) -> bool:
        return OUR_TAG in self.tags

    def in_force_at(self, now: datetime) -> bool:
        return self.expirationDate is None or self.expirationDate > now

    def status(self, network: str) -> str | None:
        return self.productionStatus if network == "PRODUCTION" else self.stagingStatus


class UnreadableItem(Item):
    """One that is there, and whose other members are not as documented: it is left alone, and costs only its value."""

    problem: str


class ClientList(VendorShape):
    """A list; ``items`` is None when they were not asked for."""

    listId: str
    name: str
    type: str
    listType: str | None = None
    version: int
    itemsCount: int = Field(ge=0)
    readOnly: bool = False
    deprecated: bool = False
    stagingActivationStatus: str | None = None
    productionActivationStatus: str | None = None
    stagingActiveVersion: int | None = None
    productionActiveVersion: int | None = None
    items: tuple[Item, ...] | None = None

    @field_validator("items", mode="before")
    @classmethod
    def _each_by_itself(cls, value: Any) -> Any:
        return [_read_item(item) for item in value] if isinstance(value, list) else value

    @property
    def is_pending(self) -> bool:
        """Whether a change of either network is on its way: one may stand in the way of another's."""
        statuses = (self.stagingActivationStatus, self.productionActivationStatus)
        return any(status is not None and status.startswith("PENDING_") for status in statuses)

    def active_version(self, network: str) -> int | None:
        return self.productionActiveVersion if network == "PRODUCTION" else self.stagingActiveVersion


def _read_item(item: Any) -> Any:
    try:
        return Item.model_validate(item)
    except ValidationError as error:
        value = item.get("value") if isinstance(item, dict) else None
        if not isinstance(value, str):
            return item  # another shape than we know, rather than one odd item
        return UnreadableItem(value=value, problem=f"answer is not as documented: {first_problem(error)}")


class Environment(VendorShape):
    """
    What a network has: the last activation, with the network's status of now. ``version`` and ``activationId``
    are the last activation's.
    """

    activationStatus: str
    version: int | None = None
    activationId: int | None = None


class Activation(VendorShape):
    """Of one network. v1 answers like this; v2 has id and status by network, see ``parse_activation``."""

    activationId: int
    activationStatus: str
    version: int


class SnapshotPage(VendorShape):
    """Some items of one version of a list; they carry no status."""

    content: tuple[Item, ...]
    totalElements: int = Field(ge=0)


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

    @property
    def failed(self) -> bool:
        """The last activation did; the network keeps what it had."""
        return self.status == FAILED

    def enforces(self, version: int) -> bool:
        return self.active is not None and self.active >= version

    def enforces_item(self, item: Item) -> bool | None:
        """
        Whether the network holds this item as the list does; None when neither says.

        A list is changed by others too, so that it often is ahead of the network by changes that are not ours. Then
        the item's own status is the vendor's word: an item that was changed since says so (INFERRED from the statuses'
        names). Only an item without a status is judged by the version that made it, where it names one.
        """
        if self.status in WITHDRAWN:
            return False
        if self.enforces(self.latest):
            return True
        if status := item.status(self.network):
            return status == "ACTIVE"
        return self.enforces(item.createdVersion) if item.createdVersion else None

    def takes_over(self, item: Item) -> bool:
        """Whether a pending activation brings this item, so that no other is needed for it."""
        if self.pending is None:
            return False
        return self.pending >= self.latest or item.status(self.network) == PENDING


def state_of(client_list: ClientList, environment: Environment, network: str) -> State:
    status = environment.activationStatus
    active = client_list.active_version(network) if status in IN_FORCE else None
    if status == FAILED and active == environment.version:
        active = None  # the vendor contradicts itself: the version that failed is not taken to be in force
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
    if client_list.listType not in (None, CLIENT_LIST):
        problem = NETWORK_LIST
    elif client_list.type != "IP":
        problem = f"is of type {one_line(client_list.type, 30)}, not IP"
    elif client_list.deprecated:
        problem = "is deprecated"
    elif client_list.readOnly:
        problem = "is read-only"
    if problem:
        raise Unauthorized(VENDOR, "list", f"list {one_line(client_list.listId, 80)} {problem}")


def network_list_request(list_id: str) -> Request:
    """Whether there is such a list in the other API: answers 200, with the list without its elements."""
    path = f"/network-list/v2/network-lists/{quote(list_id, safe='')}"
    return Request("GET", path, operation="network list", params=(("includeElements", "false"),))


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


def parse_activation(response: Response, network: str) -> Activation:
    """
    v1 answers with the activation. v2 has ``{"activations": {"PRODUCTION": {"activationId", "activationStatus"}},
    "version", …}``, with an entry for each network concerned.

    :raises Unexpected: the answer does not tell of this network's activation
    """
    document = load_json(VENDOR, "activate", response.body)
    if isinstance(document, dict) and "activations" in document:
        by_network = document["activations"]
        ours = by_network.get(network) if isinstance(by_network, dict) else None
        if not isinstance(ours, dict):
            raise Unexpected(VENDOR, "activate", f"the answer names no activation in {network}")
        document = {"version": document.get("version"), **ours}
    return decode(VENDOR, "activate", Activation, document)


def snapshot_request(list_id: str, version: int, page: int) -> Request:
    """The items of one version, which may be older than the list's."""
    params = (("page", str(page)), ("pageSize", str(SNAPSHOT_PAGE)))
    path = f"{BASE}{_list_path(list_id)}/versions/{version}/snapshot"
    return Request("GET", path, operation="snapshot", params=params)


def parse_snapshot(response: Response) -> SnapshotPage:
    return decode(VENDOR, "snapshot", SnapshotPage, response.body)


def authentication_problem(operation: str, response: Response) -> Unauthorized | None:
    """EdgeGrid answers a skewed clock with 400; the kind of the problem tells it from a wrong item."""
    if response.status != 400 or b"pep-authn" not in response.body:
        return None
    document = load_json(VENDOR, operation, response.body)
    request_id = document.get("requestId") if isinstance(document, dict) else None
    kind = ClockSkew if b"timestamp" in response.body.lower() else Unauthorized
    return kind(VENDOR, operation, error_text(response.body), status=400, request_id=request_id)
