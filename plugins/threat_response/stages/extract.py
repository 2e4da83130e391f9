"""Stage 2: what was seen, and where. No vendor takes part."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Context, TriggerRule

from include.soar.model import FetchBatch, Finding
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
        fetched = [FetchBatch.model_validate(batch) for batch in self.batches if batch is not None]
        own = settings.policy().extraction.own
        return case_of(fetched, own, self.carried_over(Run.of(context))).to_json()

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
