"""What each control was asked to do, and the state that it last reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from include.soar.gate.gate import Gate
from include.soar.gate.layers import Hit
from include.soar.ledger.database import Part
from include.soar.ledger.tables import (
    ActionRow,
)
from include.soar.model import (
    IN_FORCE,
    ActionBatch,
    Observable,
    Outcome,
)


@dataclass(frozen=True)
class KnownAction:
    """What we last did about one observable at one control, and where a person can check."""

    outcome: Outcome
    expires_at: datetime | None
    run_id: str
    proof: Mapping[str, str | int | None]


class Actions(Part):
    """The last known state of each observable at each control."""

    def record(self, batch: ActionBatch, *, run_id: str, now: datetime) -> None:
        """Store a control's actions; each replaces what was known of its observable there."""
        rows = [
            {
                "control": action.control,
                "observable": action.observable.key,
                "verb": action.verb.value,
                "outcome": action.outcome.value,
                "detail": action.detail,
                "proof": dict(action.proof),
                "expires_at": action.expires_at,
                "run_id": run_id,
                "updated_at": now,
            }
            for action in batch.actions
        ]
        if rows:
            with self._database.session() as session:
                self._database.upsert(session, ActionRow, rows, keep=set())

    def in_force(self, control: str) -> dict[str, KnownAction]:
        """What of ours does, or will soon do, something at a control, by observable key. Expired actions too."""
        query = select(ActionRow).where(ActionRow.control == control, ActionRow.outcome.in_(sorted(IN_FORCE)))
        with self._database.reading() as session:
            return {
                row.observable: KnownAction(Outcome(row.outcome), row.expires_at, row.run_id, dict(row.proof))
                for row in session.scalars(query)
            }

    def rows(self, control: str | None = None) -> list[ActionRow]:
        """:param control: only this one's; None: of all"""
        query = select(ActionRow).order_by(ActionRow.control, ActionRow.observable)
        if control:
            query = query.where(ActionRow.control == control)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def cancel_protected(self, gate: Gate, *, run_id: str, now: datetime) -> list[tuple[ActionRow, Hit]]:
        """
        Mark the actions in force whose observable the gate protects now, and return them with the reason. Each is
        returned once, since it is then ``cancelled`` until a person or the control says otherwise.
        """
        found: list[tuple[ActionRow, Hit]] = []
        in_force = select(ActionRow).where(ActionRow.outcome.in_(sorted(IN_FORCE)))
        with self._database.session() as session:
            for row in session.scalars(in_force.order_by(ActionRow.control, ActionRow.observable)):
                if row.expires_at is not None and row.expires_at <= now:
                    continue
                observable = Observable.of_key(row.observable)
                if observable is not None and (hit := gate.check(observable)):
                    row.outcome, row.detail = Outcome.CANCELLED, f"was {row.outcome}; {hit.reason}"
                    row.run_id, row.updated_at = run_id, now
                    found.append((row, hit))
            session.flush()
            session.expunge_all()
        return found
