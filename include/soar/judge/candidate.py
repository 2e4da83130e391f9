"""An observable that something may be done about, and everything that the response to it follows from. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from include.soar.judge.traffic import Statement, behind, good_users
from include.soar.judge.verdict import Earlier, Inputs, Voice
from include.soar.model import (
    Finding,
    Indicator,
    Observable,
    Refusal,
    Role,
    Severity,
    Sighting,
    Standing,
    Step,
    Verdict,
)
from include.soar.policy.rules import Policy

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Candidate:
    """
    :param said: what each source says about it
    :param high: uids of the high-priority findings
    :param statements: what the findings say about traffic, by address
    """

    inputs: Inputs
    said: Sequence[Voice]
    verdict: Verdict
    high: Collection[str]
    statements: Mapping[str, list[Statement]]
    policy: Policy
    now: datetime

    @cached_property
    def seen(self) -> tuple[Sighting, ...]:
        """Its sightings in high-priority findings."""
        return tuple(s for s in self.inputs.observed.sightings if s.finding_uid in self.high)

    @cached_property
    def acting(self) -> tuple[Sighting, ...]:
        """Those in a role that ``block.roles`` allows. Only they count: a claim must not prolong a block."""
        return tuple(s for s in self.seen if s.role in self.policy.block.roles)

    @cached_property
    def observable(self) -> Observable:
        return self.inputs.observed.observable

    @property
    def finding_uids(self) -> tuple[str, ...]:
        return tuple(sorted({s.finding_uid for s in self.seen}))

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        return tuple(sorted({s.role for s in self.acting}))

    @cached_property
    def first_seen_at(self) -> datetime:
        return min(s.seen_at for s in self.acting)

    @cached_property
    def last_seen_at(self) -> datetime:
        return max(s.seen_at for s in self.acting)

    @property
    def is_malicious(self) -> bool:
        return self.verdict.standing is Standing.MALICIOUS

    @cached_property
    def severity(self) -> Severity:
        """The worst of the findings in which it acted."""
        return max((f.severity for f in self.findings_as(self.policy.block.roles)), key=lambda s: s.rank)

    def findings_as(self, roles: Collection[Role]) -> list[Finding]:
        """The high-priority findings in which it was seen in one of these roles."""
        uids = {s.finding_uid for s in self.acting if s.role in roles}
        return [f for f in self.inputs.findings if f.uid in uids]

    @cached_property
    def earlier(self) -> Earlier:
        return self.inputs.earlier or Earlier()

    @cached_property
    def past_blocks(self) -> tuple[datetime, ...]:
        """When earlier blocks began: earlier than the sightings at hand, which may have led to a block themselves."""
        return tuple(at for at in sorted(self.earlier.blocked_at) if at < self.first_seen_at)

    @cached_property
    def sharing(self) -> tuple[str, str] | None:
        """The policy's number by which many good users are behind it, and why; None where they are not."""
        return good_users(behind(self.observable, self.statements), self.policy.block.shared_address)

    @cached_property
    def shared_tag(self) -> str:
        """A label that says that many people are behind it, and whose it is; empty where there is none."""
        words = set(self.policy.response.shared_tags)
        labels = [(f"warning list {name}", name) for name in self.inputs.tags]
        labels += [(f"{tag} ({r.provider})", tag) for r in self.inputs.reputations for tag in r.tags]
        return next((told for told, text in labels if words & set(_WORD.findall(text.lower()))), "")

    def refused(self, layer: str, entry: str, reason: str, *, list_name: str = "") -> Refusal:
        return Refusal(
            observable=self.observable,
            layer=layer,
            list_name=list_name,
            entry=entry,
            reason=reason,
            finding_uids=self.finding_uids,
        )

    def indicator(self, steps: Sequence[Step], *, hold_reasons: Sequence[str] = (), enough: str = "") -> Indicator:
        """:param steps: at least one, the mildest first"""
        return Indicator(
            observable=self.observable,
            confidence=self.verdict.confidence,
            reasons=self.verdict.reasons,
            roles=self.roles,
            first_seen_at=self.first_seen_at,
            last_seen_at=self.last_seen_at,
            expires_at=steps[-1].expires_at,
            finding_uids=self.finding_uids,
            steps=tuple(steps),
            hold_reasons=tuple(hold_reasons),
            enough=enough,
        )
