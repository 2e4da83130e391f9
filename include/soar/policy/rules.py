"""What the SOC decides, as the schema of ``include/config/policy.yaml``: thresholds, weights, caps, never-block rules.

Schema only: ``file.py`` reads it, the rooms ``gate``, ``enrich`` and ``judge`` apply it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_serializer, field_validator, model_validator

from include.soar.extract.bounds import BOUNDS, Bounds
from include.soar.extract.findings import OwnSurface
from include.soar.gate.rules import NeverBlock, protected_name
from include.soar.model import ObservableType, Reliability, Role, Section, Severity, Tlp, digest
from include.soar.policy.response import LONGEST_HOURS, MOST_DAYS, Percent, ResponsePolicy, never_claimed

#: A month: no provider counts its calls over a longer time, and no breaker stays open longer.
LONGEST_SECONDS = 31 * 24 * 3600


class PolicyError(ValueError):
    """The policy file is wrong; the message names file, field and problem."""


def _complete(weights: dict[Any, int], words: type[StrEnum]) -> dict[Any, int]:
    """In the order of ``words``. Each must have a weight: a forgotten one would silently weigh nothing."""
    missing = [word.value for word in words if word not in weights]
    if missing:
        raise ValueError(f"has no weight for {', '.join(missing)}")
    return {word: weights[word] for word in words}


class ListPolicy(Section):
    """Where one list of a source counts in another way than the source. It is a family of its own unless it says so."""

    reliability: Reliability | None = None
    malicious_from: int | None = Field(default=None, ge=1, le=100)
    suspicious_from: int | None = Field(default=None, ge=1, le=100)
    family: str | None = Field(default=None, min_length=1)


class SourcePolicy(Section):
    """
    How much a source counts.

    :param family: sources of one family copy each other and count once; by default a source is its own family
    :param lists: of a source that reads several lists: those that are graded apart, by name
    """

    reliability: Reliability
    malicious_from: int = Field(ge=1, le=100)
    suspicious_from: int = Field(ge=1, le=100)
    family: str | None = Field(default=None, min_length=1)
    lists: dict[str, ListPolicy] = Field(default_factory=dict)

    @field_validator("lists")
    @classmethod
    def _each_in_order(cls, lists: dict[str, ListPolicy], info: ValidationInfo) -> dict[str, ListPolicy]:
        for name, one in lists.items():
            bad = one.malicious_from or info.data.get("malicious_from", 100)
            odd = one.suspicious_from or info.data.get("suspicious_from", 1)
            if odd > bad:
                raise ValueError(f"{name}: suspicious_from {odd} is above malicious_from {bad}")
        return lists

    def of_list(self, name: str) -> SourcePolicy:
        """How much one of its lists counts."""
        own = self.lists[name].model_dump(exclude_none=True)
        return self.model_copy(update={"family": None, **own, "lists": {}})

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
        return never_claimed(roles, "add weight")

    @field_validator("weights")
    @classmethod
    def _all_severities(cls, weights: dict[Severity, int]) -> dict[Severity, int]:
        return _complete(weights, Severity)

    @field_serializer("roles")
    def _sorted(self, roles: frozenset[Role]) -> list[str]:
        return sorted(roles)


class HistoryWeights(Section):
    days: int = Field(ge=1, le=MOST_DAYS)
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


class BlockPolicy(Section):
    """What can be blocked at all, and how much of it in one run. How far, and on what evidence: ``response``."""

    roles: frozenset[Role]
    shared_address: SharedAddressPolicy
    widest_prefix: WidestPrefix
    maximum_per_run: int = Field(ge=1)
    maximum_per_asn: int = Field(ge=1)
    maximum_per_network: int = Field(ge=1)
    asn_table: str | None

    @field_validator("asn_table")
    @classmethod
    def _is_absolute(cls, path: str | None) -> str | None:
        if path is not None and not Path(path).is_absolute():
            raise ValueError(f"{path} is not an absolute path")
        return path

    @field_validator("roles")
    @classmethod
    def _never_ours(cls, roles: frozenset[Role]) -> frozenset[Role]:
        return never_claimed(roles, "be blocked")

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
    days: int = Field(ge=1, le=MOST_DAYS)
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
    calls: int = Field(ge=0, le=100_000_000)
    seconds: int = Field(ge=1, le=LONGEST_SECONDS)


class BreakerPolicy(Section):
    failures: int = Field(ge=1)
    first_minutes: float = Field(gt=0, le=LONGEST_SECONDS / 60)
    longest_minutes: float = Field(gt=0, le=LONGEST_SECONDS / 60)


class CarryOverPolicy(Section):
    findings: int = Field(ge=0)
    days: float = Field(gt=0, le=MOST_DAYS)


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
    listed: float = Field(gt=0, le=LONGEST_HOURS)
    not_listed: float = Field(gt=0, le=LONGEST_HOURS)


class Policy(Section):
    """The whole of ``include/config/policy.yaml``, which documents each field."""

    version: int
    extraction: ExtractionPolicy
    priority: PriorityPolicy
    sources: dict[str, SourcePolicy]
    verdict: VerdictPolicy
    block: BlockPolicy
    response: ResponsePolicy
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
