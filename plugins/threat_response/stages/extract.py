"""Stage 2: what was seen, and where. No vendor takes part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Context, TriggerRule

from include.soar.model import CaseBatch, FetchBatch, Finding
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator


class Extract(StageOperator):
    """
    Make one case of the sources' batches: every finding once, and every observable with its sightings.

    Gives a ``CaseBatch`` as JSON. Where no source has given a batch it is skipped if one of them failed, which is then
    the run's cause, and raises ``NothingFetched`` if all were skipped.

    :param batches: the ``FetchBatch`` JSON of each source; None for one that was skipped or failed (templated)
    """

    template_fields: Sequence[str] = ("batches",)

    def __init__(self, *, batches: Any, **kwargs: Any) -> None:
        # A source that fails must not silence the others; the run still turns red.
        kwargs.setdefault("trigger_rule", TriggerRule.ALL_DONE)
        super().__init__(**kwargs)
        self.batches = batches

    def execute(self, context: Context) -> dict[str, Any]:
        from include.soar.extract.case import case_of

        if all(batch is None for batch in self.batches) and (failed := self.failed_before(context)):
            settings.skip(f"nothing to extract: no source has given a batch, since {', '.join(failed)} failed")
        fetched = [self.delivered(FetchBatch.model_validate(batch)) for batch in self.batches if batch is not None]
        rules = settings.policy().extraction
        left = self.carried_over(Run.of(context))
        # What grows while it is unfinished is finished together, or the one would take the place of the other.
        grown = {f.uid for batch in fetched for f in batch.findings if f.grown_at} - {f.uid for f in left}
        left += settings.ledger().unfinished.of(sorted(grown)) if grown else []
        case = case_of(fetched, rules.own, left, bounds=rules.bounds)
        self._tell(case)
        return case.to_json()

    def delivered(self, batch: FetchBatch) -> FetchBatch:
        """
        The batch is this run's from now on: no later window reads its findings again. Without those late ones that
        another window delivered since they were fetched.
        """
        from include.soar.extract import growth

        start, key = batch.window.start_at, batch.window.key
        parts = {f.uid: growth.parts([f]) for f in batch.findings} if batch.grows else {}
        given = [*batch.findings, *(part for some in parts.values() for part in some)]
        owners = settings.ledger().windows.deliver_findings(given, window_key=key, now=settings.now())

        def is_mine(finding: Finding) -> bool:
            own = [finding, *parts[finding.uid]] if finding.grown_at else [finding]
            return finding.detected_at >= start or any(owners[one.uid] == key for one in own)

        mine = tuple(f for f in batch.findings if is_mine(f))
        if others := len(batch.findings) - len(mine):
            self.log.info("%s: %d late findings went to another window's run in the meantime", batch.source, others)
        return batch.model_copy(update={"findings": mine})

    def _tell(self, case: CaseBatch) -> None:
        """What the case lacks: nothing is left out without a word."""
        for one in case.left_out:
            self.log.warning(
                "Left out: finding %s brings too many values: %d of them (%d in an acting role) and %d texts are not in"
                " the case, see extraction in the policy",
                one_line(one.finding_uid),
                one.values,
                one.acting,
                one.texts,
            )

    def carried_over(self, run: Run) -> list[Finding]:
        """What earlier runs left unfinished and this one may finish. A backfill leaves it to the live runs."""
        rules = settings.policy().enrichment.carry_over
        if not run.finishes or run.is_backfill or not rules.findings:
            return []
        now = settings.now()
        due = settings.ledger().unfinished.due(now=now, since=now - timedelta(days=rules.days), limit=rules.findings)
        for finding in due:
            self.log.info("Carried over: finding %s of %s, to be finished", one_line(finding.uid), finding.detected_at)
        return due
