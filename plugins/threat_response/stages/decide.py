"""The end of stage 3: one verdict per observable, and what is to be done. No vendor takes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context, TriggerRule

from include.soar.model import CaseBatch, Decision, Observable, Outcome, ReputationBatch, Rung
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator

if TYPE_CHECKING:
    from include.soar.enrich.sift import Unfinished
    from include.soar.judge.decision import Basis
    from include.soar.judge.verdict import Earlier
    from include.soar.ledger import Ledger

#: What a control says of a block that is there, now or soon.
BLOCKING = frozenset({Outcome.BLOCKED, Outcome.PENDING})


class Decide(StageOperator):
    """
    Turn the case and the providers' answers into a decision, and remember it in the ledger.

    Gives a ``Decision`` as JSON.

    :param case: ``CaseBatch`` JSON (templated)
    :param answers: ``ReputationBatch`` JSON by provider; None for one that was skipped or failed (templated)
    """

    template_fields: Sequence[str] = ("case", "answers")

    def __init__(self, *, case: Any, answers: Any, **kwargs: Any) -> None:
        # A silent provider must not stop the response: with all of them silent every verdict is "unknown", and
        # unknown is never blocked.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.case = case
        self.answers = answers

    def execute(self, context: Context) -> dict[str, Any]:
        from include.soar.judge.decision import decide, history_period

        if self.case is None:
            # The run is red already, by the stage that gave nothing.
            settings.skip("nothing is decided: there is no case")
        run, ledger = Run.of(context), settings.ledger()
        basis = self._basis(run)
        case = CaseBatch.model_validate(self.case)
        since, before = history_period(case, basis.policy)
        observables = [item.observable for item in case.observed]
        history = ledger.verdicts.history(
            observables,
            since=since,
            before=before,
            # From before this run began: a retried task reads what its first try read.
            known_before=run.started_at or basis.now,
        )
        looks_back = basis.policy.response.looks_back
        seen = {item.observable.key: min(s.seen_at for s in item.sightings) for item in case.observed}
        earlier = earlier_of(ledger, observables, since=before - looks_back, now=basis.now, seen_at=seen)
        decided = decide(case, self._answers(), basis, history=history, earlier=earlier)
        ledger.verdicts.record(
            decided.judgements,
            policy=basis.policy,
            minimum_severity=basis.minimum_severity,
            run_id=run.name,
            now=basis.now,
        )
        self._record_decided(run, ledger, case, decided.unfinished, basis)
        self._cancel_protected(run, ledger, basis)
        for entry in basis.policy.never_block.expired(basis.now):
            self.log.warning("never_block.allow: this entry has expired: %s", entry.words)
        self.log.info("Decided: %s", counts(case, decided.decision))
        return decided.decision.to_json()

    def _basis(self, run: Run) -> Basis:
        from include.soar.judge.decision import Basis

        now = settings.now()
        return Basis(settings.policy(), settings.gate(now), settings.asns(), now, run.minimum_severity)

    def _answers(self) -> dict[str, ReputationBatch | None]:
        """A provider without a connection takes no part; one that failed was silent, and the incident says so."""
        return {
            provider: ReputationBatch.model_validate(answer) if answer is not None else None
            for provider, answer in self.answers.items()
            if answer is not None or settings.connection_exists(f"{provider}_default")
        }

    def _record_decided(
        self, run: Run, ledger: Ledger, case: CaseBatch, unfinished: Sequence[Unfinished], basis: Basis
    ) -> None:
        """
        Remember when the window was first decided, and which findings a later run has to finish, since an answer is
        missing that may still come.
        """
        finishes = run.finishes
        if not run.answers_are_frozen:
            ledger.windows.record_decided(case.window, now=basis.now)
        for one in unfinished:
            self.log.warning(
                "Unfinished: finding %s: no answer yet by %s; %s",
                one_line(one.finding.uid),
                ", ".join(one.providers),
                f"a run after {one.retry_at:%Y-%m-%d %H:%M:%S} UTC finishes it"
                if finishes
                else "this run only plans its blocks, so no later run finishes it: run it again",
            )
        if not finishes:
            return
        open_uids = {one.finding.uid for one in unfinished}
        days = basis.policy.enrichment.carry_over.days
        given_up = ledger.unfinished.record(
            unfinished,
            done=[f.uid for f in case.findings if f.uid not in open_uids],
            give_up_before=basis.now - timedelta(days=days),
            now=basis.now,
        )
        if given_up:
            self.log.warning("Given up: %d findings are still unfinished after %g days", given_up, days)

    def _cancel_protected(self, run: Run, ledger: Ledger, basis: Basis) -> None:
        """Report blocks in force that the gate now protects. A run that only plans its blocks changes nothing."""
        if not run.may_write(blocks=True):
            return
        for row, hit in ledger.actions.cancel_protected(basis.gate, run_id=run.name, now=basis.now):
            self.log.warning(
                "Cancelled: %s at %s is in force, and now %s protects it (%s): lift it, see docs/runbook.md",
                one_line(row.observable),
                row.control,
                hit.layer,
                one_line(hit.reason),
            )


def earlier_of(
    ledger: Ledger,
    observables: Sequence[Observable],
    *,
    since: datetime,
    now: datetime,
    seen_at: Mapping[str, datetime] = MappingProxyType({}),
) -> dict[str, Earlier]:
    """
    What we did about these, by observable key: earlier blocks, what is blocked now, and what a person lifted.

    :param since: older blocks make no difference
    :param seen_at: when each was first seen now, by key. A block that ran then is no earlier one: an attack that goes
        on while it is blocked does not come back
    """
    from include.soar.judge.verdict import Earlier

    blocks = ledger.actions.repetitions(observables, since=since, seen_at=seen_at)
    lifted = {key: one for key, one in ledger.actions.lifted(observables).items() if not one.control}
    # What was done before there were rungs was a block.
    in_force = {
        row.observable.key
        for row in ledger.actions.rows_in_force(now)
        if row.outcome in BLOCKING and (row.rung is None or row.rung.is_block) and not row.ended
    }
    found = {}
    for key in {observable.key for observable in observables} & (blocks.keys() | lifted.keys() | in_force):
        last = lifted.get(key)
        told = {"lifted_at": last.at, "lifted_by": last.by, "lifted_why": last.reason} if last else {}
        found[key] = Earlier(blocked_at=tuple(blocks.get(key, ())), is_blocked=key in in_force, **told)
    return found


def counts(case: CaseBatch, decision: Decision) -> dict[str, int]:
    """The run's numbers for its log: findings, high ones, observables, verdicts by standing, plan, refusals."""
    standings = Counter(v.standing.value for v in decision.verdicts)
    rungs = Counter(i.rung.value for i in decision.indicators if i.rung)
    return {
        "findings": len(case.findings),
        "carried_over": len(case.carried_over),
        "high_priority": sum(p.high for p in decision.priorities),
        "observables": len(case.observed),
        **{f"verdict_{standing}": number for standing, number in sorted(standings.items())},
        "indicators": len(decision.indicators),
        **{rung.value: rungs[rung.value] for rung in Rung},
        "refused": len(decision.refusals),
        "held": len(decision.held),
        "rejected_records": len(case.rejected),
    }
