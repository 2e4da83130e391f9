"""``blocks``: what is in force, by control, as the ledger has it; and whether the controls say the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from include.ops.text import safe, shown, when
from include.soar.in_force.converge import converge
from include.soar.ledger import Ledger
from include.soar.ledger.actions import InForce
from include.soar.vendor.errors import VendorError
from threat_response import groups
from threat_response.runtime import settings
from threat_response.stages.in_force.at_control import AtControl, believed, protected_by, seen


def left(expires_at: datetime | None, now: datetime) -> str:
    """``3 h 12 min``; ``no end``; ``ended`` where it is past."""
    if expires_at is None:
        return "no end"
    minutes = int((expires_at - now) / timedelta(minutes=1))
    if minutes < 0:
        return "ended"
    days, rest = divmod(minutes, 24 * 60)
    return f"{days} d {rest // 60} h" if days else f"{rest // 60} h {rest % 60} min"


def how(row: InForce) -> str:
    """How far it is in force, in one word or a few."""
    if row.lifting:
        return "being lifted"
    reached = row.reached.value.replace("_", " ") if row.reached else "not known"
    return f"{row.outcome.value.replace('_', ' ')} ({reached})"


def document(row: InForce, now: datetime) -> dict[str, Any]:
    """As ``--json`` prints it."""
    return {
        "control": row.control,
        "type": row.observable.type.value,
        "value": row.observable.value,
        "rung": row.rung.value if row.rung else None,
        "outcome": row.outcome.value,
        "reached": row.reached.value if row.reached else None,
        "since": row.since.isoformat(),
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "seconds_left": max(0, int((row.expires_at - now).total_seconds())) if row.expires_at else None,
        "lifting": row.lifting,
        "protected_by": row.cancelled or None,
        "incidents": list(row.incidents),
        "run_id": row.run_id,
        "proof": dict(row.proof),
    }


def table(rows: Sequence[InForce], now: datetime) -> str:
    """One line for each, by control."""
    if not rows:
        return "nothing is in force"
    lines = []
    for control in dict.fromkeys(row.control for row in rows):
        mine = [row for row in rows if row.control == control]
        lines.append(f"{control}: {len(mine)} in force")
        for row in mine:
            until = when(row.expires_at) if row.expires_at else "-"
            told = ", ".join(row.incidents) or "no incident known"
            rung = row.rung.value if row.rung else "-"
            lines.append(
                f"  {safe(row.observable.value):<42} {rung:<11} {how(row):<28} "
                f"until {until} ({left(row.expires_at, now)}); {shown(told)}"
            )
            if row.cancelled:
                lines.append(f"    protected by now: {safe(row.cancelled)}; lift it")
    return "\n".join(lines)


def show(ledger: Ledger, *, control: str | None, as_json: bool) -> None:
    now = settings.now()
    rows = ledger.actions.rows_in_force(now, control)
    if as_json:
        print(json.dumps([document(row, now) for row in rows], indent=1))
    else:
        print(table(rows, now))


def check(ledger: Ledger, *, control: str | None) -> int:
    """Read back at the controls and print what differs from the ledger. :return: the exit code"""
    wrong = 0
    now = settings.now()
    for vendor, make in groups.controls().items():
        if control not in (None, vendor):
            continue
        operator = make()
        if not settings.connection_exists(operator.conn_id):
            print(f"{vendor}: passed over, there is no connection {operator.conn_id!r}")
            continue
        at = AtControl(operator, ledger, "command/blocks", "command")
        try:
            survey = at.survey([entry.observable for entry in at.entries.values()])
        except VendorError as error:
            print(f"{vendor}: NOT READ: {shown(error.facts)}")
            wrong += 1
            continue
        ours = [key for key, one in survey.held.items() if one.is_ours]
        moves = converge(believed(at, ours), seen(survey), protected_by(operator, now), now)
        differs = {key: move for key, move in moves.items() if move.changes}
        for key, move in differs.items():
            print(f"{vendor}: {safe(key)}: {move.fate.value.replace('_', ' ')}; {safe(move.why)}")
        print(f"{vendor}: {len(ours)} of ours there, {len(at.entries)} in the ledger, {len(differs)} differ")
        wrong += len(differs)
    if wrong:
        print("the DAG reconcile_blocks brings them in line")
    return 1 if wrong else 0


def protected(ledger: Ledger) -> int:
    """Print what is in force though an entry of the gate that was added later protects it. :return: how many"""
    rows = [row for row in ledger.actions.rows_in_force(settings.now(), doubtful=True) if row.cancelled]
    for row in rows:
        until = f" until {when(row.expires_at)}" if row.expires_at else ""
        print(f"{safe(row.observable.value)} is in force at {row.control}{until}: {safe(row.cancelled)}")
    if rows:
        print(f"{len(rows)} to be lifted: airflow threat-response lift VALUE --reason …, or the DAG reconcile_blocks")
    else:
        print("nothing is to be lifted")
    return len(rows)
