"""Every verdict with its inputs, and the policies under which the verdicts were made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from include.soar.judge.verdict import ACT, HOLD, History, Judgement
from include.soar.ledger.database import Part, chunks
from include.soar.ledger.tables import (
    ActionEventRow,
    PolicyRow,
    VerdictRow,
)
from include.soar.model import (
    Observable,
    Outcome,
    Severity,
    Standing,
    digest,
)
from include.soar.policy.rules import Policy


class Verdicts(Part):
    """The verdicts of all runs. Rows are only added."""

    def record(
        self,
        judgements: Sequence[Judgement],
        *,
        policy: Policy,
        minimum_severity: Severity | None,
        run_id: str,
        now: datetime,
    ) -> None:
        """Add a run's verdicts to the history. The same ones again, as by a retried task, add nothing."""
        rows = []
        for judgement in judgements:
            key = judgement.inputs.observed.observable.key
            inputs = judgement.inputs.to_json()
            plan = judgement.plan.to_json() if judgement.plan else None
            inputs_digest = digest(inputs)
            identity = [run_id, key, inputs_digest, policy.digest, minimum_severity, judgement.outcome, plan]
            rows.append(
                {
                    "id": digest(identity),
                    "run_id": run_id,
                    "observable": key,
                    "last_seen_at": judgement.inputs.observed.last_seen_at,
                    "decided_at": now,
                    "policy_digest": policy.digest,
                    "inputs_digest": inputs_digest,
                    "minimum_severity": minimum_severity.value if minimum_severity else None,
                    "standing": judgement.verdict.standing.value,
                    "confidence": judgement.verdict.confidence,
                    "outcome": judgement.outcome,
                    "reasons": list(judgement.verdict.reasons),
                    "inputs": inputs,
                    "plan": plan,
                }
            )
        if not rows:
            return
        known = {"digest": policy.digest, "document": policy.document, "first_used_at": now}
        with self._database.session() as session:
            self._database.upsert(session, PolicyRow, [known], keep=set(known))
            self._database.upsert(session, VerdictRow, rows, keep=set(rows[0]))

    def history(
        self, observables: Sequence[Observable], *, since: datetime, before: datetime, known_before: datetime
    ) -> dict[str, History]:
        """
        What was decided about these over earlier findings, by observable key. One without a history is left out.

        :param before: event time: the first sighting of the case at hand. So a window that is decided again, by a
            retried task or another run, does not meet its own verdicts
        :param known_before: clock time: when the run began. So a retried task reads what its first try read,
            whatever other runs have added in between
        """
        found: dict[str, dict[str, Any]] = {}
        counted = (VerdictRow.observable, func.count(VerdictRow.id), func.max(VerdictRow.last_seen_at))
        acted = select(ActionEventRow.number).where(
            ActionEventRow.observable == VerdictRow.observable,
            ActionEventRow.outcome.in_([Outcome.BLOCKED.value, Outcome.DETECT_ONLY.value]),
            ActionEventRow.at < known_before,
        )
        kinds = {
            "malicious": VerdictRow.standing == Standing.MALICIOUS.value,
            "benign": VerdictRow.standing == Standing.BENIGN.value,
            # Decided (what was held may have been approved), and a control is known to have followed: a decision
            # alone blocks nothing.
            "blocked": VerdictRow.outcome.in_([ACT, HOLD]) & acted.exists(),
        }
        keys = sorted({o.key for o in observables})
        with self._database.reading() as session:
            for part in chunks(keys):
                for kind, condition in kinds.items():
                    query = (
                        select(*counted)
                        .where(
                            VerdictRow.observable.in_(part),
                            VerdictRow.last_seen_at >= since,
                            VerdictRow.last_seen_at < before,
                            VerdictRow.decided_at < known_before,
                            condition,
                        )
                        .group_by(VerdictRow.observable)
                    )
                    for key, count, last_at in session.execute(query):
                        found.setdefault(key, {}).update({kind: count, f"{kind}_last_at": last_at})
        return {key: History(**values) for key, values in found.items()}

    def latest(self, observable: Observable, *, at: datetime) -> VerdictRow | None:
        """The last verdict about an observable that had been made at that time."""
        query = (
            select(VerdictRow)
            .where(VerdictRow.observable == observable.key, VerdictRow.decided_at <= at)
            .order_by(VerdictRow.decided_at.desc(), VerdictRow.id)
            .limit(1)
        )
        with self._database.reading() as session:
            return session.scalars(query).first()

    def deciding_runs(self, *, since: datetime, until: datetime) -> list[str]:
        """The runs that decided in that time, in the order of their last decision."""
        last = func.max(VerdictRow.decided_at)
        query = (
            select(VerdictRow.run_id)
            .where(VerdictRow.decided_at >= since, VerdictRow.decided_at < until)
            .group_by(VerdictRow.run_id)
            .order_by(last, VerdictRow.run_id)
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def of_run(self, run_id: str) -> list[VerdictRow]:
        """Every verdict of a run, in order of time: more than one about an observable where it was decided again."""
        query = (
            select(VerdictRow)
            .where(VerdictRow.run_id == run_id)
            .order_by(VerdictRow.decided_at, VerdictRow.observable, VerdictRow.id)
        )
        with self._database.reading() as session:
            return list(session.scalars(query))

    def policy(self, policy_digest: str) -> dict[str, Any] | None:
        """The document of a policy under which verdicts were made; None: it is not known."""
        with self._database.reading() as session:
            row = session.get(PolicyRow, policy_digest)
            return row.document if row else None
