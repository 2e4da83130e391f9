"""CrowdStrike Falcon in the workflow: the EDR's control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.soar.model import Action, Indicator, ObservableType, Outcome, Verb
from include.soar.vendor.errors import VendorError
from threat_response.stages.control import ControlOperator, Result
from threat_response.vendors.crowdstrike_falcon import api
from threat_response.vendors.crowdstrike_falcon.hook import CrowdStrikeFalconHook


class CrowdStrikeFalconBlockOperator(ControlOperator):
    """
    Make custom indicators of compromise. See :class:`ControlOperator`.

    Hashes are prevented (``blocked``); addresses and domains can only be detected (``detect_only``). The outcome is
    what the indicator reads back as. An indicator of somebody else is left as it is.
    """

    control = api.VENDOR
    verb = Verb.CONTAIN
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6, ObservableType.DOMAIN, ObservableType.FILE})
    hook_class = CrowdStrikeFalconHook

    def preview(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]
    ) -> Result:
        usable, actions = self._sort(indicators)
        found = hook.search([i.observable for i in usable])
        rows = hook.rows
        for indicator in usable:
            ioc = found.get(api.key_of(indicator.observable))
            action = api.wanted_action(indicator.observable, rows["hash_action"])
            if ioc is None:
                would = f"would be created with the action {action}"
            elif ioc.ours and self._update(ioc, indicator, rows):
                would = "exists and would be updated"
            else:
                would = f"exists already: {api.outcome_of(ioc)[1]}"
            actions.append(self.action(indicator, Outcome.PLANNED, would))
        return Result(actions)

    def ensure(
        self, hook: CrowdStrikeFalconHook, indicators: Sequence[Indicator], incidents: dict[str, list[str]]
    ) -> Result:
        usable, actions = self._sort(indicators)
        observables = [i.observable for i in usable]
        rows = hook.rows
        found = hook.search(observables)
        create = [
            api.creation(i, incidents.get(i.observable.key, []), **rows)
            for i in usable
            if api.key_of(i.observable) not in found
        ]
        update = [
            row
            for i in usable
            if (ioc := found.get(api.key_of(i.observable))) and ioc.ours and (row := self._update(ioc, i, rows))
        ]
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
            elif ioc.ours and self._update(ioc, indicator, rows):
                why = refused.get(ioc.id) or str(stopped or "updated, but reads back as before")
                actions.append(self._read_back(indicator, ioc, Outcome.FAILED, f"not updated: {why}"))
            else:
                changed = bool(written & {ioc.id, ioc.value})
                actions.append(self._read_back(indicator, ioc, *api.outcome_of(ioc), changed=changed))
        return Result(actions, stopped)

    def _sort(self, indicators: Sequence[Indicator]) -> tuple[list[Indicator], list[Action]]:
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

    @staticmethod
    def _update(ioc: api.IOC, indicator: Indicator, rows: dict[str, Any]) -> dict[str, Any] | None:
        return api.update_for(ioc, indicator, hash_action=rows["hash_action"], severity=rows["severity"])

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


#: What the registry takes.
BLOCK = CrowdStrikeFalconBlockOperator
