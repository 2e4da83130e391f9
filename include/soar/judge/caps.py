"""How much one run may block by itself, and what becomes of what waits once a person has answered. Pure.

What would exceed a cap is rather a mistake, of ours or of a source, than a busy night: it waits for a person. All else
goes on, or an attacker with many addresses in one network could keep every other block from being made.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from include.soar.gate.asn import AsnTable
from include.soar.judge.steps import merged
from include.soar.judge.traffic import ADDRESSES, Statement, asn_said, behind
from include.soar.model import (
    Approval,
    ApprovalAnswer,
    Decision,
    Indicator,
    Observable,
    ObservableType,
    Refusal,
    Rung,
    Step,
)
from include.soar.policy.rules import BlockPolicy, Policy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What counts as one network.
NETWORK_PREFIX = {4: 24, 6: 48}
BLOCKS = frozenset(rung for rung in Rung if rung.is_block)


class Exceeded(NamedTuple):
    """
    What the caps hold.

    :param reasons: by the key of an observable whose blocks wait: every cap that holds it, in words
    :param crowded: the networks above their cap, each with its indicators
    :param remarks: which caps could not be checked, in words
    """

    reasons: dict[str, tuple[str, ...]]
    crowded: dict[Network, tuple[Indicator, ...]]
    remarks: tuple[str, ...]


def check_caps(
    indicators: Sequence[Indicator],
    statements: Mapping[str, list[Statement]],
    rules: BlockPolicy,
    asns: AsnTable | None,
    *,
    in_force: Collection[str] = (),
) -> Exceeded:
    """
    Compare the new blocks of a run with the caps per network, autonomous system and run, in this order.

    :param statements: what the findings say about traffic, by address
    :param asns: the table that ``block.asn_table`` names, if any
    :param in_force: keys of observables that are blocked already: they do not count
    """
    new = [i for i in indicators if i.only(BLOCKS) and i.observable.key not in in_force]
    addresses = [i for i in new if i.observable.type in (*ADDRESSES, ObservableType.CIDR)]
    networks: dict[Network, list[Indicator]] = {}
    systems: dict[int, list[Indicator]] = {}
    unknown = 0
    for indicator in addresses:
        observable = indicator.observable
        networks.setdefault(_around(observable), []).append(indicator)
        asn = asn_said(behind(observable, statements)) or _looked_up(observable, asns)
        unknown += asn is None
        if asn:
            systems.setdefault(asn, []).append(indicator)
    crowded = {n: tuple(held) for n, held in networks.items() if len(held) > rules.maximum_per_network}
    held: dict[str, tuple[str, ...]] = {}
    _hold(held, crowded.items(), "block.maximum_per_network", rules.maximum_per_network)
    busy = [(f"AS{asn}", found) for asn, found in systems.items() if len(found) > rules.maximum_per_asn]
    _hold(held, busy, "block.maximum_per_asn", rules.maximum_per_asn)
    left = sorted((i for i in new if i.observable.key not in held), key=_strongest_first)
    for indicator in left[rules.maximum_per_run :]:
        number, most = len(left), rules.maximum_per_run
        reason = f"{number} new blocks in one run: block.maximum_per_run is {most}, and others have stronger evidence"
        held[indicator.observable.key] = (reason,)
    remarks = []
    if unknown:
        table = f"block.asn_table {rules.asn_table}" if rules.asn_table else "block.asn_table is null, so no table"
        remarks.append(
            f"block.maximum_per_asn could not be applied to {unknown} of {len(addresses)} addresses: no finding and "
            f"{table} knows their autonomous system"
        )
    return Exceeded(held, crowded, tuple(remarks))


def _hold(
    held: dict[str, tuple[str, ...]], groups: Iterable[tuple[object, Sequence[Indicator]]], name: str, most: int
) -> None:
    for what, indicators in groups:
        reason = f"{len(indicators)} addresses of {what} in one run: {name} is {most}"
        for indicator in indicators:
            held[indicator.observable.key] = (*held.get(indicator.observable.key, ()), reason)


def _strongest_first(indicator: Indicator) -> tuple[int, int, int, str]:
    """The highest rung, then the most ways to it, then the surest; by key, so that the same run gives the same."""
    step = indicator.steps[-1]
    return -step.rung.rank, -len(step.ways), -indicator.confidence, indicator.observable.key


def as_one(network: Network, members: Sequence[Indicator], policy: Policy) -> Indicator | None:
    """
    A crowded network in place of its addresses, for a person to choose; None where the policy blocks no such network.

    It is blocked no longer and on no higher rung than each of its addresses would be. Whether the gate protects it and
    who shares it is for the caller to ask.
    """
    widest = policy.block.widest_prefix
    if network.prefixlen < (widest.ipv4 if network.version == 4 else widest.ipv6):
        return None
    last_seen_at = max(i.last_seen_at for i in members)
    rungs = [rung for rung in Rung if rung.is_block and all(rung in {s.rung for s in i.steps} for i in members)]
    hours = {rung: policy.response.rungs.each[rung].hours.get(ObservableType.CIDR) for rung in rungs}
    reason = f"in place of its {len(members)} addresses"
    steps = tuple(
        Step(rung=rung, expires_at=last_seen_at + timedelta(hours=lasts), ways=(f"{len(members)} of its addresses",))
        for rung, lasts in hours.items()
        if lasts
    )
    if not steps:
        return None
    return Indicator(
        observable=Observable(type=ObservableType.CIDR, value=str(network)),
        confidence=min(i.confidence for i in members),
        reasons=(reason,),
        roles=tuple(sorted({role for i in members for role in i.roles})),
        first_seen_at=min(i.first_seen_at for i in members),
        last_seen_at=last_seen_at,
        expires_at=steps[-1].expires_at,
        finding_uids=tuple(sorted({uid for i in members for uid in i.finding_uids})),
        steps=steps,
        hold_reasons=(f"offered {reason}, which exceed block.maximum_per_network",),
    )


def _around(observable: Observable) -> Network:
    network = ipaddress.ip_network(observable.value)
    prefix = NETWORK_PREFIX[network.version]
    return network.supernet(new_prefix=prefix) if network.prefixlen > prefix else network


def _looked_up(observable: Observable, asns: AsnTable | None) -> int | None:
    return asns.get(ipaddress.ip_network(observable.value).network_address) if asns else None


# --- once a person has answered ------------------------------------------------------------------------------------


def settle(
    decision: Decision, approval: Approval, *, now: datetime, acts_unanswered: Collection[Rung] = ()
) -> Decision:
    """
    The decision once the question is answered: of what waits, what was chosen is acted on, all else refused.

    :param now: what has expired by then is refused although it was approved
    :param acts_unanswered: rungs that are acted on though nobody answered: ``policy.response.approval`` has them
    """
    acted = {i.observable.key: i for i in decision.indicators}
    refusals = list(decision.refusals)
    for item in decision.held:
        entry, reason = _answer_about(item, approval)
        wanted = item
        if approval.answer is ApprovalAnswer.NOBODY and (unasked := item.only(acts_unanswered)):
            wanted, entry = unasked, ""
        lasting = tuple(step for step in wanted.steps if step.expires_at > now)
        if not entry and wanted.expires_at > now and (lasting or not wanted.steps):
            taken = wanted.model_copy(update={"steps": lasting}) if wanted.steps else wanted
            acted[item.observable.key] = merged(acted.get(item.observable.key), taken)
        else:
            refusals.append(
                Refusal(
                    observable=item.observable,
                    layer="approval",
                    list_name="response.approval",
                    entry=entry or "expired",
                    reason=reason if entry else "it had expired when the answer came",
                    finding_uids=item.finding_uids,
                )
            )
    return decision.model_copy(
        update={
            "indicators": tuple(acted.values()),
            "refusals": tuple(refusals),
            "held": (),
            "approval": approval,
        }
    )


def _answer_about(item: Indicator, approval: Approval) -> tuple[str, str]:
    """Why an item is refused, as entry and reason; empty: it is not."""
    at, who = f"{approval.at:%Y-%m-%d %H:%M}Z", approval.by or "an unnamed user"
    comment = f": {approval.comment}" if approval.comment else ""
    match approval.answer:
        case ApprovalAnswer.REJECTED:
            return "rejected", f"rejected by {who} at {at}{comment}"
        case ApprovalAnswer.NOBODY:
            return "unanswered", f"nobody answered until {at}"
        case ApprovalAnswer.APPROVED:
            if approval.chosen is not None and item.observable.key not in approval.chosen:
                return "rejected", f"not among what {who} chose at {at}{comment}"
            return "", ""
