"""What a person asks for by hand, read once for all controls: the trigger form's values, and who filled it in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include.soar.model import Observable
from include.soar.vendor.errors import one_line
from threat_response.runtime import settings
from threat_response.runtime.run import Run
from threat_response.stages.base import StageOperator

if TYPE_CHECKING:
    from include.soar.ledger import Ledger

#: As the ledger's column has it.
LONGEST_NAME = 200
#: A reason is for people who read it next year.
SHORTEST_REASON = 3


class CannotDo(ValueError):
    """What was asked for cannot be done; the message says why, and nothing was done."""


def value_of(text: str) -> Observable:
    """One value as a person writes or pastes it, defanged or not. :raises CannotDo: it is none"""
    from include.soar.extract.refang import refang
    from include.soar.extract.values import parse_any

    if found := parse_any(refang(text.strip())):
        return found
    raise CannotDo(f"{one_line(text, 100)!r} is no address, network, domain name, URL, e-mail address or hash")


def reason_of(text: str | None) -> str:
    """:raises CannotDo: there is none"""
    reason = one_line(text or "")
    if len(reason) < SHORTEST_REASON:
        raise CannotDo("a reason is needed: whoever reads it later was not there")
    return reason


def who(run: Run) -> str:
    """The person who triggered the run in the UI or by the REST API."""
    return one_line(run.triggered_by or f"whoever triggered {run.name}", LONGEST_NAME)


def remember_lift(ledger: Ledger, observables: Iterable[Observable], *, by: str, reason: str, run_id: str) -> None:
    """
    That a person wants these lifted: before anything is removed, so that no run writes them again in the meantime.
    Once for each run.
    """
    ledger.actions.lifts_wanted(list(observables), by=by, reason=reason, run_id=run_id, now=settings.now())


def allow(ledger: Ledger, value: str, *, until: Any, owner: str, reason: str, by: str) -> list[Observable]:
    """
    Protect a value beside the policy, from now on. Nothing is lifted here.

    :return: what is in force, or may be, and is protected by it now
    :raises CannotDo: it is no value that can be protected, or the time is past
    """
    now = settings.now()
    try:
        ledger.allows.add(value.strip(), until=until, owner=owner, reason=reason, by=by, now=now)
    except ValueError as error:
        raise CannotDo(one_line(error)) from None
    gate = settings.gate(now)
    rows = ledger.actions.rows_in_force(now, doubtful=True)
    protected = {row.key: row.observable for row in rows if row.verb != "watch" and gate.check(row.observable)}
    return [observable for _, observable in sorted(protected.items())]


class AskedLift(StageOperator):
    """
    Read the trigger form of ``lift_block``, and remember that a person wants it lifted.

    :return: ``{"observables", "by", "reason"}``
    """

    def execute(self, context: Context) -> dict[str, Any]:
        run = Run.of(context)
        try:
            observables = [value_of(str(run.params.get("value") or ""))]
            by, reason = who(run), reason_of(run.params.get("reason"))
        except CannotDo as problem:
            raise AirflowFailException(str(problem)) from None
        ledger = settings.ledger()
        try:
            remember_lift(ledger, observables, by=by, reason=reason, run_id=run.name)
        finally:
            ledger.close()
        self.log.info("%s wants %s lifted: %s", by, ", ".join(one_line(o.key) for o in observables), reason)
        return {"observables": [o.to_json() for o in observables], "by": by, "reason": reason}


class AskedAllow(StageOperator):
    """
    Read the trigger form of ``allow_value``, protect the value from now on, and give what is to be lifted for it.

    :return: ``{"observables", "by", "reason"}``
    """

    def execute(self, context: Context) -> dict[str, Any]:
        run, ledger = Run.of(context), settings.ledger()
        value, owner = (one_line(run.params.get(name) or "") for name in ("value", "owner"))
        by = who(run)
        try:
            reason = reason_of(run.params.get("reason"))
            until = end_of(str(run.params.get("until") or ""))
            observables = allow(ledger, value, until=until, owner=owner or by, reason=reason, by=by)
            remember_lift(ledger, observables, by=by, reason=f"allowed: {reason}", run_id=run.name)
        except CannotDo as problem:
            raise AirflowFailException(str(problem)) from None
        finally:
            ledger.close()
        self.log.info("%s is allowed until %s by %s: %s", value, until, owner or by, reason)
        return {"observables": [o.to_json() for o in observables], "by": by, "reason": f"allowed: {reason}"}


def end_of(text: str) -> Any:
    """An instant, or a day, which counts to its end. :raises CannotDo: it is none, or it is past"""
    from datetime import timedelta

    from include.soar.window import WindowError, parse_instant

    try:
        until = parse_instant(text.strip(), "until")
    except WindowError as error:
        raise CannotDo(str(error)) from None
    if len(text.strip()) == len("2026-01-31"):
        until += timedelta(days=1)
    if until <= settings.now():
        raise CannotDo(f"until {text}: that is past")
    return until
