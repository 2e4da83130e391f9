"""
Akamai Secure Internet Access (SIA, once ETP): threat events of the Reporting API v3, without I/O.

Field names are the vendor's. https://techdocs.akamai.com/etp-reporting/reference/post-threat-event-details, published
as ``apis/etp-report/v3`` in https://github.com/akamai/akamai-apis. Where the schema and its own examples disagree
(ids as text or number, ``asName`` or ``asname``), both are read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from include.soar.extract.records import (
    CLAIM_HEADERS,
    CREDENTIALS,
    MOST_MENTIONS,
    TOO_DEEP,
    bounded,
    clip,
    has_too_deep,
    load_records,
)
from include.soar.judge.traffic import address_of, pseudonym
from include.soar.model import Finding, Instant, Mention, Role, Severity, Traffic, own_id
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "akamai_sia"
#: The vendor's command line client waits up to 300 s for a page of 5,000.
TIMEOUT_SECONDS = 120.0

#: What the vendor's command line client asks for. No maximum is published.
PAGE_SIZE = 5_000
#: A read that has not ended after so many pages is not a window.
MAX_PAGES = 2_000

#: Texts that stand for "nothing" in the vendor's examples.
NOTHING = frozenset({"", "n/a", "none", "null", "not available"})

#: ``severityId``. It runs the other way round: 1 is the worst.
SEVERITIES = {
    "0": Severity.INFORMATIONAL,
    "1": Severity.CRITICAL,
    "2": Severity.HIGH,
    "3": Severity.MEDIUM,
    "4": Severity.LOW,
}
#: Our reading of ``confidenceName`` (and ``confidenceId``), as confidence in STIX 2.1.
CONFIDENCES = {"known": 90, "suspected": 60}
CONFIDENCE_NAMES = {"2": "known", "1": "suspected"}

#: Lists and categories that name a threat. Ids are those of the vendor's command line client.
THREAT_IDS = frozenset({"1", "2", "3"})
THREAT_NAMES = frozenset({"malware", "phishing", "c&c", "command and control", "dns exfiltration"})
#: Acceptable-use events: a lawful site that the customer does not want visited. Nothing to block elsewhere.
AUP_THREAT_ID = "2000"
AUP_EVENT_TYPES = frozenset({"aup", "avc"})
AUP_REASON = "acceptable use policy"

#: 404 with one of these: the configuration does not exist, or is not this API user's.
FOREIGN_CONFIG_CODES = ("Code-090209", "Code-130009")


class Read(NamedTuple):
    """One page: the body as it came, and its rows that are in the window."""

    body: bytes
    records: list[Any]


# --- request and answer --------------------------------------------------------------------------------------


def details_request(
    config_id: str,
    start_at: datetime,
    end_at: datetime,
    *,
    page: int,
    page_size: int = PAGE_SIZE,
    account_switch_key: str | None = None,
) -> Request:
    """
    A page of threat events, oldest first.

    The window is asked in whole seconds and from a second earlier, since no document says whether the start is
    inclusive; rows outside are left out by the caller.

    :param config_id: the "ETP Config ID", digits
    :param page: from 1
    """
    return Request(
        "POST",
        f"/etp-report/v3/configs/{config_id}/threat-events/details",
        operation="threat events",
        params=(("accountSwitchKey", account_switch_key),) if account_switch_key else (),
        json={
            "startTimeSec": math.floor(start_at.timestamp()) - 1,
            "endTimeSec": math.ceil(end_at.timestamp()),
            "orderBy": "ASC",
            "pageNumber": page,
            "pageSize": page_size,
            "filters": {},
        },
        headers={"Accept": "application/json"},
        timeout_seconds=TIMEOUT_SECONDS,
    )


class PageInfo(VendorShape):
    #: None: not said. The vendor's own client has met such answers ("API response without pageinfo").
    totalRecords: int | None = Field(default=None, ge=0)
    pageSize: int | None = Field(default=None, ge=1)


class DetailsAnswer(VendorShape):
    """What a quiet hour answers is not published: the schema forbids an empty ``dataRows``. So each may be missing."""

    pageInfo: PageInfo | None = None
    dataRows: list[Any] | None = None


class Details(NamedTuple):
    """
    :param more: whether another page follows
    :param as_documented: whether both members were there
    """

    rows: list[Any]
    more: bool
    as_documented: bool = True


def parse_details(response: Response, *, page: int, page_size: int) -> Details:
    """
    The rows of a page, and whether more follow. No rows are an empty page, unless rows are promised.

    :raises Unexpected: also when the page does not hold what ``totalRecords`` promises: a row is missing
    """
    document = load_records(VENDOR, "threat events", response.body)
    answer = decode(VENDOR, "threat events", DetailsAnswer, document)
    info, rows = answer.pageInfo or PageInfo(), answer.dataRows or []
    # The service may give smaller pages than asked; it then says so.
    size = min(page_size, info.pageSize or page_size)
    if info.totalRecords is None:
        # Nothing says how many there are: a page that is not full is the last one.
        return Details(rows, len(rows) >= size, as_documented=False)
    left = max(0, info.totalRecords - (page - 1) * size)
    if len(rows) != min(size, left):
        raise Unexpected(
            VENDOR,
            "threat events",
            f"short read: page {page} of {size} has {len(rows)} rows, and {info.totalRecords} are promised in all",
        )
    return Details(rows, left > size, as_documented=answer.dataRows is not None)


def detected_at(row: Any) -> datetime | None:
    """When it was detected; None where that cannot be read."""
    event = row.get("event") if isinstance(row, dict) else None
    try:
        return _INSTANT.validate_python(event.get("detectionTime") if isinstance(event, dict) else None)
    except ValidationError:
        return None


def in_window(row: Any, start_at: datetime, end_at: datetime) -> bool:
    """Whether it was detected in ``[start_at, end_at)``; a row without a readable time stays, to be named."""
    found = detected_at(row)
    return found is None or start_at <= found < end_at


# --- rows ----------------------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """Text that may be missing, of another kind, or one of the vendor's words for nothing."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or value.strip().casefold() in NOTHING:
        return ""
    return clip(value.strip())


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(text for item in values if (text := _text(item)))


def _domain(value: Any) -> str:
    return _text(value).rstrip(".").lower()


def _dicts(value: Any) -> tuple[dict[str, Any], ...]:
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _dict(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


def _severity(value: Any) -> Severity:
    if (word := _text(value)) in SEVERITIES:
        return SEVERITIES[word]
    raise PydanticCustomError("severity", "unknown id {word}", {"word": repr(one_line(value, 60))})


Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Domain = Annotated[str, BeforeValidator(_domain)]
Dicts = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_dicts)]
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class Event(VendorShape):
    #: No default: a severity that is missing is not a low one.
    severityId: Annotated[Severity, BeforeValidator(_severity)]
    detectionTime: Instant
    detectionType: Text = ""
    eventType: Text = ""
    listId: Text = ""
    listName: Text = ""
    categoryId: Text = ""
    categoryName: Text = ""
    confidenceId: Text = ""
    confidenceName: Text = ""
    threatId: Text = ""
    threatName: Text = ""
    policyId: Text = ""
    policyName: Text = ""
    actionName: Text = ""
    siteName: Text = ""
    description: Text = ""
    blockDescription: Text = ""
    reason: Text = ""
    internalClientIP: Text = ""
    decryptedInternalClientIp: Text = ""
    decryptedInternalClientName: Text = ""
    machineName: Text = ""
    deviceName: Text = ""
    httpUserAgent: Text = ""
    clientAgents: Texts = ()
    files: Dicts = ()
    dlp: Dicts = ()
    correlatedSinkholeEvents: Dicts = ()

    @property
    def confidence_word(self) -> str:
        name = self.confidenceName.casefold()
        return name if name in CONFIDENCES else CONFIDENCE_NAMES.get(self.confidenceId, "")

    @property
    def is_acceptable_use(self) -> bool:
        return (
            self.eventType.casefold() in AUP_EVENT_TYPES
            or self.threatId == AUP_THREAT_ID
            or self.threatName.casefold() == "aup"
            or self.reason.casefold() == AUP_REASON
        )

    @property
    def is_threat(self) -> bool:
        """Whether the vendor says that what was reached is a threat, by its confidence or by its list."""
        return not self.is_acceptable_use and (
            bool(self.confidence_word)
            or bool({self.listId, self.categoryId} & THREAT_IDS)
            or bool({self.listName.casefold(), self.categoryName.casefold()} & THREAT_NAMES)
        )


class Query(VendorShape):
    """The DNS half."""

    domain: Domain = ""
    uuid: Text = ""
    clientIp: Text = ""
    dnsIp: Text = ""
    deviceName: Text = ""
    resolved: Dicts = ()


class ProxyRequest(VendorShape):
    """The HTTP half."""

    domain: Domain = ""
    uri: Text = ""
    uuid: Text = ""
    connectionId: Text = ""
    clientIp: Text = ""
    destinationIP: Text = ""
    destinationPort: Text = ""
    queryStrings: Any = None
    headers: Dicts = ()


class ProxyResponse(VendorShape):
    hash: Text = ""
    headers: Dicts = ()


class Row(VendorShape):
    """A threat event: ``query`` for DNS, ``request`` and ``response`` for HTTP. ``id`` is the row's number only."""

    configId: Text = ""
    l7Protocol: Text = ""
    event: Event
    query: Annotated[Query, BeforeValidator(_dict)] = Query()
    request: Annotated[ProxyRequest, BeforeValidator(_dict)] = ProxyRequest()
    response: Annotated[ProxyResponse, BeforeValidator(_dict)] = ProxyResponse()

    @property
    def domain(self) -> str:
        return self.query.domain or self.request.domain

    @property
    def event_name(self) -> str:
        return self.query.uuid or self.request.uuid or self.request.connectionId

    @property
    def key(self) -> str:
        """
        What makes the event the same one in another answer. INFERENCE: the vendor names no key; the row's ``id``
        counts from 0 in every answer, so it must not be part of it.
        """
        event = self.event
        detected = event.detectionTime.astimezone(UTC).isoformat()
        parts = (self.configId, self.l7Protocol, self.event_name, detected, self.domain, event.policyId, event.listId)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def url(self) -> str:
        """The whole URL that was asked for, where the row has one."""
        request = self.request
        if "://" in request.uri:
            return request.uri
        if not (request.uri and request.domain):
            return ""
        port, protocol = request.destinationPort, self.l7Protocol.casefold()
        # "HTTP(s)" may mean either; the port decides then.
        secure = port == "443" or (protocol in ("https", "http(s)") and port != "80")
        place = request.domain if port in ("", "443" if secure else "80") else f"{request.domain}:{port}"
        return f"{'https' if secure else 'http'}://{place}/{request.uri.removeprefix('/')}"


def name_of(row: Any) -> str | None:
    """The id of the query or of the request; ``id`` would name another row tomorrow."""
    for half, name in (("query", "uuid"), ("request", "uuid"), ("request", "connectionId")):
        part = row.get(half) if isinstance(row, dict) else None
        if isinstance(part, dict) and (found := _text(part.get(name))):
            return found
    return None


def parse_row(record: Any) -> Finding:
    """:raises pydantic.ValidationError: naming the field"""
    row = Row.model_validate(record)
    event = row.event
    kind = _kind(event)
    threat = f" ({event.threatName})" if event.threatName and event.threatName != kind else ""
    return Finding(
        uid=own_id("finding", VENDOR, row.key),
        source=VENDOR,
        vendor_id=one_line(row.event_name or row.key, 200),
        title=one_line(f"{kind}: {row.domain or row.request.destinationIP or 'unknown destination'}{threat}"),
        category=one_line(kind, 100),
        description=" ".join(filter(None, (event.description, event.blockDescription))),
        severity=event.severityId,
        confidence=CONFIDENCES.get(event.confidence_word),
        detected_at=event.detectionTime,
        target=one_line(row.query.clientIp or row.request.clientIp or event.internalClientIP, 200),
        tags=_tags(
            {
                "config": row.configId,
                "protocol": row.l7Protocol,
                "list": event.listName,
                "confidence": event.confidenceName,
                "action": event.actionName,
                "policy": event.policyName,
                "site": event.siteName,
                "detection": event.detectionType,
            }
        ),
        mentions=bounded(_mentions_of(row)),
        traffic=_traffic_of(row),
    )


def told(record: Any) -> Iterator[tuple[str, str]]:
    """
    What stands in a row that can be read, and could not be taken: field and problem. A change of shape where the
    threat's own values stand must not read as "nothing was reached".
    """
    if has_too_deep(record):
        yield "(whole)", TOO_DEEP
    for half, names in (("query", ("domain", "resolved")), ("request", ("domain", "uri", "destinationIP"))):
        part = record.get(half)
        if part and not isinstance(part, dict):
            yield half, "is of an unknown shape and was not read"
            continue
        for name in names:
            value = (part or {}).get(name)
            readable = isinstance(value, list) if name == "resolved" else isinstance(value, (str, int, float))
            if value and not readable:
                yield f"{half}.{name}", "is of an unknown shape and was not read"
    answers = record["query"].get("resolved") if isinstance(record.get("query"), dict) else None
    there = answers if isinstance(answers, list) else []
    if lost := sum(not isinstance(a, dict) or not isinstance(a.get("response", 0), str | None) for a in there):
        yield "query.resolved", f"{lost} of {len(there)} answers are of an unknown shape and were not read"


def _kind(event: Event) -> str:
    """The list's name, or the category's; a bare number names nothing to a person."""
    if event.is_acceptable_use:
        return "AUP"
    for name in (event.listName, event.categoryName):
        if name and not name.lstrip("-").isdigit() and name.casefold() != "unknown":
            return name
    return "Event"


def _mentions_of(row: Row) -> Iterator[Mention]:
    event, query, request, response = row.event, row.query, row.request, row.response
    # Of an event that is no threat nothing may become a block.
    reached, resolved, payload = (
        (Role.DESTINATION, Role.RESOLVED, Role.PAYLOAD) if event.is_threat else (Role.MENTIONED,) * 3
    )
    yield from _mention("query.domain", reached, query.domain)
    yield from _mention("request.domain", reached, request.domain)
    yield from _mention("request.uri", reached, clip(row.url))
    for n, answer in enumerate(query.resolved):
        yield from _mention(f"query.resolved[{n}].response", resolved, _text(answer.get("response")))
    yield from _mention("request.destinationIP", resolved, request.destinationIP)
    yield from _mention("response.hash", payload, response.hash)
    for n, file in enumerate(event.files):
        yield from _mention(f"event.files[{n}].fileHash", payload, _text(file.get("fileHash")))
        yield from _mention(f"event.files[{n}].fileName", Role.MENTIONED, _text(file.get("fileName")))
    for n, file in enumerate(event.dlp):  # the customer's own document on its way out
        yield from _mention(f"event.dlp[{n}].fileHash", Role.MENTIONED, _text(file.get("fileHash")))
    for field, text in (
        ("query.clientIp", query.clientIp),
        ("query.deviceName", query.deviceName),
        ("request.clientIp", request.clientIp),
        ("event.internalClientIP", event.internalClientIP),
        ("event.decryptedInternalClientIp", event.decryptedInternalClientIp),
        ("event.decryptedInternalClientName", event.decryptedInternalClientName),
        ("event.machineName", event.machineName),
        ("event.deviceName", event.deviceName),
    ):
        yield from _mention(field, Role.INTERNAL, text)
    for field, text in (
        ("query.dnsIp", query.dnsIp),
        ("event.description", event.description),
        ("event.blockDescription", event.blockDescription),
        ("event.httpUserAgent", event.httpUserAgent),
        *((f"event.clientAgents[{n}]", agent) for n, agent in enumerate(event.clientAgents)),
        *((f"request.queryStrings[{n}]", text) for n, text in enumerate(_words(request.queryStrings))),
    ):
        yield from _mention(field, Role.MENTIONED, text)
    yield from _header_mentions("request", request.headers)
    yield from _header_mentions("response", response.headers)
    yield from _sinkhole_mentions(row)


def _sinkhole_mentions(row: Row) -> Iterator[Mention]:
    for n, sinkhole in enumerate(row.event.correlatedSinkholeEvents):
        where = f"event.correlatedSinkholeEvents[{n}]"
        for name in ("sinkholeIP", "destinationIp", "hostname", "url", "userAgent"):
            yield from _mention(f"{where}.{name}", Role.MENTIONED, _text(sinkhole.get(name)))
        yield from _mention(f"{where}.internalIP", Role.INTERNAL, _text(sinkhole.get("internalIP")))
        for machine in _texts(sinkhole.get("machineNames")):
            yield from _mention(f"{where}.machineNames", Role.INTERNAL, machine)


def _traffic_of(row: Row) -> tuple[Traffic, ...]:
    """
    Which of our clients reached an address in an event that is no threat, and the AS that the vendor names for it.

    A client that met a threat there is a victim: that says nothing good about the address.
    """
    event = row.event
    client = next(
        (
            text
            for text in (
                event.internalClientIP,
                event.decryptedInternalClientIp,
                event.machineName,
                event.deviceName,
                row.query.deviceName,
                # The last resort: a whole site behind one egress address counts as one client.
                row.query.clientIp or row.request.clientIp,
            )
            if text
        ),
        "",
    )
    users = (pseudonym(VENDOR, "client", client),) if client and not event.is_threat else ()
    systems = {
        found: _asn(answer.get("asn"))
        for answer in row.query.resolved
        if (found := address_of(_text(answer.get("response"))))
    }
    if found := address_of(row.request.destinationIP):
        systems.setdefault(found, None)
    return tuple(
        Traffic(address=address, users=users, asn=asn)
        for address, asn in sorted(systems.items())[:MOST_MENTIONS]
        if users or asn
    )


def _asn(value: Any) -> int | None:
    """``64496`` or ``AS64496``; the vendor's words for nothing, and whatever else is no number, are none."""
    digits = _text(value).upper().removeprefix("AS")
    # Ten digits at most: Python refuses to read a number of thousands of them.
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= 10
    return int(digits) if is_number and 0 < int(digits) < 2**32 else None


def _words(value: Any) -> list[str]:
    """``queryStrings``: the examples leave them empty, so texts and ``{name, value}`` are both read."""
    items = value if isinstance(value, list) else []
    return [_text(item.get("value")) if isinstance(item, dict) else _text(item) for item in items]


def _header_mentions(half: str, headers: tuple[dict[str, Any], ...]) -> Iterator[Mention]:
    for header in headers:
        name = _text(header.get("name")).casefold()
        if name not in CREDENTIALS:
            role = Role.CLAIM if half == "request" and name in CLAIM_HEADERS else Role.MENTIONED
            yield from _mention(f"{half}.headers.{name}", role, _text(header.get("value")))


def _mention(field: str, role: Role, text: str) -> Iterator[Mention]:
    if text:
        yield Mention(field=one_line(field, 200), role=role, text=text)


def _tags(named: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}:{one_line(value, 100)}" for name, value in named.items() if value)
