"""Stored verdicts decided again, under the policy of that time or another. Neither prints nor reads the environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.soar.gate.asn import AsnTable
from include.soar.gate.gate import Gate, gate_of
from include.soar.gate.index_file import shipped
from include.soar.gate.warninglists import WarningLists
from include.soar.judge.decision import Basis, decide_inputs
from include.soar.judge.verdict import ACT, HOLD, REFUSE, Inputs, Judgement, judge
from include.soar.ledger.tables import VerdictRow
from include.soar.model import Decision, Finding, Indicator, Refusal, Severity, Verdict
from include.soar.policy.file import asn_table
from include.soar.policy.rules import Policy


class ReplayError(ValueError):
    """What is stored cannot be decided again; the message says why."""


def stored_verdict(row: VerdictRow, inputs: Inputs) -> Verdict:
    return Verdict.model_validate(
        {
            "observable": inputs.observable,
            "standing": row.standing,
            "confidence": row.confidence,
            "reasons": tuple(row.reasons),
            "reputations": inputs.reputations,
        }
    )


def stored_inputs(row: VerdictRow) -> Inputs:
    """:raises ReplayError: the inputs are not what their digest says, or of a release with other fields"""
    try:
        inputs = Inputs.model_validate(row.inputs)
    except ValueError as error:
        raise ReplayError(f"the stored inputs of {row.id} cannot be read by this release: {error}") from None
    if inputs.digest != row.inputs_digest:
        raise ReplayError(f"the stored inputs of {row.id} are not those whose digest was stored: they were changed")
    return inputs


def stored_judgement(row: VerdictRow) -> Judgement:
    """What was decided, as it was stored. :raises ReplayError: as :func:`stored_inputs`"""
    inputs = stored_inputs(row)
    plan: Indicator | Refusal | None = None
    if row.outcome in (ACT, HOLD):
        plan = Indicator.model_validate(row.plan)
    elif row.outcome == REFUSE:
        plan = Refusal.model_validate(row.plan)
    return Judgement(inputs, stored_verdict(row, inputs), row.outcome, plan)


def differences(stored: Verdict, policy: Policy, inputs: Inputs) -> list[str]:
    """Made again under ``policy``: the fields whose bytes differ from what was stored. Empty: bit for bit the same."""
    again = judge(inputs, policy)
    return [name for name in Verdict.model_fields if _bytes(stored, name) != _bytes(again, name)]


def _bytes(verdict: Verdict, name: str) -> bytes:
    return json.dumps(verdict.to_json()[name]).encode()


@dataclass(frozen=True)
class Rules:
    """A policy with what it is applied with: the lists and tables of today, since those of that time are not kept."""

    policy: Policy
    lists: WarningLists
    asns: AsnTable | None

    @classmethod
    def of(cls, policy: Policy) -> Rules:
        """:raises PolicyError: a file that the policy names cannot be read"""
        return cls(policy, shipped(), asn_table(policy.block))

    def gate(self, now: datetime) -> Gate:
        return gate_of(self.policy.never_block, self.lists, now)


@dataclass(frozen=True)
class Run:
    """One run's decision as it was archived: the newest verdict about each observable."""

    run_id: str
    decided_at: datetime
    minimum_severity: Severity | None
    inputs: tuple[Inputs, ...]

    def decide(self, rules: Rules) -> tuple[Decision, list[Judgement]]:
        """The same again under ``rules``, caps included."""
        gate = rules.gate(self.decided_at)
        basis = Basis(rules.policy, gate, rules.asns, self.decided_at, self.minimum_severity)
        inputs = [i.model_copy(update={"hit": gate.check(i.observable)}) for i in self.inputs]
        return decide_inputs(_findings(inputs), inputs, basis)


def run_of(rows: Sequence[VerdictRow]) -> Run:
    """
    :param rows: of one run, in order of time
    :raises ReplayError: as :func:`stored_inputs`
    """
    newest, last = {row.observable: row for row in rows}, rows[-1]
    severity = Severity(last.minimum_severity) if last.minimum_severity else None
    return Run(last.run_id, last.decided_at, severity, tuple(stored_inputs(newest[key]) for key in sorted(newest)))


def _findings(inputs: Sequence[Inputs]) -> list[Finding]:
    """Every finding once. Each input holds a finding with the traffic of its own observable: they are put together."""
    found: dict[str, Finding] = {}
    for finding in (f for i in inputs for f in i.findings):
        known = found.get(finding.uid)
        traffic: tuple[Any, ...] = tuple(dict.fromkeys((known.traffic if known else ()) + finding.traffic))
        found[finding.uid] = finding.model_copy(update={"traffic": traffic})
    return [found[uid] for uid in sorted(found)]
