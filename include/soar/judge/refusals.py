"""Why nothing is done about an observable although something speaks for it: an ordered list of rules. Pure.

``docs/dataflow.md`` shows the rules in this order, each with the first line of its docstring.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import NamedTuple

from include.soar.judge.candidate import Candidate
from include.soar.judge.evidence import lacking, speaking
from include.soar.judge.steps import Ladder, enough, ladder
from include.soar.model import Indicator, ObservableType, Refusal


class Plan(NamedTuple):
    """
    What is to become of an observable.

    :param acted: with the steps that are taken at once
    :param held: with those that wait for a person
    :param refusal: why nothing is done
    """

    acted: Indicator | None = None
    held: Indicator | None = None
    refusal: Refusal | None = None


def protected(candidate: Candidate, made: Ladder) -> Refusal | None:
    """The never-block gate protects it (the gate's own layers: `own`, `partner`, `well-known`, …)."""
    if not (hit := candidate.inputs.hit):
        return None
    return candidate.refused(hit.layer, hit.entry, hit.reason, list_name=hit.list_name)


def too_wide(candidate: Candidate, made: Ladder) -> Refusal | None:
    """It is a network wider than `block.widest_prefix` allows (layer `width`)."""
    if candidate.observable.type is not ObservableType.CIDR:
        return None
    network, widest = ipaddress.ip_network(candidate.observable.value), candidate.policy.block.widest_prefix
    name, shortest = ("ipv4", widest.ipv4) if network.version == 4 else ("ipv6", widest.ipv6)
    if network.prefixlen >= shortest:
        return None
    reason = f"/{network.prefixlen} is wider than block.widest_prefix.{name} /{shortest}"
    return candidate.refused("width", name, reason, list_name="block.widest_prefix")


def wrong_role(candidate: Candidate, made: Ladder) -> Refusal | None:
    """It was only seen in roles that `block.roles` does not allow, such as a claim (layer `role`)."""
    if candidate.acting:
        return None
    played = ", ".join(sorted({s.role.value for s in candidate.seen}))
    allowed = ", ".join(sorted(role.value for role in candidate.policy.block.roles))
    return candidate.refused("role", played, f"only seen as {played}: block.roles allows {allowed}")


def lifted(candidate: Candidate, made: Ladder) -> Refusal | None:
    """A person lifted it, and it was not seen since (layer `lifted`)."""
    earlier = candidate.earlier
    if earlier.lifted_at is None or candidate.last_seen_at > earlier.lifted_at:
        return None
    why = f": {earlier.lifted_why}" if earlier.lifted_why else ""
    reason = (
        f"lifted by {earlier.lifted_by or 'an unnamed user'} at {earlier.lifted_at:%Y-%m-%d %H:%M}Z{why}; "
        f"last seen at {candidate.last_seen_at:%Y-%m-%d %H:%M}Z"
    )
    return candidate.refused("lifted", earlier.lifted_by or "lifted", reason)


def too_little_evidence(candidate: Candidate, made: Ladder) -> Refusal | None:
    """Its evidence leads to no rung of `response.rungs` (layer `evidence`)."""
    if made.ways or made.asked:
        return None
    ways = candidate.policy.response.rungs.block_long.evidence
    takes = "; or ".join(told for way in ways if (told := lacking(way, candidate)))
    said = f"called malicious by {speaking(candidate)}, in a finding of severity {candidate.severity.value}"
    return candidate.refused("evidence", "response.rungs", f"{said}: it takes {takes}" if takes else said)


def no_time(candidate: Candidate, made: Ladder) -> Refusal | None:
    """No rung that it reaches has `hours` for its type (layer `type`)."""
    kind, rungs = candidate.observable.type, candidate.policy.response.rungs
    if any(kind in rungs.each[rung].hours for rung in (*made.ways, *made.asked)):
        return None
    return candidate.refused("type", kind.value, f"response.rungs names no hours for {kind.value}")


def shared(candidate: Candidate, made: Ladder) -> Refusal | None:
    """Too many good users share the address, by `block.shared_address`, and it reaches blocks only (layer `shared`)."""
    if not candidate.sharing or made.steps or made.waiting or made.expired:
        return None
    return candidate.refused("shared", *candidate.sharing, list_name="block.shared_address")


def expired(candidate: Candidate, made: Ladder) -> Refusal | None:
    """Its last sighting is older than the response would last: it may be someone else's by now (layer `expired`)."""
    if not made.expired:
        return None
    seen, ended = f"{candidate.last_seen_at:%Y-%m-%d %H:%M}Z", f"{made.expired:%Y-%m-%d %H:%M}Z"
    return candidate.refused("expired", ended, f"last seen {seen}: it would have ended at {ended}")


Rule = Callable[[Candidate, Ladder], Refusal | None]
#: Asked in this order; the first that refuses wins. Each may rely on those before it.
REFUSALS: tuple[Rule, ...] = (
    protected,
    too_wide,
    wrong_role,
    lifted,
    too_little_evidence,
    no_time,
    shared,
    expired,
)


def plan_for(candidate: Candidate) -> Plan:
    """What is done, what waits, or by which rule nothing is done. Empty: nothing speaks for doing anything."""
    if not candidate.seen or not (candidate.acting or candidate.is_malicious):
        return Plan()
    made = ladder(candidate) if candidate.acting else Ladder()
    # No provider is asked about a protected value, so there may be no verdict. An attack from it is told all the same.
    if not (candidate.is_malicious or candidate.inputs.hit or made.ways or made.asked):
        return Plan()
    for rule in REFUSALS:
        if refusal := rule(candidate, made):
            return Plan(refusal=refusal)
    words = enough(candidate, made)
    return Plan(
        candidate.indicator(made.steps, enough=words) if made.steps else None,
        candidate.indicator(made.waiting, hold_reasons=made.why_waiting, enough=words) if made.waiting else None,
    )
