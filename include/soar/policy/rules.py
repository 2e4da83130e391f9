"""What the SOC decides, as the schema of ``include/config/policy.yaml``: thresholds, weights, caps, never-block rules.

The gate that follows from it is in ``gate.py``, the judgement in ``verdicts.py``, the plan in ``plan.py``.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from include.soar.enrich.quota import Quota
from include.soar.extract.text import OwnSurface
from include.soar.gate.asn import AsnTable
from include.soar.gate.gate import Gate, host_of_url
from include.soar.gate.warninglists import plain_name
from include.soar.model import HASH_BY_LENGTH, Instant, ObservableType, Reliability, Role, Severity, Tlp, digest


class PolicyError(ValueError):
    """The policy file is wrong; the message names file, field and problem."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Percent = Annotated[int, Field(ge=0, le=100)]


def _complete(weights: dict[Any, int], words: type[StrEnum]) -> dict[Any, int]:
    """In the words' own order; each has its weight, since a forgotten one would silently be nothing."""
    missing = [word.value for word in words if word not in weights]
    if missing:
        raise ValueError(f"has no weight for {', '.join(missing)}")
    return {word: weights[word] for word in words}


def _never_claimed(roles: frozenset[Role], what: str) -> frozenset[Role]:
    forbidden = roles & {Role.CLAIM, Role.VICTIM, Role.INTERNAL, Role.MENTIONED}
    if forbidden:
        words = ", ".join(sorted(forbidden))
        raise ValueError(f"{words} can never {what}: anybody can write such a value, or it is ours")
    return roles


class SourcePolicy(Section):
    """
    How a source's word counts.

    :param family: sources of one family copy each other and are one voice; without it a source is its own family
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
    """What the finding itself adds where a source already speaks against the value. It never speaks alone."""

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
    """Prefix lengths. Below these not even a policy can go: such a network is half a continent."""

    ipv4: int = Field(ge=12, le=32)
    ipv6: int = Field(ge=32, le=128)


#: A run that waits takes up one of the DAG's places (``max_active_runs``), so it may not wait for ever.
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

    def require_files(self) -> None:
        """
        For every run, so that a missing file is not found out in the night when it is needed.

        :raises PolicyError: naming the file
        """
        if self.asn_table is not None and not Path(self.asn_table).is_file():
            raise PolicyError(f"block.asn_table: {self.asn_table}: no such file")

    @cached_property
    def asns(self) -> AsnTable | None:
        """
        The table of ``asn_table``.

        :raises PolicyError: naming the file
        """
        if self.asn_table is None:
            return None
        opened = gzip.open if self.asn_table.endswith(".gz") else open
        try:
            with opened(self.asn_table, "rt", encoding="utf-8") as lines:
                return AsnTable(lines)
        except (OSError, EOFError, ValueError) as error:
            raise PolicyError(f"block.asn_table: {self.asn_table}: {error}") from None

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

    @field_validator("own_hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_protected_name(host) for host in hosts)

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


class RelatedPolicy(Section):
    days: int = Field(ge=1)
    maximum_per_incident: int = Field(ge=1)


class TlpPolicy(Section):
    """
    :param findings: how restricted a finding is, and with it its values, where ``sources`` does not name its source
    :param ask_up_to: up to what a provider may see a value, where ``providers`` does not name it
    """

    findings: Tlp
    sources: dict[str, Tlp]
    ask_up_to: Tlp
    providers: dict[str, Tlp]


class QuotaPolicy(Section):
    name: str = Field(min_length=1)
    calls: int = Field(ge=0)
    seconds: int = Field(ge=1)

    @property
    def quota(self) -> Quota:
        return Quota(self.name, self.calls, timedelta(seconds=self.seconds))


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
    quotas: dict[str, tuple[QuotaPolicy, ...]]
    breaker: BreakerPolicy
    tlp: TlpPolicy
    carry_over: CarryOverPolicy

    @field_validator("providers")
    @classmethod
    def _each_once(cls, providers: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in providers if providers.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands there twice")
        return providers

    def quotas_of(self, provider: str, declared: Sequence[Quota]) -> tuple[Quota, ...]:
        """What the key at hand may ask, or what the provider's operator declares."""
        stated = self.quotas.get(provider)
        return tuple(declared) if stated is None else tuple(one.quota for one in stated)


class ReputationHours(Section):
    listed: float = Field(gt=0)
    not_listed: float = Field(gt=0)


#: A network wider than this is a slip: with 0.0.0.0/0 among our networks nothing would ever be blocked.
WIDEST_PROTECTED = {4: 8, 6: 16}
_HASH_DIGITS = re.compile(r"[0-9a-fA-F]+")


def _protected_network(text: str) -> str:
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        hint = ""
        if "has host bits set" in str(error):
            hint = f": it is {ipaddress.ip_network(text.strip(), strict=False)}, or the address without a length"
        raise ValueError(f"{error}{hint}") from None
    if network.prefixlen < WIDEST_PROTECTED[network.version]:
        widest = WIDEST_PROTECTED[network.version]
        raise ValueError(f"{text!r} is wider than a /{widest}: it would protect much of the Internet")
    return str(network)


def _protected_name(text: str) -> str:
    """A name as observables spell it. What could never match is an error: it would protect nothing, silently."""
    name = plain_name(text.strip().removeprefix("*."))
    # No top-level domain begins with a digit: that is an address with a slip in it.
    if name is None or name.rpartition(".")[2][0].isdigit():
        raise ValueError(f"{text!r} is not a domain name")
    if len(name) <= 2:
        raise ValueError(f"{text!r} is a whole country's domain")
    return name


class Protected(Section):
    networks: tuple[Annotated[str, AfterValidator(_protected_network)], ...]
    domains: tuple[Annotated[str, AfterValidator(_protected_name)], ...]


def _end_of_day(value: Any) -> Any:
    """A date counts to its end, in UTC. Both come as text: a policy is validated as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.combine(date.fromisoformat(value) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither a date nor an instant such as 2026-12-01T18:00:00Z") from None


class Allowance(Section):
    """
    What is not blocked for a time, because somebody answers for it.

    :param value: an address, network, domain (with every name below it), URL (its host is protected), or file hash
    :param until: from then on the entry no longer counts
    """

    value: str
    until: Annotated[Instant, BeforeValidator(_end_of_day)]
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    @field_validator("value")
    @classmethod
    def _canonical(cls, text: str) -> str:
        text = text.strip()
        if "://" in text:
            if not host_of_url(text):
                raise ValueError(f"{text!r} has no host")
            return text
        if _HASH_DIGITS.fullmatch(text):
            if len(text) not in HASH_BY_LENGTH:
                lengths = ", ".join(f"{algorithm} {digits}" for digits, algorithm in HASH_BY_LENGTH.items())
                raise ValueError(f"{text!r} has {len(text)} digits; a hash has as many as its algorithm: {lengths}")
            return text.lower()
        if "/" in text:
            return _protected_network(text)
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            return _protected_name(text)

    @property
    def kind(self) -> Literal["url", "file", "network", "address", "domain"]:
        if "://" in self.value:
            return "url"
        if _HASH_DIGITS.fullmatch(self.value):
            return "file"
        if "/" in self.value:
            return "network"
        return "address" if ":" in self.value or self.value[-1].isdigit() else "domain"

    @property
    def words(self) -> str:
        return f"{self.value} is allowed until {self.until:%Y-%m-%d %H:%M} UTC by {self.owner}: {self.reason}"


class NeverBlock(Section):
    documentation_ranges_are_real: bool
    own: Protected
    partners: Protected
    allow: tuple[Allowance, ...] = ()
    well_known: Protected

    def expired(self, now: datetime) -> tuple[Allowance, ...]:
        """Entries that no longer count, for somebody to renew or take out."""
        return tuple(entry for entry in self.allow if entry.until <= now)


@lru_cache(maxsize=8)
def _gate(rules: NeverBlock, allowances: tuple[Allowance, ...]) -> Gate:
    return Gate(rules, allowances=allowances)


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

    def gate_at(self, now: datetime) -> Gate:
        """The never-block gate with the ``allow`` entries that count at ``now``. Made once for each set of these."""
        allow = self.never_block.allow
        return _gate(self.never_block, tuple(entry for entry in allow if now < entry.until))


def stored_policy(document: Mapping[str, Any]) -> Policy:
    """
    A policy again from its :attr:`Policy.document`.

    :raises PolicyError: it was stored by a release whose policies had other fields
    """
    try:
        return Policy.model_validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PolicyError(f"the stored policy: {'.'.join(map(str, first['loc']))}: {_words(first)}") from None


def load_policy(paths: Sequence[Path]) -> Policy:
    """
    The policy of the first file, with each later file laid over it: mappings are merged, everything else replaced.

    :raises PolicyError: ``file:line: field: problem`` for each problem, one a line. The file and line are those of
        the layer that the value came from
    """
    below: _Node | None = None
    for path in paths:
        node = _read(path)
        if not isinstance(node.value, dict):
            raise PolicyError(f"{path}:1: is not a mapping")
        below = node if below is None else _overlay(below, node)
    if below is None:
        raise PolicyError("there is no policy file")
    try:
        # As JSON and strict: a quoted number or a yes is refused, and a list is still a tuple.
        return Policy.model_validate_json(json.dumps(below.plain(), default=str), strict=True)
    except ValidationError as error:
        problems = [_where(below, e["loc"]) + _words(e) for e in error.errors(include_url=False)]
        raise PolicyError("\n".join(problems)) from None


@dataclass(frozen=True)
class _Node:
    """A value of a YAML file, and where it stands. The value's children are nodes as well."""

    value: Any
    file: Path
    line: int

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        return [child.plain() for child in self.value] if isinstance(self.value, list) else self.value


def _read(path: Path) -> _Node:
    try:
        loader = yaml.SafeLoader(path.read_text("utf-8"))
        root = loader.get_single_node()
        return _Node(None, path, 1) if root is None else _located(loader, root, path, root.start_mark.line + 1, "")
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{path}:{line}: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {error}") from None
    except RecursionError:
        raise PolicyError(f"{path}: is nested too deeply, or refers to itself") from None


def _located(loader: yaml.SafeLoader, node: yaml.Node, path: Path, line: int, field: str) -> _Node:
    """:param line: of the key, where the value has one: that is where a person looks"""
    if isinstance(node, yaml.SequenceNode):
        items = [_located(loader, n, path, n.start_mark.line + 1, f"{field}[{i}]") for i, n in enumerate(node.value)]
        return _Node(items, path, line)
    if not isinstance(node, yaml.MappingNode):
        return _Node(loader.construct_object(node), path, line)
    children: dict[str, _Node] = {}
    for key_node, child in node.value:
        at = key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            raise PolicyError(f"{path}:{at}: {field or 'the top level'}: a key must be a plain word")
        key = str(key_node.value)
        name = f"{field}.{key}".removeprefix(".")
        if key in children:
            raise PolicyError(
                f"{path}:{at}: {name}: stands here for the second time, first in line {children[key].line}"
            )
        children[key] = _located(loader, child, path, at, name)
    return _Node(children, path, line)


def _overlay(below: _Node, above: _Node) -> _Node:
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    merged = dict(below.value)
    for key, node in above.value.items():
        merged[key] = _overlay(merged[key], node) if key in merged else node
    return _Node(merged, above.file, above.line)


def _where(root: _Node, place: Sequence[str | int]) -> str:
    """``file:line: field: `` of a problem; of its nearest ancestor, where what is wrong is that it is missing."""
    node, field = root, ""
    found = True
    for step in place:
        if step == "[key]":  # pydantic's word for a problem with the key itself
            continue
        field += f"[{step}]" if isinstance(step, int) else f".{step}"
        children = node.value
        found = found and (
            step in children if isinstance(children, dict) else isinstance(step, int) and isinstance(children, list)
        )
        if found:
            node = children[step]
    return f"{node.file}:{node.line}: {field.removeprefix('.') or 'the policy'}: "


def _words(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    if error["type"] == "missing":
        return "is missing"
    given = error["input"]
    shown = "" if isinstance(given, dict | list) else f", not {given!r}"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ").replace("an object", "a mapping")
    return f"{message}{shown}" if error["type"] != "value_error" else message
