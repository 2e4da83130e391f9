"""Decisions for tests: as the task makes them, but without its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from include.soar.judge.decision import Basis, Decided, decide
from include.soar.judge.verdict import History
from include.soar.model import CaseBatch, Decision, Finding, Observable, Observed, Reputation, ReputationBatch, Severity
from include.soar.policy.file import asn_table
from include.soar.policy.rules import Policy
from tests.soar.examples import gate_at, window


def basis(policy: Policy, now: datetime, minimum_severity: Severity | None = None) -> Basis:
    return Basis(policy, gate_at(policy, now), asn_table(policy.block), now, minimum_severity)


def decided(
    case: Mapping[str, Any],
    answers: Mapping[str, Any],
    policy: Policy,
    *,
    now: datetime,
    history: Mapping[str, History] | None = None,
    minimum_severity: Severity | None = None,
) -> Decided:
    """
    :param case: ``CaseBatch`` JSON
    :param answers: ``ReputationBatch`` JSON by provider; None for one that failed
    """
    said = {name: ReputationBatch.model_validate(answer) if answer else None for name, answer in answers.items()}
    return decide(CaseBatch.model_validate(case), said, basis(policy, now, minimum_severity), history=history or {})


def blocked(decision: Decision) -> list[Observable]:
    """What is blocked at once: neither only watched or detected, nor held."""
    return [i.observable for i in decision.indicators if i.rung and i.rung.is_block]


def case_of_observed(findings: Sequence[Finding], observed: Iterable[Observed]) -> CaseBatch:
    return CaseBatch(window=window(), findings=tuple(findings), observed=tuple(observed))


def batches(reputations: Iterable[Reputation]) -> dict[str, ReputationBatch | None]:
    """As the providers would have given them."""
    by_provider: dict[str, list[Reputation]] = {}
    for one in reputations:
        by_provider.setdefault(one.provider, []).append(one)
    return {name: ReputationBatch(provider=name, reputations=tuple(said)) for name, said in by_provider.items()}


def decision_on(
    findings: Sequence[Finding],
    observed: Iterable[Observed],
    reputations: Iterable[Reputation],
    policy: Policy,
    *,
    now: datetime,
    minimum_severity: Severity | None = None,
    failed: Sequence[str] = (),
) -> Decision:
    """:param failed: providers that gave nothing at all"""
    answers = batches(reputations) | dict.fromkeys(failed)
    return decide(case_of_observed(findings, observed), answers, basis(policy, now, minimum_severity)).decision
