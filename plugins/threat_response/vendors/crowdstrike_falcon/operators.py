"""CrowdStrike Falcon in the workflow: the EDR's control."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from include.soar.model import Action, Indicator, Observable, ObservableType, Outcome, Reached, Verb
from include.soar.vendor.errors import VendorError
from threat_response.runtime import settings
from threat_response.stages.control import (
    Control,
    Held,
    Incidents,
    Ours,
    Result,
    Survey,
    decided_by_a_person,
)
from threat_response.vendors.crowdstrike_falcon import api

if TYPE_CHECKING:
    from include.soar.ledger.actions import KnownAction
    from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook


class CrowdStrikeFalconBlockOperator(Control):
    """
    Make custom indicators of compromise. See :class:`Control`.

    Hashes are prevented (``blocked``); addresses and domains can only be detected (``detect_only``), unless the tenant
    takes more and the connection says so. The outcome is what the indicator reads back as. An indicator that is not
    ours is left as it is.
    """

    vendor = api.VENDOR
    verb = Verb.CONTAIN
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6, ObservableType.DOMAIN, ObservableType.FILE})

    def survey(self, hook: CrowdStrikeFalconHook, ours: Ours, now: datetime, also: Iterable[Observable] = ()) -> Survey:
        found = [(api.observable_of(ioc), ioc) for ioc in hook.ours().values()]
        held = {o.key: _held(o, ioc, now, ours) for o, ioc in found if o is not None and ioc.ours}
        asked = {o.key: o for o in (*also, *filter(None, map(Observable.of_key, ours))) if _is_usable(o)}
        others = hook.search([observable for key, observable in asked.items() if key not in held])
        for key, observable in asked.items():
            if ioc := others.get(api.key_of(observable)):
                held[key] = _held(observable, ioc, now, ours)
        return Survey(held, place=hook.url)

    def preview(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        usable, actions = self._usable(indicators)
        found = hook.search([i.observable for i in usable])
        changes = _changes(usable, incidents, found, hook.wanted, ours)
        for indicator in usable:
            ioc = found.get(api.key_of(indicator.observable))
            ends: datetime | None = api.ends_at(indicator)
            if why := changes.by_person.get(indicator.observable.key):
                actions.append(self.by_a_person(indicator, why))
                continue
            if ioc is None:
                would = f"would be created with the action {hook.wanted.action(indicator)}"
            elif ioc.id in changes.updated:
                would = "exists and would be updated"
            else:
                would, ends = f"exists already: {api.outcome_of(ioc, hook.wanted)[1]}", ioc.expiration
            writes = ioc is None or ioc.id in changes.updated
            actions.append(self.action(indicator, Outcome.PLANNED, would, changed=writes, expires_at=ends))
        return Result(actions)

    def ensure(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        usable, actions = self._usable(indicators)
        observables = [i.observable for i in usable]
        found = hook.search(observables)
        changes = _changes(usable, incidents, found, hook.wanted, ours)
        refused: dict[str, str] = {}
        stopped: VendorError | None = None
        if changes.create or changes.update:
            self.intend(changes.indicators)
            refused, stopped = hook.write(create=changes.create, update=changes.update, comment="Threat response")
            found = hook.search(observables)
        written = {row.get("id") or row["value"] for row in (*changes.create, *changes.update)} - set(refused)
        for indicator in usable:
            ioc = found.get(api.key_of(indicator.observable))
            if why := changes.by_person.get(indicator.observable.key):
                actions.append(self.by_a_person(indicator, why))
            elif ioc is None:
                reason = refused.get(indicator.observable.value)
                why = f"refused: {reason}" if reason else str(stopped or "created, but not found when read back")
                reached = None if reason else Reached.INTENDED if stopped else Reached.ACCEPTED
                actions.append(self.action(indicator, Outcome.FAILED, why, expires_at=None, reached=reached))
            elif ioc.ours and api.update_for(ioc, indicator, hook.wanted):
                why = refused.get(ioc.id) or str(stopped or "updated, but reads back as before")
                actions.append(self._read_back(indicator, ioc, Outcome.FAILED, f"not updated: {why}"))
            else:
                changed = bool(written & {ioc.id, ioc.value})
                outcome, detail = api.outcome_of(ioc, hook.wanted)
                actions.append(self._read_back(indicator, ioc, outcome, detail, changed=changed))
        return Result(actions, stopped)

    def lift(self, hook: CrowdStrikeFalconHook, actions: Sequence[Action]) -> Result:
        found = hook.search([action.observable for action in actions if _is_usable(action.observable)])
        done = Result()
        doomed: dict[str, Action] = {}
        for action in actions:
            ioc = found.get(api.key_of(action.observable)) if _is_usable(action.observable) else None
            if ioc is None:
                done.actions.append(self.lifted(action, Outcome.GONE, "there is no such indicator"))
            elif why := api.kept_because(ioc, action):
                done.actions.append(self.lifted(action, Outcome.NOT_OURS, why))
            else:
                doomed[ioc.id] = action
        if not doomed:
            return done
        self.intend(doomed.values())
        refused, done.error = hook.delete(list(doomed), "Threat response: lifted")
        found = hook.search([action.observable for action in doomed.values()])
        for ioc_id, action in doomed.items():
            if api.key_of(action.observable) in found:
                why = refused.get(ioc_id) or str(done.error or "deleted, but found when read back")
                done.actions.append(self.lifted(action, Outcome.FAILED, f"not deleted: {why}"))
            else:
                done.actions.append(self.lifted(action, Outcome.LIFTED, "the indicator was deleted", changed=True))
        return done

    def _usable(self, indicators: Sequence[Indicator]) -> tuple[list[Indicator], list[Action]]:
        """Those that Falcon takes, and an action for each that it does not."""
        usable, actions = [], []
        for indicator in indicators:
            try:
                api.type_of(indicator.observable)
            except ValueError as problem:
                actions.append(self.action(indicator, Outcome.UNSUPPORTED, str(problem), expires_at=None))
            else:
                usable.append(indicator)
        return usable, actions

    def _read_back(
        self, indicator: Indicator, ioc: api.IOC, outcome: Outcome, detail: str, *, changed: bool = False
    ) -> Action:
        ends = ioc.expiration
        # Nothing was asked of the control about another owner's.
        reached = {} if ioc.ours else {"reached": None}
        return self.action(
            indicator,
            outcome,
            detail,
            changed=changed,
            expires_at=ends,
            proof={
                "indicator_id": ioc.id,
                "action": ioc.action,
                "expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ") if ends else None,
            },
            **reached,
        )


@dataclass
class _Changes:
    """
    What Falcon lacks.

    :param indicators: those whose rows are in ``create`` and ``update``
    :param by_person: by observable key, why it is left as a person has it
    """

    create: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    indicators: list[Indicator] = field(default_factory=list)
    by_person: dict[str, str] = field(default_factory=dict)

    @property
    def updated(self) -> set[str]:
        return {row["id"] for row in self.update}


def _changes(
    indicators: Sequence[Indicator],
    incidents: Incidents,
    found: dict[tuple[str, str], api.IOC],
    wanted: api.Wanted,
    ours: Ours,
) -> _Changes:
    changes, now = _Changes(), settings.now()
    for indicator in indicators:
        key = indicator.observable.key
        ioc, known = found.get(api.key_of(indicator.observable)), ours.get(key)
        row = api.update_for(ioc, indicator, wanted) if ioc is not None and ioc.ours else None
        if ioc is not None and row is None:
            continue
        altered = _altered(ioc, known) if ioc is not None else None
        if why := decided_by_a_person(indicator, known, now, altered=altered):
            changes.by_person[key] = why
            continue
        changes.indicators.append(indicator)
        if row is None:
            changes.create.append(api.creation(indicator, incidents.get(key, []), wanted))
        else:
            changes.update.append(row)
    return changes


def _altered(ioc: api.IOC, known: KnownAction | None) -> str:
    """
    What a person changed of ours. The action that we left is known only where no write of ours is under way: one may
    have raised it.
    """
    if known is None:
        return api.altered(ioc, {None})
    action = known.proof.get("action") if known.intended_verb is None else None
    return api.altered(ioc, known.ends, action)


def _held(observable: Observable, ioc: api.IOC, now: datetime, ours: Ours) -> Held:
    ended = ioc.ended_at(now)
    return Held(
        observable,
        ioc.expiration,
        ioc.ours,
        altered=_altered(ioc, ours.get(observable.key)) if ioc.ours else "",
        ended=ended,
        reached=None if ended or ioc.action in api.HARMLESS else Reached.ACTIVE,
        proof={"indicator_id": ioc.id, "action": ioc.action},
    )


def _is_usable(observable: Observable) -> bool:
    try:
        api.type_of(observable)
    except ValueError:
        return False
    return True


#: What the registry takes.
BLOCK = CrowdStrikeFalconBlockOperator
