"""Why an observable is not blocked although something speaks for it: an ordered list of rules. Pure.

``docs/dataflow.md`` shows the rules in this order, each with the first line of its docstring.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from include.soar.judge.traffic import Statement, behind, good_users
from include.soar.judge.verdict import Inputs, Voice, lacking_evidence
from include.soar.model import (
    Indicator,
    Observable,
    ObservableType,
    Refusal,
    Role,
    Severity,
    Sighting,
    Standing,
    Verdict,
)
from include.soar.policy.rules import Policy


@dataclass(frozen=True)
class Candidate:
    """
    An observable that may be blocked, and everything that the rules look at.

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

    @property
    def observable(self) -> Observable:
        return self.inputs.observed.observable

    @property
    def finding_uids(self) -> tuple[str, ...]:
        return tuple(sorted({s.finding_uid for s in self.seen}))

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(sorted({s.role for s in self.acting}))

    @property
    def last_seen_at(self) -> datetime:
        return max(s.seen_at for s in self.acting)

    @property
    def days(self) -> int | None:
        """For how long this type is blocked; None: never."""
        return self.policy.block.days.get(self.observable.type)

    @property
    def expires_at(self) -> datetime:
        """From the last sighting, not from now: a repeated run then asks for the very same block."""
        return self.last_seen_at + timedelta(days=self.days or 0)

    def refused(self, layer: str, entry: str, reason: str, *, list_name: str = "") -> Refusal:
        return Refusal(
            observable=self.observable,
            layer=layer,
            list_name=list_name,
            entry=entry,
            reason=reason,
            finding_uids=self.finding_uids,
        )

    def accepted(self) -> Indicator:
        return Indicator(
            observable=self.observable,
            confidence=self.verdict.confidence,
            reasons=self.verdict.reasons,
            roles=self.roles,
            first_seen_at=min(s.seen_at for s in self.acting),
            last_seen_at=self.last_seen_at,
            expires_at=self.expires_at,
            finding_uids=self.finding_uids,
        )

    @property
    def is_suspect(self) -> bool:
        """Whether anything speaks for a block, in a high-priority finding."""
        # No provider is asked about a protected value, so there may be no verdict. An attack from it is reported all
        # the same.
        malicious = self.verdict.standing is Standing.MALICIOUS
        return bool(self.seen) and (malicious or bool(self.inputs.hit and self.acting))


def protected(candidate: Candidate) -> Refusal | None:
    """The never-block gate protects it (the gate's own layers: `own`, `partner`, `well-known`, …)."""
    if not (hit := candidate.inputs.hit):
        return None
    return candidate.refused(hit.layer, hit.entry, hit.reason, list_name=hit.list_name)


def too_wide(candidate: Candidate) -> Refusal | None:
    """It is a network wider than `block.widest_prefix` allows (layer `width`)."""
    if candidate.observable.type is not ObservableType.CIDR:
        return None
    network, widest = ipaddress.ip_network(candidate.observable.value), candidate.policy.block.widest_prefix
    name, shortest = ("ipv4", widest.ipv4) if network.version == 4 else ("ipv6", widest.ipv6)
    if network.prefixlen >= shortest:
        return None
    reason = f"/{network.prefixlen} is wider than block.widest_prefix.{name} /{shortest}"
    return candidate.refused("width", name, reason, list_name="block.widest_prefix")


def wrong_role(candidate: Candidate) -> Refusal | None:
    """It was only seen in roles that `block.roles` does not allow, such as a claim (layer `role`)."""
    if candidate.acting:
        return None
    played = ", ".join(sorted({s.role.value for s in candidate.seen}))
    allowed = ", ".join(sorted(role.value for role in candidate.policy.block.roles))
    return candidate.refused("role", played, f"only seen as {played}: block.roles allows {allowed}")


def shared(candidate: Candidate) -> Refusal | None:
    """Too many good users share the address, by `block.shared_address` (layer `shared`)."""
    found = good_users(behind(candidate.observable, candidate.statements), candidate.policy.block.shared_address)
    return candidate.refused("shared", *found, list_name="block.shared_address") if found else None


def too_little_evidence(candidate: Candidate) -> Refusal | None:
    """The sources that call it malicious are too few or too weak, by `block.evidence` (layer `evidence`)."""
    uids = {s.finding_uid for s in candidate.acting}
    severities = [f.severity for f in candidate.inputs.findings if f.uid in uids]
    worst = max(severities, key=list(Severity).index)
    why = lacking_evidence(candidate.said, worst, candidate.policy)
    return candidate.refused("evidence", "block.evidence", why) if why else None


def no_time(candidate: Candidate) -> Refusal | None:
    """`block.days` names no time for its type, so the type is never blocked (layer `type`)."""
    if candidate.days is not None:
        return None
    kind = candidate.observable.type.value
    return candidate.refused("type", kind, f"block.days names no time for {kind}")


def expired(candidate: Candidate) -> Refusal | None:
    """Its last sighting is older than the block would last: it may be someone else's by now (layer `expired`)."""
    if candidate.expires_at > candidate.now:
        return None
    days = candidate.days
    reason = f"last seen {candidate.last_seen_at:%Y-%m-%d %H:%M}Z, more than {days} days ago: may be someone else's"
    return candidate.refused("expired", f"{days} days", reason)


Rule = Callable[[Candidate], Refusal | None]
#: Asked in this order; the first that refuses wins. Each may rely on those before it.
REFUSALS: tuple[Rule, ...] = (protected, too_wide, wrong_role, shared, too_little_evidence, no_time, expired)


def plan_for(candidate: Candidate) -> Indicator | Refusal | None:
    """To block it, to refuse that by the first rule that does, or (nothing speaks for a block) nothing."""
    if not candidate.is_suspect:
        return None
    for rule in REFUSALS:
        if refusal := rule(candidate):
            return refusal
    return candidate.accepted()
