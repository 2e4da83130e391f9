"""
Cyware Respond (CFTR) Open API without I/O. Field names are the vendor's. https://cftrapi.cyware.com

The reference documents no answer. What is read of one is therefore little: ``unique_id`` everywhere, and of a list's
rows ``title``, ``status`` and ``created``, which a working client reads. Everything else that is assumed stands in
``tenant.py``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BeforeValidator, Field

from include.soar.model import Instant, Observable, ObservableType
from include.soar.vendor.lenient import Cosmetic, Digits
from include.soar.vendor.wire import Request, Response, VendorShape, decode, load_json
from threat_response.vendors.cyware_respond import tenant as defaults
from threat_response.vendors.cyware_respond.tenant import VENDOR, Tenant

#: References in a body are names, not UUIDs. Documented.
BY_NAME = (("values", "readable_type"),)


def signature(access_id: str, secret_key: str, expires: int) -> dict[str, str]:
    """
    The query parameters that prove who asks. Neither method, path nor body is signed, so they are as good as a
    password until they expire.

    :param expires: epoch seconds
    """
    mac = hmac.new(secret_key.encode(), f"{access_id}\n{expires}".encode(), hashlib.sha1)
    return {
        "AccessID": access_id,
        "Expires": str(expires),
        "Signature": base64.b64encode(mac.digest()).decode(),
    }


# --- answers ------------------------------------------------------------------------------------------------


_MILLIS = 10**11


def _instant(value: Any) -> Any:
    """ISO 8601 or epoch seconds or milliseconds; a time without a zone is UTC."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Seconds of this number are thousands of years from now: milliseconds.
        try:
            return datetime.fromtimestamp(value / 1000 if value > _MILLIS else value, UTC)
        except (OverflowError, OSError):
            raise ValueError("no time of the calendar") from None
    if isinstance(value, str):
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return value


Moment = Annotated[Instant, BeforeValidator(_instant)]
#: For people: no document says whether it is a text or a number.
ReadableId = Cosmetic[Digits]


def _names(value: Any) -> Any:
    """Labels, whether as titles or as records with a title."""
    if value is None:
        return []
    if isinstance(value, list):
        return [item.get("title") if isinstance(item, dict) else item for item in value]
    return value


class IncidentRow(VendorShape):
    """An incident, as a list's row and as a whole. ``created`` orders incidents, so it has no default."""

    unique_id: str = Field(min_length=1)
    readable_id: ReadableId = None
    title: str
    status: str
    created: Moment

    @property
    def order(self) -> tuple[datetime, str]:
        """Older first; the id breaks a tie, so that every run agrees on who is the older."""
        return self.created, self.unique_id


class Incident(IncidentRow):
    description: str | None = None
    labels: Annotated[list[str], BeforeValidator(_names)] = []


class Created(VendorShape):
    unique_id: str = Field(min_length=1)
    readable_id: ReadableId = None


class Envelope(VendorShape):
    results: list[Any]
    count: int | None = None
    total: int | None = None  # the sibling product's word for count


class Comment(VendorShape):
    """``text`` is the whole record, to look for a reference in: which field holds a comment's text is inferred."""

    created: Cosmetic[Moment] = None
    text: str


@dataclass(frozen=True)
class Page:
    """One page of a list. ``count`` and ``more`` are what the envelope says, None where it says nothing."""

    rows: list[Any]
    count: int | None = None
    more: bool | None = None


@dataclass(frozen=True)
class Connected:
    """The other end of a connection."""

    component: str
    unique_id: str
    value: str | None = None


def parse_page(operation: str, response: Response) -> Page:
    """
    A page in either envelope (``next`` or ``link.next``, with ``count`` and ``results``), or as a bare array.

    :raises Unexpected: it is none of these
    """
    document = load_json(VENDOR, operation, response.body)
    if isinstance(document, list):
        return Page(document)
    envelope = decode(VENDOR, operation, Envelope, document)
    links = document.get("link") if isinstance(document.get("link"), dict) else document
    more = bool(links["next"]) if "next" in links else None
    return Page(envelope.results, envelope.count if envelope.count is not None else envelope.total, more)


def parse_row(operation: str, row: Any) -> IncidentRow:
    return decode(VENDOR, operation, IncidentRow, row)


def parse_incident(response: Response) -> Incident:
    return decode(VENDOR, "get_incident", Incident, response.body)


def parse_created(response: Response) -> Created:
    return decode(VENDOR, "create_incident", Created, response.body)


def parse_comment(row: Any) -> Comment:
    record = row if isinstance(row, dict) else {"description": row}
    chosen = {"created": record.get("created"), "text": json.dumps(record, ensure_ascii=False)}
    return decode(VENDOR, "list_comments", Comment, chosen)


def parse_written(operation: str, response: Response) -> Any:
    """
    The answer to a write whose shape is not known: JSON, or nothing at all.

    :raises Unexpected: it is something else, e.g. a proxy's page: then nobody knows whether it was written
    """
    return load_json(VENDOR, operation, response.body) if response.body.strip() else None


def parse_iocs(document: Any, wanted: Iterable[Observable], tenant: Tenant) -> dict[str, str]:
    """The ids of those wanted that ``document`` names, by observable key, wherever in it the records stand."""
    values = ((record.get(tenant.ioc_value_key), record["unique_id"]) for _, record in _records(document, ""))
    return match_values(((value, unique_id) for value, unique_id in values if isinstance(value, str)), wanted)


def match_values(values: Iterable[tuple[str, str]], wanted: Iterable[Observable]) -> dict[str, str]:
    """
    Which of those wanted are among these (value, id) pairs: id by observable key. Case matters in a URL only, and an
    address is compared as an address.
    """
    wanted = list(wanted)
    urls = {o.value: o.key for o in wanted if o.type is ObservableType.URL}
    others = {o.value.lower(): o.key for o in wanted if o.type is not ObservableType.URL}
    found: dict[str, str] = {}
    for value, unique_id in values:
        if key := urls.get(value) or others.get(_address(value.lower())):
            found.setdefault(key, unique_id)
    return found


def parse_connected(response: Response, tenant: Tenant) -> list[Connected]:
    """What something is connected to: every record with a ``unique_id``, under the key that names its kind."""
    document = load_json(VENDOR, "connected", response.body)
    return [
        Connected(component, record["unique_id"], _text_or_none(record.get(tenant.ioc_value_key)))
        for component, record in _records(document, "")
    ]


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _records(document: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with a ``unique_id`` in a document of unknown shape, with the nearest key above it."""
    if isinstance(document, list):
        for item in document:
            yield from _records(item, key)
    elif isinstance(document, dict):
        if isinstance(document.get("unique_id"), str) and document["unique_id"]:
            yield key, document
        for name, value in document.items():
            yield from _records(value, name)


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        return value


def ioc_key(observable: Observable, tenant: Tenant) -> str | None:
    """The vendor's key for such a value, None where it has none (SHA-512). The case of the keys matters."""
    if observable.type is ObservableType.FILE:
        return tenant.hash_keys.get(observable.hash_algorithm)
    return tenant.ioc_keys.get(observable.type)


# --- requests -----------------------------------------------------------------------------------------------


def _request(
    tenant: Tenant,
    method: str,
    path: str,
    operation: str,
    params: Sequence[tuple[str, str]] = (),
    body: Any = None,
) -> Request:
    # Every path ends in a slash: the vendor would redirect one without, and the body would be lost.
    return Request(
        method,
        f"{tenant.base_path}{path}",
        operation=operation,
        params=tuple(params),
        json=body,
        headers={"Accept": "application/json"},
        writes=method != "GET",
        timeout_seconds=defaults.TIMEOUT_SECONDS,
    )


def test_connectivity_request(tenant: Tenant) -> Request:
    return _request(tenant, "GET", "/test-connectivity/", "test_connectivity")


def page_request(
    tenant: Tenant, path: str, operation: str, number: int, filters: Sequence[tuple[str, str]] = ()
) -> Request:
    paging = (("page", str(number)), ("page_size", str(tenant.page_size)))
    return _request(tenant, "GET", path, operation, (*paging, *filters))


INCIDENTS = "/v1/incident/"
IOCS = "/v1/ioc-module/ioc/"


def comments_path(unique_id: str) -> str:
    return f"/v1/comments/incident/{quote(unique_id, safe='')}/"


def created_between(created_from: datetime | None, created_until: datetime | None) -> list[tuple[str, str]]:
    """Filters of the incident list, in epoch seconds; both ends belong to it."""
    bounds = (("created_date__gte", created_from), ("created_date__lte", created_until))
    return [(name, str(int(bound.timestamp()))) for name, bound in bounds if bound]


def incident_request(tenant: Tenant, unique_id: str) -> Request:
    return _request(tenant, "GET", f"{INCIDENTS}{quote(unique_id, safe='')}/", "get_incident")


def create_incident_request(tenant: Tenant, fields: Mapping[str, Any]) -> Request:
    return _request(tenant, "POST", INCIDENTS, "create_incident", BY_NAME, dict(fields))


def update_incident_request(tenant: Tenant, unique_id: str, fields: Mapping[str, Any]) -> Request:
    """
    Only the fields named are changed. With ``comment_type`` among them ``description`` is the note's text and not
    the incident's description.
    """
    path = f"{INCIDENTS}{quote(unique_id, safe='')}/"
    return _request(tenant, "PUT", path, "update_incident", BY_NAME, dict(fields))


def add_comment_request(tenant: Tenant, unique_id: str, markup: str) -> Request:
    body = {"description": markup, "mentioned_users_usernames": []}
    return _request(tenant, "POST", comments_path(unique_id), "add_comment", body=body)


def bulk_create_request(tenant: Tenant, observables: Iterable[Observable]) -> Request:
    """Values by the vendor's key of their type. All observables have one (:func:`ioc_key`)."""
    body: dict[str, list[str]] = {}
    for observable in observables:
        body.setdefault(ioc_key(observable, tenant) or "", []).append(observable.value)
    return _request(tenant, "POST", f"{IOCS}bulk-create/", "bulk_create_iocs", body=body)


def link_request(tenant: Tenant, components: Mapping[str, Sequence[str]]) -> Request:
    body = {component: list(ids) for component, ids in components.items()}
    return _request(tenant, "POST", "/v1/connect-the-dots/link-components/", "link_components", body=body)


def relate_request(tenant: Tenant, newer_id: str, older_id: str) -> Request:
    """A relationship between two incidents, by the call that the tenant names."""
    component = tenant.incident_component
    if tenant.relate_call == "flat":
        return link_request(tenant, {component: [newer_id, older_id]})
    pair = {"link_from": {component: newer_id}, "link_to": {component: [older_id]}}
    path = "/v1/connect-the-dots/advanced-link-components/"
    return _request(tenant, "POST", path, "relate_incidents", body={"append": [pair]})


def connected_request(tenant: Tenant, component: str, unique_id: str) -> Request:
    path = f"/v1/{quote(component, safe='')}/{quote(unique_id, safe='')}/connect-the-dots/"
    return _request(tenant, "GET", path, "connected")
