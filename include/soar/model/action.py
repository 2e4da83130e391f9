"""Stages 4 to 9: incidents, their relations, and what the enforcement points say about each action."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from include.soar.model.base import SCHEMA_VERSION, Frozen, Instant, SchemaVersion
from include.soar.model.observable import Observable
from include.soar.model.response import Reached, Rung
from include.soar.model.text import Text


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

    finding_uid: Text
    marker: Text
    outcome: IncidentOutcome
    title: Text
    unique_id: Text | None = None
    readable_id: Text | None = None
    url: Text | None = None
    created_at: Instant | None = None
    detail: Text = ""


class IncidentBatch(Frozen):
    """Stage 4's answer."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    incidents: tuple[IncidentRef, ...]


class Relation(Frozen):
    """Stage 5: that a new incident and an older one share something."""

    incident_id: Text
    related_id: Text
    related_readable_id: Text | None
    shared: tuple[Observable, ...]
    outcome: Text  # related, planned, failed
    detail: Text = ""


class RelationBatch(Frozen):
    schema_version: SchemaVersion = SCHEMA_VERSION
    relations: tuple[Relation, ...]


class Verb(StrEnum):
    """OpenC2 action verbs, and ours for the SIEM."""

    DENY = "deny"  # WAF
    CONTAIN = "contain"  # EDR
    WATCH = "watch"  # SIEM
    LIFT = "lift"  # any of them: undo


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
    LIFTED = "lifted"  # ours was removed, and reads back as absent
    GONE = "gone"  # to be lifted, and nothing of ours is there
    NOT_OURS = "not_ours"  # to be lifted, but what is there is not ours, or a person has changed it: it stays


#: Outcomes in which our entry has an effect there, now or soon.
IN_FORCE = frozenset({Outcome.BLOCKED, Outcome.DETECT_ONLY, Outcome.WATCHED, Outcome.PENDING})


class Action(Frozen):
    """
    What we asked an enforcement point to do about an indicator, and what it says now.

    :param control: the product, e.g. ``akamai_client_lists``
    :param outcome: the state read back from it
    :param changed: True when this attempt wrote it; False when it already was so. Not part of the state.
    :param proof: where a person can check: list, version, activation, indicator id
    :param rung: at which degree it responds
    :param reached: how far that is proved; None: nothing was asked of the control
    """

    control: Text
    verb: Verb
    observable: Observable
    outcome: Outcome
    detail: Text = ""
    changed: bool = False
    expires_at: Instant | None = None
    proof: dict[Text, Text | int | None] = Field(default_factory=dict)
    rung: Rung | None = None
    reached: Reached | None = None


class ActionBatch(Frozen):
    """Stages 6, 7 and 8."""

    schema_version: SchemaVersion = SCHEMA_VERSION
    control: Text
    actions: tuple[Action, ...]
