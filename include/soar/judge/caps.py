"""How much one run may block by itself, and what becomes of held blocks once a person has answered. Pure.

A run that would block more is rather a mistake, of ours or of a source, than a busy night: it blocks nothing and asks.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from include.soar.gate.asn import AsnTable
from include.soar.judge.traffic import ADDRESSES, Statement, asn_said, behind
from include.soar.model import Approval, ApprovalAnswer, Decision, Indicator, Observable, ObservableType, Refusal
from include.soar.policy.rules import BlockPolicy

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: What counts as one network.
NETWORK_PREFIX = {4: 24, 6: 48}
#: At most so many networks or systems are named; the others are only counted.
MOST_NAMED = 5


class Exceeded(NamedTuple):
    """Which caps the indicators exceed, and which could not be checked. Both in words."""

    reasons: tuple[str, ...]
    remarks: tuple[str, ...]


def check_caps(
    indicators: Sequence[Indicator],
    statements: Mapping[str, list[Statement]],
    rules: BlockPolicy,
    asns: AsnTable | None,
) -> Exceeded:
    """
    Compare what a run would block with the caps per run, network and autonomous system.

    :param statements: what the findings say about traffic, by address
    :param asns: the table that ``block.asn_table`` names, if any
    """
    addresses = [i.observable for i in indicators if i.observable.type in (*ADDRESSES, ObservableType.CIDR)]
    reasons = []
    if len(indicators) > rules.maximum_per_run:
        reasons.append(f"{len(indicators)} indicators in one run: block.maximum_per_run is {rules.maximum_per_run}")
    networks = Counter(str(_around(observable)) for observable in addresses)
    reasons += _exceeding(networks, rules.maximum_per_network, "block.maximum_per_network")
    known = [asn_said(behind(o, statements)) or _looked_up(o, asns) for o in addresses]
    systems = Counter(f"AS{asn}" for asn in known if asn)
    reasons += _exceeding(systems, rules.maximum_per_asn, "block.maximum_per_asn")
    remarks = []
    if unknown := sum(asn is None for asn in known):
        table = f"block.asn_table {rules.asn_table}" if rules.asn_table else "block.asn_table is null, so no table"
        remarks.append(
            f"block.maximum_per_asn could not be applied to {unknown} of {len(known)} addresses: no finding and "
            f"{table} knows their autonomous system"
        )
    return Exceeded(tuple(reasons), tuple(remarks))


def _around(observable: Observable) -> Network:
    network = ipaddress.ip_network(observable.value)
    prefix = NETWORK_PREFIX[network.version]
    return network.supernet(new_prefix=prefix) if network.prefixlen > prefix else network


def _looked_up(observable: Observable, asns: AsnTable | None) -> int | None:
    return asns.get(ipaddress.ip_network(observable.value).network_address) if asns else None


def _exceeding(counts: Counter[str], most: int, name: str) -> list[str]:
    """The largest number first, then by name, so that the same run always gives the same words."""
    above = sorted((-n, what) for what, n in counts.items() if n > most)
    words = [f"{-n} addresses of {what} in one run: {name} is {most}" for n, what in above[:MOST_NAMED]]
    return [*words, f"and {len(above) - MOST_NAMED} more beyond {name}"] if len(above) > MOST_NAMED else words


def settle(decision: Decision, approval: Approval, *, now: datetime) -> Decision:
    """
    The decision once the question is answered. What is held is acted on if a person approved it, else refused.

    :param now: what has expired by then is refused although it was approved
    """
    approved = approval.answer is ApprovalAnswer.APPROVED
    indicators = tuple(i for i in decision.held if approved and i.expires_at > now)
    told = {
        ApprovalAnswer.REJECTED: (
            "rejected",
            f"rejected by {approval.by or 'an unnamed user'} at {approval.at:%Y-%m-%d %H:%M}Z",
        ),
        ApprovalAnswer.NOBODY: ("unanswered", f"nobody answered until {approval.at:%Y-%m-%d %H:%M}Z"),
        ApprovalAnswer.APPROVED: ("expired", "it had expired when the answer came"),
    }
    entry, reason = told[approval.answer]
    refusals = tuple(
        Refusal(
            observable=i.observable,
            layer="approval",
            list_name="block.approval",
            entry=entry,
            reason=reason,
            finding_uids=i.finding_uids,
        )
        for i in decision.held
        if i not in indicators
    )
    return decision.model_copy(
        update={
            "indicators": indicators,
            "refusals": decision.refusals + refusals,
            "held": (),
            "approval": approval,
        }
    )
