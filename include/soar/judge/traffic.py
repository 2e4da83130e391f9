"""Who else uses an address. Blocking one that many good users share does more harm than good. Pure.

What counts as good is ours to say (``block.shared_address`` in the policy). An attack itself proves nothing: in a
credential stuffing one address goes with hundreds of accounts, and every one of them is a victim. So users count only
from findings of little severity, and never one whom a severe finding names too; requests count where the vendor gives
all of them and the malicious ones.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from include.soar.extract.values import parse_address
from include.soar.model import Finding, Observable, ObservableType, Traffic, digest

if TYPE_CHECKING:
    from include.soar.policy.rules import SharedAddressPolicy


#: The types of observable for which findings count traffic.
ADDRESSES = (ObservableType.IPV4, ObservableType.IPV6)


class Statement(NamedTuple):
    """What one finding says about one address."""

    finding: Finding
    traffic: Traffic


def address_of(text: str) -> str | None:
    """A vendor's text as an observable spells the address; None where it is no address."""
    found = parse_address(text)
    return found.value if found else None


def pseudonym(source: str, kind: str, value: str) -> str:
    """Always the same for one user, token or client of a source. The name itself stays in the archived page."""
    return digest([source, kind, value])[:16]


def by_address(findings: Iterable[Finding]) -> dict[str, list[Statement]]:
    """What the findings say about traffic, by address."""
    found: dict[str, list[Statement]] = {}
    for finding in findings:
        for traffic in finding.traffic:
            found.setdefault(traffic.address, []).append(Statement(finding, traffic))
    return found


def behind(observable: Observable, statements: Mapping[str, list[Statement]]) -> list[Statement]:
    """What is said about an address, or about the addresses of a network."""
    if observable.type is ObservableType.CIDR:
        network = ipaddress.ip_network(observable.value)
        return [s for text, said in statements.items() if ipaddress.ip_address(text) in network for s in said]
    return statements.get(observable.value, []) if observable.type in ADDRESSES else []


def asn_said(statements: Sequence[Statement]) -> int | None:
    """The autonomous system that the vendors name; of several, that of the latest finding."""
    said = [(s.finding.detected_at, s.finding.uid, s.traffic.asn) for s in statements if s.traffic.asn]
    return max(said)[2] if said else None


def good_users(statements: Sequence[Statement], rules: SharedAddressPolicy) -> tuple[str, str] | None:
    """
    Whether too many good users are behind it.

    :return: the name of the policy's number that is reached, and the reason in words; None where none is
    """
    ordinary: set[str] = set()
    accused: set[str] = set()
    for finding, traffic in statements:
        little = finding.severity.rank <= rules.ordinary_up_to_severity.rank
        (ordinary if little else accused).update(traffic.users)
    users = ordinary - accused
    if len(users) >= rules.distinct_users:
        return "distinct_users", (
            f"{len(users)} different users in findings of severity {rules.ordinary_up_to_severity.value} or less share "
            f"it: block.shared_address.distinct_users is {rules.distinct_users}"
        )
    for finding, traffic in statements:
        everything, bad = traffic.requests, traffic.malicious_requests
        if everything and bad is not None:
            good = max(0, everything - bad)
            # Both: a flood with a thousand good requests in it is a flood, and nine good ones of ten prove little.
            if good >= rules.good_requests and good >= rules.good_share * everything:
                return "good_requests", (
                    f"{good} of {everything} requests in {finding.vendor_id} are no part of the attack: "
                    f"block.shared_address asks for {rules.good_requests} and {rules.good_share:.0%}"
                )
    return None
