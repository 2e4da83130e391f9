"""What the SOC decides: priority, verdict, the never-block gate, and what to act on for how long.

The only place that knows thresholds. Pure: policy and data in, decision out; the clock is an argument.
"""

from __future__ import annotations

import ipaddress
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from include.soar.model import (
    Answer,
    Decision,
    Finding,
    Indicator,
    Observable,
    ObservableType,
    Observed,
    Priority,
    Refusal,
    Reputation,
    Role,
    Severity,
    Standing,
    Verdict,
    digest,
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class PolicyError(ValueError):
    """The policy file is wrong; the message names file, field and problem."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourcePolicy(Section):
    malicious_from: int = Field(ge=1, le=100)
    suspicious_from: int = Field(ge=1, le=100)
    weight: float = Field(gt=0, le=1)
    top_grade: bool


class PriorityPolicy(Section):
    minimum_severity: Severity


class BlockPolicy(Section):
    roles: frozenset[Role]
    with_one_source_from_severity: Severity
    days: dict[ObservableType, int]
    maximum_per_run: int = Field(ge=1)

    @field_validator("roles")
    @classmethod
    def _never_ours(cls, roles: frozenset[Role]) -> frozenset[Role]:
        forbidden = roles & {Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED}
        if forbidden:
            raise ValueError(f"{sorted(forbidden)} can never be blocked: anybody can write them, or they are ours")
        return roles


class RelatedPolicy(Section):
    days: int = Field(ge=1)
    maximum_per_incident: int = Field(ge=1)


class ReputationHours(Section):
    listed: float = Field(gt=0)
    not_listed: float = Field(gt=0)


class Protected(Section):
    networks: tuple[str, ...]
    domains: tuple[str, ...]

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)

    @field_validator("domains")
    @classmethod
    def _are_domains(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_protected_name(domain) for domain in domains)


def _protected_name(text: str) -> str:
    """A name as observables spell it. What could never match is an error: it would protect nothing, silently."""
    name = text.strip().lower().removeprefix("*.").strip(".")
    if not name.isascii():
        name = name.encode("idna").decode()
    if not _NAME.fullmatch(name):
        raise ValueError(f"{text!r} is not a domain name")
    return name


class NeverBlock(Section):
    documentation_ranges_are_real: bool
    own: Protected
    partners: Protected
    well_known: Protected


class Policy(Section):
    """The whole of ``include/config/policy.yaml``, which documents each field."""

    version: int
    priority: PriorityPolicy
    sources: dict[str, SourcePolicy]
    block: BlockPolicy
    related: RelatedPolicy
    reputation_hours: ReputationHours
    never_block: NeverBlock

    @cached_property
    def digest(self) -> str:
        document = self.model_dump(mode="json")
        document["block"]["roles"] = sorted(document["block"]["roles"])
        return digest(document)

    @cached_property
    def gate(self) -> Gate:
        return Gate(self.never_block)


def load_policy(paths: Sequence[Path]) -> Policy:
    """
    The policy of the first file, with each later file laid over it.

    :raises PolicyError: naming file and field
    """
    document: dict[str, Any] = {}
    for path in paths:
        try:
            layer = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"{path}: {error}") from None
        if not isinstance(layer, dict):
            raise PolicyError(f"{path}: is not a mapping")
        document = _overlay(document, layer)
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False, include_input=False)
        )
        raise PolicyError(f"{', '.join(map(str, paths))}: {problems}") from None


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


# --- the never-block gate ---------------------------------------------------------------------------------

#: IANA special-purpose registries (RFC 6890 and successors). Written out, because the tables behind
#: ``ipaddress.is_global`` changed between patch releases of Python, and it calls multicast global.
SPECIAL_PURPOSE: dict[str, str] = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "carrier-grade NAT",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "IETF protocol assignments",
    "192.88.99.0/24": "6to4 relay anycast",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "benchmarking",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved and broadcast",
    "64:ff9b:1::/48": "translation inside one network",
    "::/128": "unspecified",
    "::1/128": "loopback",
    "100::/64": "discard-only",
    "2001::/23": "IETF protocol assignments",
    "5f00::/16": "segment routing",
    "fc00::/7": "unique local",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
DOCUMENTATION: dict[str, str] = {
    "192.0.2.0/24": "documentation",
    "198.51.100.0/24": "documentation",
    "203.0.113.0/24": "documentation",
    "2001:db8::/32": "documentation",
    "3fff::/20": "documentation",
}
#: RFC 6761 and successors: names that mean nothing on the Internet. ``example`` counts as documentation.
SPECIAL_NAMES = ("localhost", "local", "internal", "invalid", "test", "onion", "home.arpa", "in-addr.arpa", "ip6.arpa")

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def unwrap(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 IPv6 address; any other address as it is."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class Hit(BaseModel):
    """Why something is protected: which layer of the gate, which entry of it, in words."""

    model_config = ConfigDict(frozen=True)
    layer: str
    entry: str
    reason: str


class NetworkTable:
    """Networks with a value each; look-up by address in logarithmic time. Overlaps: the longest prefix wins."""

    def __init__(self, entries: Iterable[tuple[Network, Hit]]) -> None:
        self._tables: dict[int, tuple[list[int], list[Hit | None]]] = {}
        by_version: dict[int, list[tuple[int, int, int, Hit]]] = {4: [], 6: []}
        for network, hit in entries:
            first, last = int(network.network_address), int(network.broadcast_address)
            by_version[network.version].append((first, last, network.prefixlen, hit))
        for version, rows in by_version.items():
            self._tables[version] = self._flatten(rows)

    @staticmethod
    def _flatten(rows: list[tuple[int, int, int, Hit]]) -> tuple[list[int], list[Hit | None]]:
        # Networks nest or are disjoint, so one pass with a stack gives disjoint intervals.
        starts: list[int] = []
        hits: list[Hit | None] = []
        stack: list[tuple[int, Hit]] = []

        def cut(at: int, hit: Hit | None) -> None:
            if starts and starts[-1] == at:
                hits[-1] = hit
            else:
                starts.append(at)
                hits.append(hit)

        for first, last, _, hit in sorted(rows, key=lambda row: (row[0], row[2])):
            while stack and stack[-1][0] < first:
                ended, _ = stack.pop()
                cut(ended + 1, stack[-1][1] if stack else None)
            cut(first, hit)
            stack.append((last, hit))
        while stack:
            ended, _ = stack.pop()
            cut(ended + 1, stack[-1][1] if stack else None)
        return starts, hits

    def get(self, address: Address) -> Hit | None:
        starts, hits = self._tables[address.version]
        place = bisect_right(starts, int(address)) - 1
        return hits[place] if place >= 0 else None


class Gate:
    """What is never blocked, whatever speaks against it. The first layer that knows a value answers."""

    def __init__(self, rules: NeverBlock) -> None:
        special = dict(SPECIAL_PURPOSE)
        if not rules.documentation_ranges_are_real:
            special |= DOCUMENTATION
        self._special = self._table("special-purpose", special)
        self._layers: list[tuple[str, NetworkTable, frozenset[str]]] = []
        for layer, protected, words in (
            ("own", rules.own, "ours"),
            ("partner", rules.partners, "a partner's"),
            ("well-known", rules.well_known, "well-known good infrastructure"),
        ):
            networks = self._table(layer, dict.fromkeys(protected.networks, words))
            self._layers.append((layer, networks, frozenset(protected.domains)))
        self._names = SPECIAL_NAMES if rules.documentation_ranges_are_real else (*SPECIAL_NAMES, "example")

    @staticmethod
    def _table(layer: str, networks: Mapping[str, str]) -> NetworkTable:
        return NetworkTable(
            (ipaddress.ip_network(network), Hit(layer=layer, entry=network, reason=f"{network} is {words}"))
            for network, words in networks.items()
        )

    def special_purpose(self, observable: Observable) -> Hit | None:
        """Whether an observable means nothing on the Internet: such a thing is not asked about either."""
        if observable.is_address:
            return self._special.get(unwrap(ipaddress.ip_address(observable.value)))
        name = _host_of(observable)
        if name is None or not isinstance(name, str):
            return self._special.get(unwrap(name)) if name is not None else None
        for suffix in _suffixes(name):
            if suffix in self._names:
                return Hit(layer="special-purpose", entry=suffix, reason=f"names below {suffix} are special-use")
        return None

    def private(self, observable: Observable) -> Hit | None:
        """Why this is nobody else's business, or None: such a value is never sent to a provider."""
        hit = self.check(observable)
        return hit if hit and hit.layer in ("special-purpose", "own", "partner") else None

    def check(self, observable: Observable) -> Hit | None:
        """The reason why this is never blocked, or None."""
        if hit := self.special_purpose(observable):
            return hit
        host: Address | str | None
        host = ipaddress.ip_address(observable.value) if observable.is_address else _host_of(observable)
        if host is None:
            return None
        for layer, networks, domains in self._layers:
            if not isinstance(host, str):
                # Both disguises and plain: an IPv4 address inside an IPv6 one is that IPv4 address.
                if hit := networks.get(unwrap(host)) or networks.get(host):
                    return hit
                continue
            for suffix in _suffixes(host):
                if suffix in domains:
                    return Hit(layer=layer, entry=suffix, reason=f"{suffix} and all names below it are protected")
        return None


def _suffixes(name: str) -> Iterable[str]:
    """``a.b.c`` -> ``a.b.c``, ``b.c``, ``c``."""
    labels = name.split(".")
    return (".".join(labels[i:]) for i in range(len(labels)))


def _host_of(observable: Observable) -> Address | str | None:
    """The host that a domain, URL or e-mail address names; None for a file."""
    value = observable.value
    if observable.type is ObservableType.DOMAIN:
        return value
    if observable.type is ObservableType.EMAIL:
        return value.rsplit("@", 1)[-1].lower()
    if observable.type is ObservableType.URL:
        authority = value.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0].rsplit("@", 1)[-1]
        host = authority[1:].split("]", 1)[0] if authority.startswith("[") else authority.rsplit(":", 1)[0]
        try:
            return ipaddress.ip_address(host)
        except ValueError:
            return host.lower().rstrip(".")
    return None


# --- verdicts and plan --------------------------------------------------------------------------------------


def judge(observable: Observable, reputations: Sequence[Reputation], policy: Policy) -> Verdict:
    """
    One verdict from all providers' answers. Not checked is never read as clean, and nothing known is unknown.

    Confidence: independent sources as independent evidence, ``1 - prod(1 - weight * score)`` over the sources
    on the winning side, in percent.
    """
    reasons: list[str] = []
    malicious: list[float] = []
    suspicious: list[float] = []
    clean = 0
    for reputation in sorted(reputations, key=lambda r: r.provider):
        rule = policy.sources.get(reputation.provider)
        if reputation.score is None or rule is None:
            reasons.append(f"{reputation.provider}: {reputation.answer.value} ({reputation.summary or 'no detail'})")
            continue
        strength = rule.weight * reputation.score / 100
        if reputation.answer is Answer.LISTED and reputation.score >= rule.malicious_from:
            malicious.append(strength)
            word = f"malicious (score {reputation.score} ≥ {rule.malicious_from})"
        elif reputation.answer is Answer.LISTED and reputation.score >= rule.suspicious_from:
            suspicious.append(strength)
            word = f"suspicious (score {reputation.score} ≥ {rule.suspicious_from})"
        else:
            clean += 1
            word = f"nothing against it (score {reputation.score})"
        detail = f": {reputation.summary}" if reputation.summary else ""
        reasons.append(f"{reputation.provider}: {word}{detail}")
    if malicious:
        standing, strengths = Standing.MALICIOUS, malicious + suspicious
    elif suspicious:
        standing, strengths = Standing.SUSPICIOUS, suspicious
    else:
        standing, strengths = Standing.UNKNOWN, []
        reasons.append("no source speaks against it" if clean else "no source could be asked")
    doubt = 1.0
    for strength in strengths:
        doubt *= 1 - strength
    return Verdict(
        observable=observable,
        standing=standing,
        confidence=round((1 - doubt) * 100),
        reasons=tuple(reasons),
        reputations=tuple(sorted(reputations, key=lambda r: r.provider)),
    )


def decide(
    findings: Sequence[Finding],
    observed: Sequence[Observed],
    reputations: Mapping[str, Sequence[Reputation]],
    policy: Policy,
    *,
    minimum_severity: Severity | None = None,
    silent_providers: Sequence[str] = (),
    now: datetime,
) -> Decision:
    """
    From findings and answers to a decision.

    :param reputations: by observable key
    :param minimum_severity: overrides the policy's
    :param now: an observable whose block would already be over is not planned
    """
    floor = minimum_severity or policy.priority.minimum_severity
    priorities = tuple(
        Priority(
            finding_uid=f.uid,
            high=f.severity.rank >= floor.rank,
            reason=f"severity {f.severity.value} is {_compared(f.severity, floor)} {floor.value}",
        )
        for f in findings
    )
    high = {p.finding_uid for p in priorities if p.high}
    by_uid = {f.uid: f for f in findings}
    verdicts: list[Verdict] = []
    indicators: list[Indicator] = []
    refusals: list[Refusal] = []
    for item in observed:
        verdict = judge(item.observable, reputations.get(item.observable.key, ()), policy)
        verdicts.append(verdict)
        outcome = _indicator(item, verdict, by_uid, high, policy, now)
        if isinstance(outcome, Indicator):
            indicators.append(outcome)
        elif outcome is not None:
            refusals.append(outcome)
    if len(indicators) > policy.block.maximum_per_run:
        reason = (
            f"{len(indicators)} indicators in one run are more than block.maximum_per_run "
            f"{policy.block.maximum_per_run}: nothing is blocked until a person has looked"
        )
        refusals.extend(
            Refusal(
                observable=i.observable,
                layer="cap",
                entry="block.maximum_per_run",
                reason=reason,
                finding_uids=i.finding_uids,
            )
            for i in indicators
        )
        indicators = []
    return Decision(
        policy_digest=policy.digest,
        priorities=priorities,
        verdicts=tuple(verdicts),
        indicators=tuple(indicators),
        refusals=tuple(refusals),
        silent_providers=tuple(silent_providers),
    )


def _compared(severity: Severity, floor: Severity) -> str:
    return "at least" if severity.rank >= floor.rank else "below"


def _indicator(
    item: Observed,
    verdict: Verdict,
    by_uid: Mapping[str, Finding],
    high: set[str],
    policy: Policy,
    now: datetime,
) -> Indicator | Refusal | None:
    """What to do about one observable: act, refuse and say why, or (nothing speaks for acting) nothing."""
    uids = tuple(sorted({s.finding_uid for s in item.sightings} & high))
    if not uids or verdict.standing is not Standing.MALICIOUS:
        return None

    def refuse(layer: str, entry: str, reason: str) -> Refusal:
        return Refusal(observable=item.observable, layer=layer, entry=entry, reason=reason, finding_uids=uids)

    if hit := policy.gate.check(item.observable):
        return refuse(hit.layer, hit.entry, hit.reason)
    seen = [s for s in item.sightings if s.finding_uid in uids]
    # From here on only what was seen in such a role counts: a claim neither adds weight nor prolongs a block.
    acting = [s for s in seen if s.role in policy.block.roles]
    roles = sorted({s.role for s in acting})
    if not roles:
        played = ", ".join(sorted({s.role.value for s in seen}))
        return refuse("role", played, f"only seen as {played}: block.roles allows {_listing(policy.block.roles)}")
    listing = [r for r in verdict.reputations if _lists(r, policy)]
    top = [r for r in listing if policy.sources[r.provider].top_grade]
    worst = max((by_uid[s.finding_uid].severity for s in acting), key=lambda severity: severity.rank)
    voices = {r.provider for r in listing}
    enough = len(voices) >= 2 or top or worst.rank >= policy.block.with_one_source_from_severity.rank
    if not enough:
        return refuse(
            "evidence", listing[0].provider, f"one source of ordinary grade and severity {worst.value} are not enough"
        )
    days = policy.block.days.get(item.observable.type)
    if days is None:
        return refuse("type", item.observable.type.value, f"block.days names no time for {item.observable.type.value}")
    last_seen = max(s.seen_at for s in acting)
    expires_at = last_seen + timedelta(days=days)
    if expires_at <= now:
        return refuse(
            "expired",
            f"{days} days",
            f"last seen {last_seen:%Y-%m-%d %H:%M}Z, more than {days} days ago: may be someone else's",
        )
    return Indicator(
        observable=item.observable,
        confidence=verdict.confidence,
        reasons=verdict.reasons,
        roles=tuple(roles),
        first_seen_at=min(s.seen_at for s in acting),
        last_seen_at=last_seen,
        # From the last sighting, not from now: a repeated run then asks for the very same block.
        expires_at=expires_at,
        finding_uids=uids,
    )


def _lists(reputation: Reputation, policy: Policy) -> bool:
    rule = policy.sources.get(reputation.provider)
    listed = reputation.answer is Answer.LISTED and reputation.score is not None
    return rule is not None and listed and (reputation.score or 0) >= rule.malicious_from


def _listing(roles: Iterable[Role]) -> str:
    return ", ".join(sorted(role.value for role in roles))
