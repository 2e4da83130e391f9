"""What the SOC decides, as the schema of ``include/config/policy.yaml``: thresholds, weights, caps, never-block rules.

The gate that follows from it is in ``gate.py``, the judgement in ``verdicts.py``, the plan in ``plan.py``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from include.soar.gate import Gate
from include.soar.model import ObservableType, Role, Severity, digest

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
