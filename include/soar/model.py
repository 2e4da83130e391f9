"""The words of this project (docs/glossary.md), frozen and strict. Every batch between tasks is JSON of these.

Instants are timezone-aware UTC datetimes whose names end in ``_at`` or ``_until``. Ids are deterministic, so that
every write can be an upsert and a repeated task is harmless.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

#: Version of the JSON between tasks. A reader refuses another version rather than guessing.
SchemaVersion = Literal[1]
SCHEMA_VERSION: SchemaVersion = 1

#: STIX 2.1 section 2.9: the namespace of deterministic ids of cyber observables.
STIX_NAMESPACE = uuid.UUID("00abedb4-aa42-466c-9c01-fed23315a9b7")
#: Ours, for ids of things that STIX does not define (incident markers, comments).
OWN_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/api-threat-response")


def _plain_utc(value: datetime) -> datetime:
    """
    A datetime of the standard library, in UTC. Airflow gives pendulum's, which with ``datetime.UTC`` as its zone
    loses the zone when a timedelta is added (pendulum 3.3).
    """
    utc = value.astimezone(UTC)
    return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, utc.microsecond, tzinfo=UTC)


Instant = Annotated[AwareDatetime, AfterValidator(_plain_utc)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """As JSON types, for XCom."""
        return self.model_dump(mode="json")


def own_id(kind: str, *parts: str) -> str:
    """A deterministic UUID for one of our own things."""
    return str(uuid.uuid5(OWN_NAMESPACE, json.dumps([kind, *parts])))


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


class Severity(StrEnum):
    """OCSF severities, in order."""

    INFORMATIONAL = "informational"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Reliability(StrEnum):
    """
    How far a source can be relied on: the letters of the Admiralty code, as MISP and most platforms use them
    (https://www.misp-project.org/taxonomies.html#_admiralty_scale).
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"

    @property
    def word(self) -> str:
        return _RELIABILITY_WORDS[self.value]

    def is_at_least(self, other: Reliability) -> bool:
        return self.value <= other.value


_RELIABILITY_WORDS = {
    "A": "completely reliable",
    "B": "usually reliable",
    "C": "fairly reliable",
    "D": "not usually reliable",
    "E": "unreliable",
    "F": "reliability cannot be judged",
}


class Tlp(StrEnum):
    """
    Whom something may be told, from anybody to nobody else: the Traffic Light Protocol 2.0
    (https://www.first.org/tlp/).
    """

    CLEAR = "CLEAR"
    GREEN = "GREEN"
    AMBER = "AMBER"
    AMBER_STRICT = "AMBER+STRICT"
    RED = "RED"

    @property
    def rank(self) -> int:
        return list(Tlp).index(self)


class ObservableType(StrEnum):
    """STIX 2.1 cyber-observable types."""

    IPV4 = "ipv4-addr"
    IPV6 = "ipv6-addr"
    DOMAIN = "domain-name"
    URL = "url"
    EMAIL = "email-addr"
    FILE = "file"
    ASN = "autonomous-system"
    #: A range of addresses. STIX spells it as an address with a prefix length; a type of its own is never mistaken
    #: for one address.
    CIDR = "cidr"
    #: A CVE. STIX has it among its domain objects.
    VULNERABILITY = "vulnerability"


_ASN = re.compile(r"AS[1-9][0-9]{0,9}")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")

#: Hexadecimal digits of a file hash -> STIX 2.1 hash algorithm.
HASH_BY_LENGTH = {32: "MD5", 40: "SHA-1", 64: "SHA-256", 128: "SHA-512"}


class Observable(Frozen):
    """
    A thing seen, without judgement.

    ``value`` is canonical: compressed lower-case addresses, lower-case domains without the trailing dot,
    lower-case hashes (a ``file`` is named by one hash), networks without host bits, ``CVE-2026-0001``, ``AS64496``.
    ``include/soar/extract/text.py`` makes them.
    """

    type: ObservableType
    value: str = Field(min_length=1, max_length=4096)

    @property
    def key(self) -> str:
        """``type:value``, our name for it in stores that want a text key; a very long URL is named by its hash."""
        value = self.value if len(self.value) <= 500 else f"sha256.{hashlib.sha256(self.value.encode()).hexdigest()}"
        return f"{self.type.value}:{value}"

    @classmethod
    def of_key(cls, key: str) -> Observable | None:
        """The observable that a key names; None for a URL that is named by its hash."""
        kind, _, value = key.partition(":")
        return None if value.startswith("sha256.") else cls(type=ObservableType(kind), value=value)

    @property
    def id(self) -> str:
        """The STIX 2.1 deterministic id; for a CVE, whose STIX object has none, one of ours."""
        contributing: dict[str, Any] = {"value": self.value}
        stix_type = self.type.value
        if self.type is ObservableType.VULNERABILITY:
            return f"{stix_type}--{own_id(stix_type, self.value)}"
        if self.type is ObservableType.ASN:
            contributing = {"number": int(self.value.removeprefix("AS"))}
        if self.type is ObservableType.CIDR:
            stix_type = ObservableType.IPV6.value if ":" in self.value else ObservableType.IPV4.value
        if self.type is ObservableType.FILE:
            contributing = {"hashes": {self.hash_algorithm: self.value}}
        name = json.dumps(contributing, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return f"{stix_type}--{uuid.uuid5(STIX_NAMESPACE, name)}"

    @property
    def hash_algorithm(self) -> str:
        return HASH_BY_LENGTH[len(self.value)]

    @property
    def is_address(self) -> bool:
        return self.type in (ObservableType.IPV4, ObservableType.IPV6)

    @model_validator(mode="after")
    def _canonical(self) -> Observable:
        if self.is_address:
            address = ipaddress.ip_address(self.value)
            version = 4 if self.type is ObservableType.IPV4 else 6
            if str(address) != self.value or address.version != version or "%" in self.value:
                raise ValueError("address is not in canonical form")
        elif self.type is ObservableType.DOMAIN and self.value != self.value.lower().strip("."):
            raise ValueError("domain is not in canonical form")
        elif self.type is ObservableType.FILE and not (
            len(self.value) in HASH_BY_LENGTH and set(self.value) <= set("0123456789abcdef")
        ):
            raise ValueError("not an MD5, SHA-1, SHA-256 or SHA-512 in lower case")
        elif self.type is ObservableType.CIDR and str(ipaddress.ip_network(self.value)) != self.value:
            raise ValueError("network is not in canonical form")
        elif self.type is ObservableType.ASN and not _ASN.fullmatch(self.value):
            raise ValueError("not an AS number such as AS64496")
        elif self.type is ObservableType.VULNERABILITY and not _CVE.fullmatch(self.value):
            raise ValueError("not a CVE id such as CVE-2026-0001")
        return self


class Role(StrEnum):
    """What part a value played where it was seen. Only roles that policy allows can become a block."""

    ATTACKER = "attacker"  # the vendor says that the attack came from here
    CLAIM = "claim"  # the client wrote it (X-Forwarded-For): proves nothing
    DESTINATION = "destination"  # what one of our clients tried to reach
    RESOLVED = "resolved"  # an address that such a destination resolved to
    PAYLOAD = "payload"  # a file that was transferred
    VICTIM = "victim"  # ours: the API's host, the endpoint attacked
    INTERNAL = "internal"  # ours: a client or an egress address
    MENTIONED = "mentioned"  # in free text


class Mention(Frozen):
    """One piece of a vendor's record that may hold observables: a path into the record, a role, and the text."""

    field: str
    role: Role
    text: str = Field(max_length=200_000)


class Traffic(Frozen):
    """
    What a finding says about the traffic of one address. What the vendor does not say is absent, never zero.

    :param address: as an observable spells it
    :param requests: those that the vendor counts for the finding: all of them, good ones too
    :param malicious_requests: how many of them are part of an attack
    :param users: who was seen with it, each by a pseudonym that is the same in every finding of that source
    :param asn: which autonomous system the vendor says it is in
    """

    address: str
    requests: int | None = Field(default=None, ge=0)
    malicious_requests: int | None = Field(default=None, ge=0)
    users: tuple[str, ...] = ()
    asn: int | None = Field(default=None, ge=1, lt=2**32)


class Finding(Frozen):
    """
    What Akamai reports, normalised (after OCSF Detection Finding).

    :param uid: deterministic over source and the vendor's identity of the event
    :param vendor_id: the vendor's own id, for a person to look up
    :param detected_at: when the vendor detected it
    :param severity: mapped from the vendor's scale; an unknown word is a rejected record, never a default
    :param confidence: 0-100 as the vendor's word says, None where it says nothing
    """

    uid: str
    source: str
    vendor_id: str
    title: str
    category: str = ""
    description: str = ""
    severity: Severity
    confidence: int | None = Field(default=None, ge=0, le=100)
    detected_at: Instant
    url: str | None = None
    target: str = ""
    tags: tuple[str, ...] = ()
    mentions: tuple[Mention, ...] = ()
    traffic: tuple[Traffic, ...] = ()


class RejectedRecord(Frozen):
    """A record that could not be read. It costs itself only, and is kept where a person can see it."""

    source: str
    record: str  # which: the vendor's id, or its place ("page 2, row 17")
    field: str
    problem: str
    kept_at: str | None = None  # object-storage path of the raw record


class Window(Frozen):
    """``[start_at, end_at)``, and how it was chosen."""

    start_at: Instant
    end_at: Instant
    chosen_by: str

    @property
    def key(self) -> str:
        return f"{self.start_at:%Y%m%dT%H%M%SZ}-{self.end_at:%Y%m%dT%H%M%SZ}"


class FetchBatch(Frozen):
    """Stage 1's answer: every finding of one source's window, once."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    source: str
    window: Window
    pages: int
    records: int
    archive: tuple[str, ...]
    digest: str
    findings: tuple[Finding, ...]
    rejected: tuple[RejectedRecord, ...] = ()


class Sighting(Frozen):
    """
    That an observable was seen: in which finding, in which field, in what role.

    :param steps: what had to be decoded to see it, outermost first: ``percent``, ``html``, ``json``, ``base64``
    """

    finding_uid: str
    field: str
    role: Role
    seen_at: Instant
    steps: tuple[str, ...] = ()


class Observed(Frozen):
    """An observable with every sighting of the batch, in order of time, finding and field."""

    observable: Observable
    sightings: tuple[Sighting, ...]

    @property
    def roles(self) -> frozenset[Role]:
        return frozenset(s.role for s in self.sightings)

    @property
    def last_seen_at(self) -> datetime:
        return max(s.seen_at for s in self.sightings)


class CaseBatch(Frozen):
    """
    Stage 2's answer: the findings of all sources, and what was seen in them.

    :param carried_over: uids of findings of earlier windows, which this run finishes: a source could not be asked then
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    window: Window
    findings: tuple[Finding, ...]
    observed: tuple[Observed, ...]
    rejected: tuple[RejectedRecord, ...] = ()
    carried_over: tuple[str, ...] = ()


class Answer(StrEnum):
    """The five answers, kept apart: only the first two say something about the observable."""

    LISTED = "listed"
    NOT_LISTED = "not_listed"
    NOT_CHECKED = "not_checked"
    ERROR = "error"
    NOT_APPLICABLE = "not_applicable"


class Reputation(Frozen):
    """
    What one provider says about one observable.

    :param score: 0-100, badness on our common scale; only with LISTED or NOT_LISTED
    :param summary: one line for a person: why listed, or why not checked
    :param reference: the provider's page for the value, never to be fetched by us
    :param known_at: when the provider said so
    :param tags: the provider's own labels: malware families, campaigns, categories; hostile text like any other
    :param techniques: MITRE ATT&CK technique ids that the provider names, e.g. ``T1110``
    :param first_reported_at: the provider's first sight of it
    :param body_digest: SHA-256 of the body that it was read from, so that a later reading can be told from this one
    :param retry_at: without an answer: when asking again may give one; None: it would not
    """

    observable: Observable
    provider: str
    answer: Answer
    score: int | None = Field(default=None, ge=0, le=100)
    summary: str = ""
    reference: str | None = None
    tags: tuple[str, ...] = ()
    techniques: tuple[str, ...] = ()
    first_reported_at: Instant | None = None
    last_reported_at: Instant | None = None
    body_digest: str = ""
    known_at: Instant
    retry_at: Instant | None = None

    @model_validator(mode="after")
    def _score_goes_with_an_answer(self) -> Reputation:
        answered = self.answer in (Answer.LISTED, Answer.NOT_LISTED)
        if answered != (self.score is not None):
            raise ValueError("a score goes with listed and not_listed, and only with them")
        return self


class ReputationBatch(Frozen):
    """Stage 3's answer, one per provider."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    provider: str
    reputations: tuple[Reputation, ...]


class Standing(StrEnum):
    UNKNOWN = "unknown"
    BENIGN = "benign"
    SUSPICIOUS = "suspicious"
    MALICIOUS = "malicious"


class Verdict(Frozen):
    """Our judgement. ``confidence`` is 0-100 as in STIX 2.1; ``reasons`` are ordered and can be checked by hand."""

    observable: Observable
    standing: Standing
    confidence: int = Field(ge=0, le=100)
    reasons: tuple[str, ...]
    reputations: tuple[Reputation, ...] = ()


class Refusal(Frozen):
    """
    Why an observable is not blocked although something spoke for it.

    :param layer: which rule refused: a layer of the never-block gate, ``role``, ``evidence``, ``shared``…
    :param list_name: which list of that layer, where it has several
    :param entry: which entry of it
    """

    observable: Observable
    layer: str
    list_name: str = ""
    entry: str
    reason: str
    finding_uids: tuple[str, ...] = ()


class Indicator(Frozen):
    """An observable that we decided to act on, until ``expires_at``."""

    observable: Observable
    confidence: int
    reasons: tuple[str, ...]
    roles: tuple[Role, ...]
    first_seen_at: Instant
    last_seen_at: Instant
    expires_at: Instant
    finding_uids: tuple[str, ...]


class Priority(Frozen):
    """Whether a finding becomes an incident, and why."""

    finding_uid: str
    high: bool
    reason: str


class ApprovalAnswer(StrEnum):
    """What became of the question whether to make a run's blocks."""

    APPROVED = "approved"
    REJECTED = "rejected"
    NOBODY = "unanswered"


class Approval(Frozen):
    """The answer. ``by`` is empty where nobody gave one."""

    answer: ApprovalAnswer
    by: str = ""
    at: Instant


class Decision(Frozen):
    """
    The verdicts, what to do about them, and by which policy.

    :param held: what would be acted on and waits for a person, since a cap is exceeded; ``indicators`` is then empty
    :param hold_reasons: which caps, and by how much; they stay when the answer is there
    :param approval: the answer, once there is one: ``held`` has then become ``indicators`` or ``refusals``
    :param remarks: what could not be checked, for the run's log
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    policy_digest: str
    priorities: tuple[Priority, ...]
    verdicts: tuple[Verdict, ...]
    indicators: tuple[Indicator, ...]
    refusals: tuple[Refusal, ...]
    silent_providers: tuple[str, ...] = ()
    held: tuple[Indicator, ...] = ()
    hold_reasons: tuple[str, ...] = ()
    approval: Approval | None = None
    remarks: tuple[str, ...] = ()


class IncidentOutcome(StrEnum):
    CREATED = "created"
    EXISTING = "existing"
    PLANNED = "planned"
    FAILED = "failed"


class IncidentRef(Frozen):
    """
    Where a finding's incident is.

    :param marker: our deterministic mark, by which the incident is found before every create
    :param unique_id: the vendor's id; None when only planned or failed
    """

    finding_uid: str
    marker: str
    outcome: IncidentOutcome
    title: str
    unique_id: str | None = None
    readable_id: str | None = None
    url: str | None = None
    created_at: Instant | None = None
    detail: str = ""


class IncidentBatch(Frozen):
    """Stage 4's answer."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    incidents: tuple[IncidentRef, ...]


class Relation(Frozen):
    """Stage 5: that a new incident and an older one share something."""

    incident_id: str
    related_id: str
    related_readable_id: str | None
    shared: tuple[Observable, ...]
    outcome: str  # related, planned, failed
    detail: str = ""


class RelationBatch(Frozen):
    schema_version: SchemaVersion = SCHEMA_VERSION
    relations: tuple[Relation, ...]


class Verb(StrEnum):
    """OpenC2 action verbs, and ours for the SIEM."""

    DENY = "deny"  # WAF
    CONTAIN = "contain"  # EDR
    WATCH = "watch"  # SIEM


class Outcome(StrEnum):
    """What is true now at the enforcement point, as read back from it. Not what we asked for."""

    BLOCKED = "blocked"
    DETECT_ONLY = "detect_only"
    WATCHED = "watched"
    PENDING = "pending"
    PLANNED = "planned"
    UNSUPPORTED = "unsupported"
    PROTECTED = "protected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"  # in force, and protected by an entry that was added later: to be lifted
    FAILED = "failed"


#: Something of ours does, or will soon do, something there.
IN_FORCE = frozenset({Outcome.BLOCKED, Outcome.DETECT_ONLY, Outcome.WATCHED, Outcome.PENDING})


class Action(Frozen):
    """
    What we asked an enforcement point to do about an indicator, and what it says now.

    :param control: the product, e.g. ``akamai_client_lists``
    :param outcome: the state read back from it
    :param changed: True when this very try wrote it; False when it was already so. Not part of the state.
    :param proof: where a person can check: list, version, activation, indicator id
    """

    control: str
    verb: Verb
    observable: Observable
    outcome: Outcome
    detail: str = ""
    changed: bool = False
    expires_at: Instant | None = None
    proof: dict[str, str | int | None] = Field(default_factory=dict)


class ActionBatch(Frozen):
    """Stages 6, 7 and 8."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    control: str
    actions: tuple[Action, ...]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
