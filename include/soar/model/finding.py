"""Stages 1 and 2: findings as a source reports them, and the observables that were seen in them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from include.soar.model.base import SCHEMA_VERSION, Frozen, Instant, SchemaVersion
from include.soar.model.observable import Observable
from include.soar.model.text import Text


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

    field: Text
    role: Role
    text: Text = Field(max_length=200_000)


class Traffic(Frozen):
    """
    What a finding says about the traffic of one address. What the vendor does not say is absent, never zero.

    :param address: as an observable spells it
    :param requests: those that the vendor counts for the finding: all of them, good ones too
    :param malicious_requests: how many of them are part of an attack
    :param users: who was seen with it, each by a pseudonym that is the same in every finding of that source
    :param asn: which autonomous system the vendor says it is in
    """

    address: Text
    requests: int | None = Field(default=None, ge=0)
    malicious_requests: int | None = Field(default=None, ge=0)
    users: tuple[Text, ...] = ()
    asn: int | None = Field(default=None, ge=1, lt=2**32)


#: Behaviours of :class:`Finding`, as reasons name them.
FAILED_LOGINS, ENUMERATION = "failed log-ins", "enumeration"


class Finding(Frozen):
    """
    What Akamai reports, normalised (after OCSF Detection Finding).

    :param uid: deterministic over source and the vendor's identity of the event
    :param vendor_id: the vendor's own id, for a person to look up
    :param detected_at: when the vendor detected it
    :param severity: mapped from the vendor's scale; an unknown word is a rejected record, never a default
    :param confidence: 0-100 as the vendor's word says, None where it says nothing
    :param behaviour: what an attacker was seen to do, where the vendor judged by behaviour: :data:`FAILED_LOGINS`,
        :data:`ENUMERATION`; empty: it judged by something else, or does not say
    :param grown_at: set where this is only what was added to an event after a window had read it: the time of these
        sightings
    """

    uid: Text
    source: Text
    vendor_id: Text
    title: Text
    category: Text = ""
    description: Text = ""
    severity: Severity
    confidence: int | None = Field(default=None, ge=0, le=100)
    detected_at: Instant
    url: Text | None = None
    target: Text = ""
    tags: tuple[Text, ...] = ()
    mentions: tuple[Mention, ...] = ()
    traffic: tuple[Traffic, ...] = ()
    grown_at: Instant | None = None
    behaviour: Text = ""

    @property
    def seen_at(self) -> datetime:
        """When what it mentions was seen."""
        return self.grown_at or self.detected_at


class RejectedRecord(Frozen):
    """
    A record that could not be read, or a part of one that is taken without it. All others are processed, and this one
    is kept for a person to look at.
    """

    source: Text
    record: Text  # which: the vendor's id, or its place ("page 2, row 17")
    field: Text
    problem: Text
    kept_at: Text | None = None  # object-storage path of the raw record


class Window(Frozen):
    """``[start_at, end_at)``, and how it was chosen."""

    start_at: Instant
    end_at: Instant
    chosen_by: Text

    @property
    def key(self) -> str:
        return f"{self.start_at:%Y%m%dT%H%M%SZ}-{self.end_at:%Y%m%dT%H%M%SZ}"


class FetchBatch(Frozen):
    """
    Stage 1's answer: every finding of one source's window, once.

    :param grows: whether the source adds to its events later, so that each part of one belongs to a window
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    source: Text
    window: Window
    pages: int
    records: int
    archive: tuple[Text, ...]
    digest: Text
    findings: tuple[Finding, ...]
    rejected: tuple[RejectedRecord, ...] = ()
    grows: bool = False


class Sighting(Frozen):
    """
    That an observable was seen: in which finding, in which field, in what role.

    :param steps: what had to be decoded to see it, outermost first: ``percent``, ``html``, ``json``, ``base64``
    """

    finding_uid: Text
    field: Text
    role: Role
    seen_at: Instant
    steps: tuple[Text, ...] = ()


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


class LeftOutValues(Frozen):
    """
    How much of one finding is not among the case's observables, since a finding may only bring so many values.

    :param values: distinct values that were read and left out
    :param acting: how many of them the vendor itself named in an acting role; all others are claims or mentions
    :param texts: texts that were not read at all
    """

    finding_uid: Text
    values: int = Field(ge=0)
    acting: int = Field(default=0, ge=0)
    texts: int = Field(default=0, ge=0)


class CaseBatch(Frozen):
    """
    Stage 2's answer: the findings of all sources, and what was seen in them.

    :param left_out: the findings that brought more values than the policy's ``extraction`` allows
    :param carried_over: uids of findings of earlier windows that this run finishes: a source could not be asked then
    """

    schema_version: SchemaVersion = SCHEMA_VERSION
    window: Window
    findings: tuple[Finding, ...]
    observed: tuple[Observed, ...]
    rejected: tuple[RejectedRecord, ...] = ()
    carried_over: tuple[Text, ...] = ()
    left_out: tuple[LeftOutValues, ...] = ()
