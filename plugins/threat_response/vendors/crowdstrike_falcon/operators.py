"""CrowdStrike Falcon in the workflow: the EDR's control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from include.soar.model import Action, Indicator, ObservableType, Outcome, Verb
from include.soar.vendor.errors import VendorError
from threat_response.stages.control import Control, Incidents, Ours, Result
from threat_response.vendors.crowdstrike_falcon import api

if TYPE_CHECKING:
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

    def preview(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        usable, actions = self._usable(indicators)
        found = hook.search([i.observable for i in usable])
        rows = hook.rows
        for indicator in usable:
            ioc = found.get(api.key_of(indicator.observable))
            action = api.wanted_action(indicator.observable, rows["hash_action"], rows["address_action"])
            if ioc is None:
                would = f"would be created with the action {action}"
            elif ioc.ours and _update(ioc, indicator, rows):
                would = "exists and would be updated"
            else:
                would = f"exists already: {api.outcome_of(ioc)[1]}"
            actions.append(self.action(indicator, Outcome.PLANNED, would))
        return Result(actions)

    def ensure(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        usable, actions = self._usable(indicators)
        observables = [i.observable for i in usable]
        rows = hook.rows
        found = hook.search(observables)
        create, update = _rows(usable, incidents, found, rows)
        refused: dict[str, str] = {}
        stopped: VendorError | None = None
        if create or update:
            refused, stopped = hook.write(create=create, update=update, comment="Threat response")
            found = hook.search(observables)
        written = {row.get("id") or row["value"] for row in (*create, *update)} - set(refused)
        for indicator in usable:
            ioc = found.get(api.key_of(indicator.observable))
            if ioc is None:
                reason = refused.get(indicator.observable.value)
                why = f"refused: {reason}" if reason else str(stopped or "created, but not found when read back")
                actions.append(self.action(indicator, Outcome.FAILED, why, expires_at=None))
            elif ioc.ours and _update(ioc, indicator, rows):
                why = refused.get(ioc.id) or str(stopped or "updated, but reads back as before")
                actions.append(self._read_back(indicator, ioc, Outcome.FAILED, f"not updated: {why}"))
            else:
                changed = bool(written & {ioc.id, ioc.value})
                actions.append(self._read_back(indicator, ioc, *api.outcome_of(ioc), changed=changed))
        return Result(actions, stopped)

    def lift(self, hook: CrowdStrikeFalconHook, actions: Sequence[Action]) -> Result:
        found = hook.search([action.observable for action in actions if _is_usable(action)])
        done = Result()
        doomed: dict[str, Action] = {}
        for action in actions:
            ioc = found.get(api.key_of(action.observable)) if _is_usable(action) else None
            if ioc is None:
                done.actions.append(self.lifted(action, Outcome.GONE, "there is no such indicator"))
            elif why := api.kept_because(ioc, action):
                done.actions.append(self.lifted(action, Outcome.NOT_OURS, why))
            else:
                doomed[ioc.id] = action
        if not doomed:
            return done
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
        )


def _rows(
    indicators: Sequence[Indicator],
    incidents: Incidents,
    found: dict[tuple[str, str], api.IOC],
    rows: dict[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What to create, and what to update."""
    create, update = [], []
    for indicator in indicators:
        ioc = found.get(api.key_of(indicator.observable))
        if ioc is None:
            create.append(api.creation(indicator, incidents.get(indicator.observable.key, []), **rows))
        elif ioc.ours and (row := _update(ioc, indicator, rows)):
            update.append(row)
    return create, update


def _update(ioc: api.IOC, indicator: Indicator, rows: dict[str, Any]) -> dict[str, Any] | None:
    wanted = {name: rows[name] for name in ("hash_action", "address_action", "severity")}
    return api.update_for(ioc, indicator, **wanted)


def _is_usable(action: Action) -> bool:
    try:
        api.type_of(action.observable)
    except ValueError:
        return False
    return True


#: What the registry takes.
BLOCK = CrowdStrikeFalconBlockOperator
