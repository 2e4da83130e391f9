"""From what the sources gave to one case: the findings of all of them, and what was seen in them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from include.soar.extract.bounds import BOUNDS, Bounds
from include.soar.extract.findings import NOTHING_OWN, OwnSurface, observe_within
from include.soar.model import CaseBatch, FetchBatch, Finding, Window


class NothingFetched(ValueError):
    """No source gave a batch: there is nothing to work on, and that must not look like a quiet night."""


def case_of(
    batches: Sequence[FetchBatch],
    own: OwnSurface = NOTHING_OWN,
    carried_over: Sequence[Finding] = (),
    *,
    bounds: Bounds = BOUNDS,
) -> CaseBatch:
    """
    The sources' batches as one case with its observables. Of a finding that comes twice, the last copy counts; what was
    added to one that is carried over is added to it.

    :param own: which hosts and paths are our own API
    :param carried_over: findings of earlier windows that this run is to finish
    :param bounds: how many values the findings may bring
    :raises NothingFetched: there is no batch
    """
    if not batches:
        raise NothingFetched("no source has given a batch: each was skipped, since it has no connection")
    new = [finding for batch in batches for finding in batch.findings]
    last = {f.uid: f for f in carried_over}
    for finding in new:
        last[finding.uid] = _joined(last.get(finding.uid), finding)
    findings = tuple(sorted(last.values(), key=lambda f: (f.detected_at, f.uid)))
    seen = observe_within(findings, own, bounds)
    windows = [batch.window for batch in batches]
    return CaseBatch(
        window=Window(
            start_at=min(w.start_at for w in windows),
            end_at=max(w.end_at for w in windows),
            chosen_by=windows[0].chosen_by,
        ),
        findings=findings,
        observed=seen.observed,
        rejected=tuple(r for batch in batches for r in batch.rejected),
        carried_over=tuple(sorted({f.uid for f in carried_over} - {f.uid for f in new})),
        left_out=seen.left_out,
    )


def _joined(known: Finding | None, new: Finding) -> Finding:
    if known is None or new.grown_at is None:
        return new
    return new.model_copy(update={"mentions": tuple(dict.fromkeys([*known.mentions, *new.mentions]))})
