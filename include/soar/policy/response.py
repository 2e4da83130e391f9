"""How far we respond to what evidence, and for how long: the ``response`` section of the policy.

A response has four degrees, the *rungs* ``watch``, ``detect``, ``block_short`` and ``block_long``. Each names the ways
to evidence that lead to it, the controls that act on it, and how long it lasts. Profiles (``include/config/profiles``)
are whole sections; what the policy itself says lies over its profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_serializer, field_validator, model_validator

from include.soar.model import ObservableType, Reliability, Role, Rung, Section, Severity

Percent = Annotated[int, Field(ge=0, le=100)]
#: Roles in which a value proves nothing, or is ours: nothing is ever done about them.
NEVER_ACTING = frozenset({Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED})
#: What a number for all types does not mean: a block of networks or of whole systems is to be said by name.
BY_NAME_ONLY = frozenset({ObservableType.CIDR, ObservableType.ASN, ObservableType.VULNERABILITY})
#: A score from one ordinary source that is lower says nothing alone.
LOWEST_HIGH_SCORE = 75
#: A run that waits occupies one of the DAG's ``max_active_runs``, so it must not wait for ever.
LONGEST_WAIT_HOURS = 24
#: No response is longer: a file's hash of a year ago is a matter for the EDR's own lists.
LONGEST_HOURS = 365 * 24
#: No number of days reaches further back: a calendar must hold what it is taken from.
MOST_DAYS = 3650


# --- ways to evidence ----------------------------------------------------------------------------------------------


class IndependentSources(Section):
    """So many families of sources, each of at least this grade, call the value malicious."""

    way: Literal["independent_sources"]
    sources: int = Field(ge=2)
    grade: Reliability


class TopGrade(Section):
    """One source of at least this grade calls it malicious, and a finding is at least this severe."""

    way: Literal["top_grade"]
    grade: Reliability
    severity: Severity


class HighScore(Section):
    """
    One ordinary source is very sure and its report is fresh, and a finding is at least this severe.

    :param fresh_hours: how long before the last sighting the report may have been made
    """

    way: Literal["high_score"]
    grade: Reliability
    score: int = Field(ge=LOWEST_HIGH_SCORE, le=100)
    fresh_hours: float = Field(gt=0, le=LONGEST_HOURS)
    severity: Severity


class OwnDetection(Section):
    """
    The vendor itself saw an attacker's behaviour (failed log-ins, enumeration), and is this sure of it. Never for an
    address that is shared, or that is tagged as one of ``response.shared_tags``.
    """

    way: Literal["own_detection"]
    severity: Severity
    confidence: Percent


class Repetition(Section):
    """
    We blocked it so many times within so many days before. Never alone: it leads to a rung only from the one below, by
    another way.
    """

    way: Literal["repetition"]
    times: int = Field(ge=1)
    days: int = Field(ge=1, le=MOST_DAYS)


class AnySource(Section):
    """One source of at least this grade calls it malicious."""

    way: Literal["any_source"]
    grade: Reliability


class Suspicious(Section):
    """One source of at least this grade calls it suspicious."""

    way: Literal["suspicious"]
    grade: Reliability = Reliability.F


class InRole(Section):
    """It was seen in one of these roles in a finding that is at least this severe, whatever is said of it."""

    way: Literal["role"]
    roles: frozenset[Role] = Field(min_length=1)
    severity: Severity

    @field_validator("roles")
    @classmethod
    def _never_claimed(cls, roles: frozenset[Role]) -> frozenset[Role]:
        return never_claimed(roles, "be acted on")

    @field_serializer("roles")
    def _sorted(self, roles: frozenset[Role]) -> list[str]:
        return sorted(roles)


def never_claimed(roles: frozenset[Role], what: str) -> frozenset[Role]:
    """:raises ValueError: naming the roles that an attacker can write, or that are ours"""
    if forbidden := roles & NEVER_ACTING:
        words = ", ".join(sorted(forbidden))
        raise ValueError(f"{words} can never {what}: an attacker can write such a value, or it is ours")
    return roles


#: Ways that may lead to a block. One ordinary source's word is none of them, so it cannot be configured.
BlockWay = Annotated[
    IndependentSources | TopGrade | HighScore | OwnDetection | Repetition,
    Field(discriminator="way"),
]
Way = Annotated[
    IndependentSources | TopGrade | HighScore | OwnDetection | Repetition | AnySource | Suspicious | InRole,
    Field(discriminator="way"),
]


# --- rungs ---------------------------------------------------------------------------------------------------------


def _by_type(value: Any) -> Any:
    """One number is that of every type that need not be named."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {kind: value for kind in ObservableType if kind not in BY_NAME_ONLY}
    if isinstance(value, dict):
        known = {kind.value: kind for kind in ObservableType}
        return {known.get(key, key): hours for key, hours in value.items()}
    return value


Hours = Annotated[float, Field(gt=0, le=LONGEST_HOURS)]
HoursByType = Annotated[dict[ObservableType, Hours], BeforeValidator(_by_type)]


class RungPolicy(Section):
    """
    :param controls: the places whose controls act on it: keys of the registry (``watch``, ``block.edr``, ``block.waf``)
    :param hours: how long after its last sighting it lasts, by type. A type that is not named is never on this rung
    :param evidence: the ways that lead here; each is enough. Empty: none does, but what reaches a higher rung is on
        this one, too
    """

    controls: tuple[str, ...]
    hours: HoursByType
    evidence: tuple[Way, ...]


class BlockRung(Section):
    """
    As :class:`RungPolicy`, for a block.

    :param up_to_hours: how far repetition makes it longer, see :class:`Escalation`; None: it does not
    :param ask: ways that are not enough, but for which a person is asked
    """

    controls: tuple[str, ...]
    hours: HoursByType
    up_to_hours: Hours | None = None
    evidence: tuple[BlockWay, ...]
    ask: tuple[Way, ...] = ()


class Rungs(Section):
    watch: RungPolicy
    detect: RungPolicy
    block_short: BlockRung
    block_long: BlockRung

    @cached_property
    def each(self) -> dict[Rung, RungPolicy | BlockRung]:
        """By rung, the mildest first."""
        return {rung: getattr(self, rung.value) for rung in Rung}


class Escalation(Section):
    """
    How long the n-th block of the same value lasts, where its rung gives less.

    :param hours: of the first, the second, and so on; the last counts for all later ones. Empty: always the rung's own
    :param clean_days: each time that so long passes without another block, it counts as one block fewer
    """

    hours: tuple[Hours, ...]
    clean_days: int = Field(ge=1, le=MOST_DAYS)

    @field_validator("hours")
    @classmethod
    def _longer_and_longer(cls, hours: tuple[float, ...]) -> tuple[float, ...]:
        if list(hours) != sorted(hours):
            raise ValueError("a later block must not be shorter than an earlier one")
        return hours


class ApprovalPolicy(Section):
    """
    :param wait_hours: how long a run that asks waits for the answer
    :param unanswered: what then becomes of what waits, by rung: ``refuse`` (also where a rung is not named) or ``act``
    """

    wait_hours: float = Field(gt=0, le=LONGEST_WAIT_HOURS)
    unanswered: dict[Rung, Literal["act", "refuse"]] = Field(default_factory=dict)

    @property
    def acts_unanswered(self) -> frozenset[Rung]:
        """The rungs that are acted on though nobody answered."""
        return frozenset(rung for rung, default in self.unanswered.items() if default == "act")


class ResponsePolicy(Section):
    """
    :param profile: which file of ``include/config/profiles`` lies below this section
    :param switched_off: controls that take no part although their connection is there
    :param refuse_others_changes: a client list is not activated where other people's changes would go with it
    :param shared_tags: words that say, in a provider's tag or in the name of a warning list, that many people are
        behind an address
    """

    profile: str
    switched_off: frozenset[str] = frozenset()
    refuse_others_changes: bool = False
    shared_tags: tuple[str, ...]
    rungs: Rungs
    escalation: Escalation
    approval: ApprovalPolicy

    @field_serializer("switched_off")
    def _sorted(self, vendors: frozenset[str]) -> list[str]:
        return sorted(vendors)

    @model_validator(mode="after")
    def _longer_above(self) -> ResponsePolicy:
        for kind, hours in self.rungs.block_long.hours.items():
            if hours < self.rungs.block_short.hours.get(kind, 0):
                raise ValueError(f"a long block of {kind.value} is shorter than a short one")
        return self

    def rungs_of(self, place: str) -> frozenset[Rung]:
        """
        The rungs on which the controls of a place act.

        :param place: a key of the registry's ``SERVES``, such as ``block.waf``
        """
        return frozenset(rung for rung in Rung if place in self.rungs.each[rung].controls)

    def is_off(self, vendor: str) -> bool:
        """Whether a control is switched off."""
        return vendor in self.switched_off

    def longest_block(self, kind: ObservableType) -> float | None:
        """How many hours the longest block of this type lasts, automatic or asked for; None: there is none."""
        blocks = (self.rungs.block_short, self.rungs.block_long)
        hours = [
            max(rung.hours[kind], rung.up_to_hours or 0)
            for rung in blocks
            if kind in rung.hours and (rung.evidence or rung.ask)
        ]
        return max(hours, default=None)

    @property
    def looks_back(self) -> timedelta:
        """How old an earlier block may be and still make a difference."""
        days = [way.days for rung in Rung for way in self._ways(rung) if isinstance(way, Repetition)]
        return timedelta(days=max([*days, self.escalation.clean_days * len(self.escalation.hours)], default=0))

    def _ways(self, rung: Rung) -> Iterator[Any]:
        rules = self.rungs.each[rung]
        yield from rules.evidence
        yield from rules.ask if isinstance(rules, BlockRung) else ()
