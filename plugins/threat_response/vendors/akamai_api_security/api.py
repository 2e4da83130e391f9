"""
Akamai API Security without I/O, for both API families that exist under that name. Field names are the vendor's.

The vendor publishes no specification. What is known comes from public clients of the real service: *noname* from
scripts against ``https://<tenant>.nonamesec.com``, *neosec* from the vendor-written integration in demisto/content
(``Packs/Neosec``). Documentation for customers: https://techdocs.akamai.com/api-security/docs. All of it, and every
INFERENCE, stands in the constants below, so that a difference found on a tenant is a change in one place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from pydantic import AliasChoices, BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from include.soar.extract.records import CLAIM_HEADERS, CREDENTIALS, MOST_MENTIONS, bounded, clip
from include.soar.judge.traffic import address_of, pseudonym
from include.soar.model import Finding, Instant, Mention, Role, Severity, Traffic, own_id
from include.soar.vendor.errors import Unexpected, one_line
from include.soar.vendor.wire import Request, Response, VendorShape, decode

VENDOR = "akamai_api_security"
TIMEOUT_SECONDS = 60.0

# --- noname: known from third-party clients, unless marked ---------------------------------------------------

#: INFERENCE (one sample, marked there as a placeholder): where a service account gets its token.
AUTH_PATH = "/auth/token"
#: kind of record -> its list
LISTS = {"incident": "/api/v4/incidents", "finding": "/api/v4/findings"}
#: An unknown name is refused with 400, which lists the allowed ones. The finding's names are those that clients send;
#: INFERENCE: the incident's, by analogy and from the payloads that log parsers read.
RETURN_FIELDS = {
    "incident": (
        *("id", "title", "url", "typeId", "module", "status", "severity", "host", "path", "method", "apiId"),
        *("relatedApiIds", "owaspTags", "detectionTime", "lastUpdate", "lastActivity", "attacker", "attackerIp"),
        *("attackerIps", "attackerConfidence", "countries", "responseCodes", "description", "impact", "remediation"),
        *("investigate", "comments", "evidence"),
    ),
    "finding": (
        *("id", "title", "url", "typeId", "apiId", "relatedApiIds", "module", "host", "path", "method"),
        *("resourceGroupName", "status", "severity", "owaspTags", "complianceFrameworkTags"),
        *("vulnerabilityFrameworkTags", "detectionTime", "lastUpdate", "triggeredOn", "description", "impact"),
        *("remediation", "investigate", "comments", "tickets", "externalTickets", "evidence", "source"),
        *("hasRelatedIncidents", "tagsIds"),
    ),
}
#: INFERENCE: where ``attacker`` counts its requests, if a tenant has that at all; no public client reads any count.
REQUESTS_FIELD, MALICIOUS_REQUESTS_FIELD = "requestsCount", "maliciousRequestsCount"
#: INFERENCE: the value of ``module`` that means "a weakness of the API", where nobody attacks.
POSTURE_MODULE = "posture"

# --- neosec --------------------------------------------------------------------------------------------------

#: The vendor's own integration never asks for more.
NEOSEC_PAGE_SIZE = 50
NEOSEC_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
POSTURE_ALERT = "APIAlert"
#: Classes of an alert's entities that tell users apart, the better first.
USER_CLASSES = ("user", "token")

# --- both ----------------------------------------------------------------------------------------------------

#: A list that has not ended after so many pages is not a list.
MAX_PAGES = 5_000

SEVERITIES = {
    "info": Severity.INFORMATIONAL,
    "informational": Severity.INFORMATIONAL,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}
#: Our reading of the vendor's words, as confidence in STIX 2.1.
CONFIDENCES = {"high": 90, "medium": 60, "low": 30}


class Read(NamedTuple):
    """One page: the body as it came, and ``(kind, record)`` of each of its records in the window."""

    body: bytes
    records: list[tuple[str, Any]]


# --- requests ------------------------------------------------------------------------------------------------


def token_request(client_id: str, client_secret: str, *, path: str = AUTH_PATH) -> Request:
    return Request(
        "POST",
        path,
        operation="token",
        json={"client_id": client_id, "client_secret": client_secret},
        timeout_seconds=TIMEOUT_SECONDS,
    )


def list_request(
    kind: str, start_at: datetime, end_at: datetime, *, offset: int, limit: int, return_fields: bool = True
) -> Request:
    """
    A page of incidents or findings by detection time, newest first: a record that arrives during the read then
    pushes known ones onto the next page, where they are read twice, and none is passed over.

    The window is asked a millisecond wider at both ends, since no document says which bounds are inclusive.
    """
    step = timedelta(milliseconds=1)
    fields = RETURN_FIELDS[kind] if return_fields else ()
    return Request(
        "GET",
        LISTS[kind],
        operation=LISTS[kind].rsplit("/", 1)[-1],
        params=(
            ("detectionStartDate", _millis(start_at - step)),
            ("detectionEndDate", _millis(end_at + step)),
            ("sortDesc", "true"),
            ("limit", str(limit)),
            ("offset", str(offset)),
            *(("returnFields", name) for name in fields),
        ),
        timeout_seconds=TIMEOUT_SECONDS,
    )


def alerts_request(tenant_key: str, start_at: datetime, *, offset: int, limit: int = NEOSEC_PAGE_SIZE) -> Request:
    """
    A page of alerts from ``start_at`` until now, oldest first.

    ``Gt`` is the only comparison known, so there is no upper end, and it may compare whole seconds: asking from the
    second before keeps what lies within the first one. Too early and too late alerts are left out by the caller.
    """
    after = start_at.astimezone(UTC).replace(microsecond=0) - timedelta(seconds=1)
    return Request(
        "POST",
        f"/v4/organizations/{quote(tenant_key, safe='')}/alerts/query",
        operation="alerts",
        json={
            "alert_filters": [{"name": "triggered_at", "operator": "Gt", "value": after.strftime(NEOSEC_TIME)}],
            "offset": offset,
            "sort_by": "asc(triggered_at)",
            "limit": limit,
        },
        timeout_seconds=TIMEOUT_SECONDS,
    )


def _millis(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- answers -------------------------------------------------------------------------------------------------


class TokenAnswer(VendorShape):
    accessToken: str = Field(min_length=1)


class ListAnswer(VendorShape):
    entities: list[Any]
    moreEntities: bool


class AlertsAnswer(VendorShape):
    items: list[Any]
    total: int = Field(ge=0)


def parse_token(response: Response) -> str:
    return decode(VENDOR, "token", TokenAnswer, response.body).accessToken


def parse_list(kind: str, response: Response) -> ListAnswer:
    """:raises Unexpected: also for an empty page that promises more: a page is missing"""
    operation = LISTS[kind].rsplit("/", 1)[-1]
    answer = decode(VENDOR, operation, ListAnswer, response.body)
    if answer.moreEntities and not answer.entities:
        raise Unexpected(VENDOR, operation, "short read: an empty page that says there are more records")
    return answer


def parse_alerts(response: Response, *, offset: int, limit: int) -> AlertsAnswer:
    """:raises Unexpected: also when the page does not hold what ``total`` promises at this offset"""
    answer = decode(VENDOR, "alerts", AlertsAnswer, response.body)
    promised = max(0, min(limit, answer.total - offset))
    if len(answer.items) != promised:
        raise Unexpected(
            VENDOR, "alerts", f"short read: {len(answer.items)} alerts at offset {offset} of {answer.total}"
        )
    return answer


def in_window(record: Any, start_at: datetime, end_at: datetime) -> bool:
    """Whether it was detected in ``[start_at, end_at)``; a record without a readable time stays, to be named."""
    record = unwrap(record)
    found = record.get("detectionTime", record.get("triggered_at")) if isinstance(record, dict) else None
    try:
        return start_at <= _INSTANT.validate_python(found) < end_at
    except ValidationError:
        return True


def unwrap(record: Any) -> Any:
    """Exports wrap a record in ``data``; lists do not."""
    if isinstance(record, dict) and "id" not in record and isinstance(record.get("data"), dict):
        return record["data"]
    return record


def name_of(kind: str, record: Any) -> str | None:
    record = unwrap(record)
    found = record.get("id") if isinstance(record, dict) else None
    return f"{kind} {found}" if isinstance(found, (str, int)) else None


# --- records -------------------------------------------------------------------------------------------------


def _severity(value: Any) -> Any:
    if isinstance(value, str) and value.strip().casefold() in SEVERITIES:
        return SEVERITIES[value.strip().casefold()]
    raise PydanticCustomError("severity", "unknown word {word}", {"word": repr(one_line(value, 60))})


def _identity(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(value: Any) -> str:
    """Text that may be missing or of another kind without harm."""
    if isinstance(value, str):
        return clip(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(text for item in values if (text := _text(item)))


def _count(value: Any) -> Any:
    """
    A count as a number or its digits. Anything else costs the record: what cannot be read may be the good users that
    would have kept an address from being blocked.
    """
    if isinstance(value, str) and value.isascii() and value.strip().isdigit():
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise PydanticCustomError("count", "{word} is no count", {"word": repr(one_line(value, 60))})


Identity = Annotated[str, BeforeValidator(_identity), Field(min_length=1, max_length=512)]
#: No default anywhere: a severity that is missing is not a low one.
Word = Annotated[Severity, BeforeValidator(_severity)]
Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Count = Annotated[int | None, BeforeValidator(_count)]
_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class Record(VendorShape):
    """An incident or a finding. Every field but id, severity and time may be missing."""

    id: Identity
    severity: Word
    detectionTime: Instant
    title: Text = ""
    url: Text = ""
    typeId: Text = ""
    module: Text = ""
    status: Text = ""
    host: Text = ""
    path: Text = ""
    method: Text = ""
    resourceGroupName: Text = ""
    owaspTags: Texts = ()
    complianceFrameworkTags: Texts = ()
    vulnerabilityFrameworkTags: Texts = ()
    countries: Texts = ()
    attacker: Any = None
    attackerIp: Texts = ()
    attackerIps: Texts = ()
    attackerConfidence: Text = ""
    description: Text = ""
    investigate: Text = ""
    comments: Any = None
    evidence: Any = None

    @property
    def is_posture(self) -> bool:
        return self.module.strip().casefold() == POSTURE_MODULE


class Counts(VendorShape):
    requests: Count = Field(default=None, validation_alias=REQUESTS_FIELD)
    malicious: Count = Field(default=None, validation_alias=MALICIOUS_REQUESTS_FIELD)


class Alert(VendorShape):
    id: Identity
    severity: Word
    triggered_at: Instant
    name: Text = ""
    status: Text = ""
    category: Text = ""
    alert_type: Text = ""
    description: Text = ""
    alert_info: Text = ""
    endpoint: Text = ""
    endpoints: Any = None
    labels: Texts = ()
    caller_ips: Texts = ()
    entities: Any = None


class Entity(VendorShape):
    value: Text = ""
    kind: Text = Field(default="", validation_alias=AliasChoices("class"))
    family: Text = ""


def parse(kind: str, record: Any) -> Finding:
    """
    :param kind: ``incident``, ``finding`` or ``alert``
    :raises pydantic.ValidationError: naming the field
    """
    record = unwrap(record)
    return _alert(Alert.model_validate(record)) if kind == "alert" else _record(kind, Record.model_validate(record))


def _record(kind: str, record: Record) -> Finding:
    attacker = record.attacker if isinstance(record.attacker, dict) else {}
    word = record.attackerConfidence or _text(attacker.get("confidence"))
    return Finding(
        uid=own_id("finding", VENDOR, kind, record.id),
        source=VENDOR,
        vendor_id=one_line(clip(record.id), 512),
        title=one_line(record.title or record.typeId or f"API Security {kind}"),
        category=one_line(record.typeId or record.module, 100),
        description=record.description,
        severity=record.severity,
        confidence=CONFIDENCES.get(word.strip().casefold()),
        detected_at=record.detectionTime,
        url=record.url if record.url.startswith(("https://", "http://")) and len(record.url) <= 2_000 else None,
        target=one_line(f"{record.method} {record.host}{record.path}"),
        tags=_tags(
            {"kind": kind, "status": record.status, "module": record.module, "group": record.resourceGroupName},
            record.owaspTags + record.complianceFrameworkTags + record.vulnerabilityFrameworkTags,
        ),
        mentions=bounded(_record_mentions(record, attacker)),
        traffic=_record_traffic(record, attacker),
    )


def _record_mentions(record: Record, attacker: dict[str, Any]) -> Iterator[Mention]:
    # A posture finding says that an API is weak: whatever address it holds attacked nobody.
    role = Role.MENTIONED if record.is_posture else Role.ATTACKER
    identifier, kind = _text(attacker.get("identifier")), _text(attacker.get("identifierType"))
    # Other identifiers are users and tokens: the customer's, and nothing to look up.
    if kind.casefold() == "ip" or (not kind and _is_address(identifier)):
        yield from _mentions("attacker.identifier", role, (identifier,))
    yield from _mentions("attacker.IP", role, _texts(attacker.get("IP")))
    yield from _mentions("attackerIp", role, record.attackerIp)
    yield from _mentions("attackerIps", role, record.attackerIps)
    yield from _mentions("host", Role.VICTIM, (record.host,))
    yield from _mentions("path", Role.MENTIONED, (record.path,))
    yield from _mentions("description", Role.MENTIONED, (record.description,))
    yield from _mentions("investigate", Role.MENTIONED, (record.investigate,))
    yield from _leaves("comments", record.comments)
    yield from _leaves("evidence", record.evidence)


def _record_traffic(record: Record, attacker: dict[str, Any]) -> tuple[Traffic, ...]:
    counts = Counts.model_validate(attacker)
    identifier, kind = _text(attacker.get("identifier")), _text(attacker.get("identifierType"))
    addresses = (*_texts(attacker.get("IP")), *record.attackerIp, *record.attackerIps)
    if kind.casefold() == "ip" or (not kind and _is_address(identifier)):
        addresses, identifier = (identifier, *addresses), ""
    return _traffic(
        addresses,
        requests=counts.requests,
        malicious_requests=counts.malicious,
        users=(pseudonym(VENDOR, kind.casefold(), identifier),) if identifier else (),
    )


def _alert_traffic(alert: Alert) -> tuple[Traffic, ...]:
    entities = [Entity.model_validate(item) for item in _dicts(alert.entities)]
    actors = [e for e in entities if e.family.casefold() == "actor" and e.value]
    values = {kind: {e.value for e in actors if e.kind.casefold() == kind} for kind in ("ip", *USER_CLASSES)}
    # One class only: a user with a token is one user.
    kind = next((kind for kind in USER_CLASSES if values[kind]), "")
    users = sorted(pseudonym(VENDOR, kind, value) for value in values.get(kind, ()))
    return _traffic((*alert.caller_ips, *values["ip"]), users=tuple(users[:MOST_MENTIONS]))


def _traffic(addresses: tuple[str, ...], **said: Any) -> tuple[Traffic, ...]:
    """Only of a record that names one address: of several nobody knows which request and which user is whose."""
    distinct = {found for text in addresses if (found := address_of(text))}
    if len(distinct) != 1 or not any(said.values()):
        return ()
    return (Traffic(address=distinct.pop(), **said),)


def _alert(alert: Alert) -> Finding:
    return Finding(
        uid=own_id("finding", VENDOR, "alert", alert.id),
        source=VENDOR,
        vendor_id=one_line(clip(alert.id), 512),
        title=one_line(alert.name or alert.category or "API Security alert"),
        category=one_line(alert.category or alert.alert_type, 100),
        description=alert.description,
        severity=alert.severity,
        detected_at=alert.triggered_at,
        target=one_line(alert.endpoint),
        tags=_tags({"kind": "alert", "status": alert.status, "module": alert.alert_type}, alert.labels),
        mentions=bounded(_alert_mentions(alert)),
        traffic=_alert_traffic(alert),
    )


def _alert_mentions(alert: Alert) -> Iterator[Mention]:
    actor = Role.MENTIONED if alert.alert_type == POSTURE_ALERT else Role.ATTACKER
    yield from _mentions("caller_ips", actor, alert.caller_ips)
    for number, item in enumerate(_dicts(alert.entities)):
        entity = Entity.model_validate(item)
        # The other classes (user, token) are the customer's own and may be secret.
        if entity.kind.casefold() == "ip":
            role = actor if entity.family.casefold() == "actor" else Role.MENTIONED
            yield from _mentions(f"entities[{number}].value", role, (entity.value,))
    for number, endpoint in enumerate(_dicts(alert.endpoints)):
        yield from _mentions(f"endpoints[{number}].service_name", Role.VICTIM, (_text(endpoint.get("service_name")),))
        yield from _mentions(
            f"endpoints[{number}].endpoint_path", Role.MENTIONED, (_text(endpoint.get("endpoint_path")),)
        )
    yield from _mentions("endpoint", Role.MENTIONED, (alert.endpoint,))
    yield from _mentions("description", Role.MENTIONED, (alert.description,))
    yield from _mentions("alert_info", Role.MENTIONED, (alert.alert_info,))


def _leaves(field: str, value: Any) -> Iterator[Mention]:
    """
    Every text within ``value``, in order. What evidence looks like inside is not documented: whatever is named
    ``…headers`` is read as headers, each other text as itself.
    """
    todo: list[tuple[str, Any]] = [(field, value)]
    while todo:  # not recursive: how deep it goes is the sender's choice
        where, node = todo.pop()
        if isinstance(node, str):
            yield from _mentions(where, Role.MENTIONED, (clip(node),))
        elif isinstance(node, list):
            todo.extend((f"{where}[{number}]", item) for number, item in reversed(list(enumerate(node))))
        elif isinstance(node, dict):
            for name, child in node.items():
                if name.casefold().replace("_", "").endswith("headers"):
                    for header, text in _headers(child):
                        role = Role.CLAIM if header.casefold() in CLAIM_HEADERS else Role.MENTIONED
                        if header.casefold() not in CREDENTIALS:
                            yield from _mentions(f"{where}.{name}.{header}", role, (clip(text),))
            todo.extend(
                (f"{where}.{name}", child)
                for name, child in reversed(node.items())
                if name.casefold() not in CREDENTIALS and not name.casefold().replace("_", "").endswith("headers")
            )


def _headers(value: Any) -> Iterator[tuple[str, str]]:
    """Name and value, from an object, a list of ``{name, value}`` or of lines, or a block of lines."""
    if isinstance(value, str):
        value = value.splitlines()
    if isinstance(value, dict):
        for name, texts in value.items():
            for text in texts if isinstance(texts, list) else [texts]:
                if isinstance(text, str):
                    yield name, text
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            name, text = item.get("name", item.get("key")), item.get("value")
        elif isinstance(item, str):
            name, _, text = item.partition(":")
        else:
            continue
        if isinstance(name, str) and isinstance(text, str):
            yield name.strip(), text.strip()


def _mentions(field: str, role: Role, texts: tuple[str, ...]) -> Iterator[Mention]:
    for text in texts:
        if text:
            yield Mention(field=one_line(clip(field), 200), role=role, text=text)


def _tags(named: dict[str, str], more: tuple[str, ...]) -> tuple[str, ...]:
    tags = [f"{name}:{one_line(value, 100)}" for name, value in named.items() if value]
    return tuple(dict.fromkeys([*tags, *(one_line(tag, 100) for tag in more[:50])]))


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip())
    except ValueError:
        return False
    return True
