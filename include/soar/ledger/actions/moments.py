"""When what a run acts on was detected, read, judged and approved, from the ledger's own tables."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from include.soar.judge.verdict import ACT, HOLD
from include.soar.ledger.database import CHUNK, chunks
from include.soar.ledger.tables import ActionEventRow, FindingRow, VerdictRow

#: Columns of an event, by observable key.
Moments = dict[str, dict[str, datetime]]


def moments(session: Session, run_id: str, keys: Collection[str]) -> Moments:
    """
    Those that are known. Of several findings the first that was detected counts: since then it could have been stopped.
    """
    few = len(keys) <= CHUNK
    judged = select(VerdictRow.observable, VerdictRow.decided_at, VerdictRow.plan)
    judged = judged.where(VerdictRow.run_id == run_id, VerdictRow.outcome.in_([ACT, HOLD]))
    answered = select(ActionEventRow.observable, ActionEventRow.approved_at)
    answered = answered.where(ActionEventRow.run_id == run_id, ActionEventRow.approved_at.is_not(None))
    # Only for a few: each further part would read all of the run again.
    answered = answered.where(ActionEventRow.kind == "answered").order_by(ActionEventRow.number)
    if few:
        judged = judged.where(VerdictRow.observable.in_(keys))
        answered = answered.where(ActionEventRow.observable.in_(keys))
    found: Moments = {}
    uids: dict[str, list[str]] = {}
    for key, decided_at, plan in session.execute(judged.order_by(VerdictRow.decided_at)):
        found[key] = {"judged_at": decided_at}
        uids[key] = list((plan or {}).get("finding_uids", ()))
    for key, approved_at in session.execute(answered):
        if approved_at is not None:
            found.setdefault(key, {})["approved_at"] = approved_at
    seen: dict[str, Any] = {}
    for part in chunks(sorted({uid for some in uids.values() for uid in some})):
        query = select(FindingRow.uid, FindingRow.detected_at, FindingRow.first_seen_at).where(FindingRow.uid.in_(part))
        seen |= {uid: (detected_at, read_at) for uid, detected_at, read_at in session.execute(query)}
    for key, some in uids.items():
        if known := [seen[uid] for uid in some if uid in seen]:
            found[key]["detected_at"], found[key]["read_at"] = min(known)
    return {key: values for key, values in found.items() if key in keys}
