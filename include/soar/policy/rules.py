"""What the SOC decides, as the schema of ``include/config/policy.yaml``: thresholds, weights, caps, never-block rules.

Schema only: ``file.py`` reads it, the rooms ``gate``, ``enrich`` and ``judge`` apply it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_serializer, field_validator, model_validator

from include.soar.extract.bounds import BOUNDS, Bounds
from include.soar.extract.findings import OwnSurface
from include.soar.gate.rules import NeverBlock, protected_name
from include.soar.model import ObservableType, Reliability, Role, Section, Severity, Tlp, digest


class PolicyError(ValueError):
    """The policy file is wrong; the message names file, field and problem."""


Percent = Annotated[int, Field(ge=0, le=100)]


def _complete(weights: dict[Any, int], words: type[StrEnum]) -> dict[Any, int]:
    """In the order of ``words``. Each must have a weight: a forgotten one would silently weigh nothing."""
    missing = [word.value for word in words if word not in weights]
    if missing:
        raise ValueError(f"has no weight for {', '.join(missing)}")
    return {word: weights[word] for word in words}


def _never_claimed(roles: frozenset[Role], what: str) -> frozenset[Role]:
    forbidden = roles & {Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED}
    if forbidden:
        words = ", ".join(sorted(forbidden))
        raise ValueError(f"{words} can never {what}: an attacker can write such a value, or it is ours")
    return roles


class SourcePolicy(Section):
    """
    How much a source counts.

    :param family: sources of one family copy each other and count once; by default a source is its own family
    """

    reliability: Reliability
    malicious_from: int = Field(ge=1, le=100)
    suspicious_from: int = Field(ge=1, le=100)
    family: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> SourcePolicy:
        if self.suspicious_from > self.malicious_from:
            raise ValueError(f"suspicious_from {self.suspicious_from} is above malicious_from {self.malicious_from}")
        return self


class FindingWeights(Section):
    """What the finding itself adds where a source already calls the value bad. Alone it decides nothing."""

    roles: frozenset[Role]
    weights: dict[Severity, Percent]
    confidence: Percent

    @field_validator("roles")
    @classmethod
    def _claims_add_nothing(cls, roles: frozenset[Role]) -> frozenset[Role]:
        return _never_claimed(roles, "add weight")

    @field_validator("weights")
    @classmethod
    def _all_severities(cls, weights: dict[Severity, int]) -> dict[Severity, int]:
        return _complete(weights, Severity)

    @field_serializer("roles")
    def _sorted(self, roles: frozenset[Role]) -> list[str]:
        return sorted(roles)


class HistoryWeights(Section):
    days: int = Field(ge=1)
    malicious: Percent
    blocked: Percent
    benign: Percent


class VerdictPolicy(Section):
    reliability: dict[Reliability, Percent]
    half_life_days: dict[ObservableType, Annotated[int, Field(ge=1)]]
    stale_below: Percent
    finding: FindingWeights
    history: HistoryWeights
    benign: dict[str, Percent]

    @field_validator("reliability")
    @classmethod
    def _all_grades(cls, weights: dict[Reliability, int]) -> dict[Reliability, int]:
        ordered = _complete(weights, Reliability)
        if list(ordered.values()) != sorted(ordered.values(), reverse=True):
            raise ValueError("a better grade must not weigh less than a worse one")
        return ordered


class EvidencePolicy(Section):
    """What is enough for an automatic block. One ordinary source is never enough, so it cannot be configured."""

    independent_sources: int = Field(ge=2)
    minimum_grade: Reliability
    top_grade: Reliability
    top_grade_from_severity: Severity

    @model_validator(mode="after")
    def _in_order(self) -> EvidencePolicy:
        if not self.top_grade.is_at_least(self.minimum_grade):
            raise ValueError(f"top_grade {self.top_grade.value} is below minimum_grade {self.minimum_grade.value}")
        return self


class PriorityPolicy(Section):
    minimum_severity: Severity


class SharedAddressPolicy(Section):
    distinct_users: int = Field(ge=1)
    ordinary_up_to_severity: Severity
    good_requests: int = Field(ge=1)
    good_share: float = Field(gt=0, le=1)


class WidestPrefix(Section):
    """Prefix lengths. Even a policy cannot allow wider networks: each is half a continent."""

    ipv4: int = Field(ge=12, le=32)
    ipv6: int = Field(ge=32, le=128)


#: A run that waits occupies one of the DAG's ``max_active_runs``, so it must not wait for ever.
LONGEST_WAIT_HOURS = 24


class ApprovalPolicy(Section):
    wait_hours: float = Field(gt=0, le=LONGEST_WAIT_HOURS)


class BlockPolicy(Section):
    roles: frozenset[Role]
    evidence: EvidencePolicy
    days: dict[ObservableType, int]
    shared_address: SharedAddressPolicy
    widest_prefix: WidestPrefix
    maximum_per_run: int = Field(ge=1)
    maximum_per_asn: int = Field(ge=1)
    maximum_per_network: int = Field(ge=1)
    asn_table: str | None
    approval: ApprovalPolicy

    @field_validator("asn_table")
    @classmethod
    def _is_absolute(cls, path: str | None) -> str | None:
        if path is not None and not Path(path).is_absolute():
            raise ValueError(f"{path} is not an absolute path")
        return path

    @field_validator("roles")
    @classmethod
    def _never_ours(cls, roles: frozenset[Role]) -> frozenset[Role]:
        return _never_claimed(roles, "be blocked")

    @field_serializer("roles")
    def _sorted(self, roles: frozenset[Role]) -> list[str]:
        return sorted(roles)


class ExtractionPolicy(Section):
    own_hosts: tuple[str, ...]
    own_paths: tuple[str, ...]
    harmless_per_finding: int = Field(default=BOUNDS.harmless_per_finding, ge=1)
    harmless_per_run: int = Field(default=BOUNDS.harmless_per_run, ge=0)
    acting_per_finding: int = Field(default=BOUNDS.acting_per_finding, ge=1)

    @field_validator("own_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(protected_name(host) for host in hosts)

    @field_validator("own_paths")
    @classmethod
    def _are_paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not path.startswith("/") or len(path) < 3:
                raise ValueError(f"{path!r} is not a path such as /v1/accounts.list")
        return paths

    @cached_property
    def own(self) -> OwnSurface:
        return OwnSurface(self.own_hosts, self.own_paths)

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.harmless_per_finding, self.harmless_per_run, self.acting_per_finding)


class RelatedPolicy(Section):
    days: int = Field(ge=1)
    maximum_per_incident: int = Field(ge=1)


class TlpPolicy(Section):
    """
    :param findings: how restricted a finding and its values are, where ``sources`` does not name its source
    :param ask_up_to: the most restricted value that a provider may see, where ``providers`` does not name it
    """

    findings: Tlp
    sources: dict[str, Tlp]
    ask_up_to: Tlp
    providers: dict[str, Tlp]


class QuotaPolicy(Section):
    """At most ``calls`` calls of one kind in so many seconds."""

    name: str = Field(min_length=1)
    calls: int = Field(ge=0)
    seconds: int = Field(ge=1)


class BreakerPolicy(Section):
    failures: int = Field(ge=1)
    first_minutes: float = Field(gt=0)
    longest_minutes: float = Field(gt=0)


class CarryOverPolicy(Section):
    findings: int = Field(ge=0)
    days: float = Field(gt=0)


class EnrichmentPolicy(Section):
    providers: tuple[str, ...]
    connections: int = Field(ge=1, le=64)
    longest_wait_seconds: float = Field(ge=0, le=600)
    live_share: float = Field(ge=0, le=1)
    acting_share: float = Field(default=0.5, ge=0, le=1)
    quotas: dict[str, tuple[QuotaPolicy, ...]]
    breaker: BreakerPolicy
    tlp: TlpPolicy
    carry_over: CarryOverPolicy

    @field_validator("providers")
    @classmethod
    def _each_once(cls, providers: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in providers if providers.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice")
        return providers


class ReputationHours(Section):
    listed: float = Field(gt=0)
    not_listed: float = Field(gt=0)


class Policy(Section):
    """The whole of ``include/config/policy.yaml``, which documents each field."""

    version: int
    extraction: ExtractionPolicy
    priority: PriorityPolicy
    sources: dict[str, SourcePolicy]
    verdict: VerdictPolicy
    block: BlockPolicy
    related: RelatedPolicy
    enrichment: EnrichmentPolicy
    reputation_hours: ReputationHours
    never_block: NeverBlock

    @cached_property
    def document(self) -> dict[str, Any]:
        """The policy as JSON, the same for the same rules however they were written; see :func:`stored_policy`."""
        return self.model_dump(mode="json")

    @cached_property
    def digest(self) -> str:
        return digest(self.document)
