"""
Records of Akamai API Security, of both families, as findings. Field names are the vendor's; what is known of them, and
from whom, stands in ``api.py``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from include.soar.extract.records import (
    CLAIM_HEADERS,
    CREDENTIALS,
    MOST_MENTIONS,
    TOO_DEEP,
    bounded,
    chunks,
    clip,
    has_too_deep,
)
from include.soar.judge.traffic import address_of, pseudonym
from include.soar.model import ENUMERATION, FAILED_LOGINS, Finding, Instant, Mention, Role, Severity, Traffic, own_id
from include.soar.vendor.errors import one_line
from include.soar.vendor.lenient import Digits
from include.soar.vendor.wire import VendorShape

VENDOR = "akamai_api_security"

#: INFERENCE: where ``attacker`` counts its requests, if a tenant has that at all; no public client reads any count.
REQUESTS_FIELD, MALICIOUS_REQUESTS_FIELD = "requestsCount", "maliciousRequestsCount"
#: The members of ``attacker`` that are read, or known to be of no use.
KNOWN_OF_ATTACKER = frozenset(
    {"identifier", "identifierType", "IP", "confidence", REQUESTS_FIELD, MALICIOUS_REQUESTS_FIELD}
)
_LIKE_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]{0,4}:[0-9a-fA-F]{0,4}:")
#: INFERENCE: the value of ``module`` that means "a weakness of the API", where nobody attacks.
POSTURE_MODULE = "posture"

POSTURE_ALERT, BEHAVIOUR_ALERT = "APIAlert", "UserBehaviorAlert"
#: Classes of an alert's entities that tell users apart, the better first.
USER_CLASSES = ("user", "token")

SEVERITIES = {
    "info": Severity.INFORMATIONAL,
    "informational": Severity.INFORMATIONAL,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
}
#: INFERENCE: words in what a record says of its kind that mean that the vendor judged by behaviour. Known are the
#: categories of alerts (Account Takeover, Recon, Data Access) and single names (Brute Force Authentication Attempt,
#: bruteForce); no list of the incidents' ``typeId`` is public. The first that is found counts.
BEHAVIOURS = {
    FAILED_LOGINS: re.compile(
        r"brute ?force|stuffing|password (?:spray|guess)|failed log-?ins?\b|log-?in (?:fail|attempt)"
        r"|account ?takeover|\bapi2\b"
    ),
    ENUMERATION: re.compile(r"enumerat|\bbola\b|object ?level|scrap|recon\b|data access|\bapi1\b"),
}
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: Our reading of the vendor's words, as confidence in STIX 2.1.
CONFIDENCES = {"high": 90, "medium": 60, "low": 30}


def unwrap(record: Any) -> Any:
    """Exports wrap a record in ``data``; lists do not."""
    if isinstance(record, dict) and "id" not in record and isinstance(record.get("data"), dict):
        return record["data"]
    return record


def name_of(kind: str, record: Any) -> str | None:
    record = unwrap(record)
    found = record.get("id") if isinstance(record, dict) else None
    return f"{kind} {found}" if isinstance(found, (str, int)) else None


def _severity(value: Any) -> Any:
    if isinstance(value, str) and value.strip().casefold() in SEVERITIES:
        return SEVERITIES[value.strip().casefold()]
    raise PydanticCustomError("severity", "unknown word {word}", {"word": repr(one_line(value, 60))})


def _text(value: Any) -> str:
    """Text that may be missing or of another kind without harm."""
    if isinstance(value, str):
        return clip(value)
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(text for item in values if (text := _text(item)))


def _attackers(value: Any) -> tuple[str, ...]:
    """Texts that say who attacked: none of them is cut, since whoever is cut out is not blocked."""
    values = value if isinstance(value, list) else [value]
    return tuple(
        piece for item in values for piece in (chunks(item) if isinstance(item, str) else (_text(item),)) if piece
    )


def _count(value: Any) -> Any:
    """
    A count as a number or its digits. Anything else costs the record: what cannot be read may be the good users that
    would have kept an address from being blocked.
    """
    if isinstance(value, str) and value.isascii() and value.strip().isdigit() and len(value) < 20:
        return int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise PydanticCustomError("count", "{word} is no count", {"word": repr(one_line(value, 60))})


Identity = Annotated[Digits, Field(min_length=1, max_length=512)]
#: No default anywhere: a severity that is missing is not a low one.
Word = Annotated[Severity, BeforeValidator(_severity)]
Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Attackers = Annotated[tuple[str, ...], BeforeValidator(_attackers)]
Count = Annotated[int | None, BeforeValidator(_count)]


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
    attacker: Any = None
    attackerIp: Attackers = ()
    attackerIps: Attackers = ()
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
    caller_ips: Attackers = ()
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


def told(kind: str, record: Any) -> Iterator[tuple[str, str]]:
    """
    What stands in a record that can be read, and could not be taken: field and problem.

    A vendor's change of shape must not read as "nobody attacked". No document tells the true shape of these values,
    so what gives no text is named and not guessed at.
    """
    record = unwrap(record)
    if has_too_deep(record):
        yield "(whole)", TOO_DEEP
    for name in ("caller_ips",) if kind == "alert" else ("attackerIp", "attackerIps"):
        yield from _unread(name, record.get(name))
    if kind == "alert":
        yield from _unread_dicts("entities", record.get("entities"))
        return
    attacker = record.get("attacker")
    if not isinstance(attacker, dict):
        # A name alone would be no address either; whoever has one is not passed over without a word.
        values = attacker if isinstance(attacker, list) else [attacker]
        yield from _unread("attacker", [v for v in values if not isinstance(v, str) or _LIKE_ADDRESS.search(v)], False)
        return
    for name in ("IP", "identifier"):
        yield from _unread(f"attacker.{name}", attacker.get(name))
    if attacker and not attacker.keys() & KNOWN_OF_ATTACKER:
        yield "attacker", f"none of its members is known: {', '.join(map(str, attacker))}"


def _unread(field: str, value: Any, takes_texts: bool = True) -> Iterator[tuple[str, str]]:
    values = value if isinstance(value, list) else [value]
    there = [item for item in values if item not in (None, "", [], {})]
    if lost := sum(not (takes_texts and _text(item)) for item in there):
        yield field, f"{lost} of {len(there)} values are of an unknown shape and were not read"


def _unread_dicts(field: str, value: Any) -> Iterator[tuple[str, str]]:
    there = [value] if value and not isinstance(value, list) else [item for item in value or () if item]
    if lost := sum(not isinstance(item, dict) or not _text(item.get("value")) for item in there):
        yield field, f"{lost} of {len(there)} values are of an unknown shape and were not read"


def nobody_read(finding: Finding) -> bool:
    """Whether a finding names attackers and none of the texts holds an address (tokens of a tenant that hides them)."""
    texts = [mention.text for mention in finding.mentions if mention.role is Role.ATTACKER]
    return bool(texts) and not any(map(_LIKE_ADDRESS.search, texts))


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
        behaviour="" if record.is_posture else _behaviour(record.typeId, record.title, *record.owaspTags),
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


def _behaviour(*texts: str) -> str:
    words = " | ".join(_CAMEL.sub(" ", text) for text in texts).lower()
    return next((behaviour for behaviour, known in BEHAVIOURS.items() if known.search(words)), "")


def _record_mentions(record: Record, attacker: dict[str, Any]) -> Iterator[Mention]:
    # A posture finding says that an API is weak: whatever address it holds attacked nobody.
    role = Role.MENTIONED if record.is_posture else Role.ATTACKER
    identifier, kind = _text(attacker.get("identifier")), _text(attacker.get("identifierType"))
    # Other identifiers are users and tokens: the customer's, and nothing to look up.
    if kind.casefold() == "ip" or (not kind and _is_address(identifier)):
        yield from _mentions("attacker.identifier", role, (identifier,))
    yield from _mentions("attacker.IP", role, _attackers(attacker.get("IP")))
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
        behaviour=_behaviour(alert.category, alert.name) if alert.alert_type == BEHAVIOUR_ALERT else "",
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
