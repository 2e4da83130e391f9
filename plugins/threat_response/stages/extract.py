"""The vendor-less stages, as JSON -> JSON functions: what a task takes and gives is what the XCom tab shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Context

from include.soar.extract.findings import NOTHING_OWN, OwnSurface, observe
from include.soar.model import (
    CaseBatch,
    FetchBatch,
    Finding,
    Window,
)
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run


class NothingFetched(ValueError):
    """No source gave a batch: there is nothing to work on, and that must not look like a quiet night."""


def extract(
    batches: Sequence[Mapping[str, Any] | None],
    own: OwnSurface = NOTHING_OWN,
    carried_over: Sequence[Finding] = (),
) -> dict[str, Any]:
    """
    Stage 2: the sources' batches become one case with its observables.

    :param batches: ``FetchBatch`` JSON per source; None for a source that was skipped or failed
    :param own: what of it is our own API
    :param carried_over: findings of earlier windows that this run is to finish
    :return: ``CaseBatch`` JSON
    :raises NothingFetched: every source is missing
    """
    fetched = [FetchBatch.model_validate(batch) for batch in batches if batch is not None]
    if not fetched:
        raise NothingFetched("no source has given a batch: each was skipped (no connection) or failed")
    new = [finding for batch in fetched for finding in batch.findings]
    findings = _distinct([*carried_over, *new])
    windows = [batch.window for batch in fetched]
    window = Window(
        start_at=min(w.start_at for w in windows),
        end_at=max(w.end_at for w in windows),
        chosen_by=windows[0].chosen_by,
    )
    case = CaseBatch(
        window=window,
        findings=findings,
        observed=observe(findings, own),
        rejected=tuple(r for batch in fetched for r in batch.rejected),
        carried_over=tuple(sorted({f.uid for f in carried_over} - {f.uid for f in new})),
    )
    return case.to_json()


def _distinct(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each finding once, by time and uid."""
    if not findings:
        return ()
    # Imported here: it costs more than a second, and every task of the DAG imports this file.
    import pandas as pd

    frame = pd.DataFrame(
        {
            "uid": [f.uid for f in findings],
            "detected_at": [f.detected_at for f in findings],
            "place": range(len(findings)),
        }
    )
    kept = frame.drop_duplicates("uid", keep="last").sort_values(["detected_at", "uid"], kind="stable")
    return tuple(findings[place] for place in kept["place"])


def carried_over(context: Context) -> list[Finding]:
    """What earlier runs left unfinished and this one may finish. A backfill leaves it to the live runs."""
    rules = settings.policy().enrichment.carry_over
    if not Run.of(context).finishes or Run.of(context).is_backfill or not rules.findings:
        return []
    moment = settings.now()
    found = settings.ledger().unfinished.due(
        now=moment, since=moment - timedelta(days=rules.days), limit=rules.findings
    )
    for finding in found:
        settings.log.info("Carried over: finding %s of %s, to be finished", one_line(finding.uid), finding.detected_at)
    return found
