"""Akamai Client Lists in the workflow: the WAF's control, and the sensor that waits for the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, ObservableType, Outcome, Role, Verb
from include.soar.vendor.errors import Unavailable, VendorError
from threat_response.runtime import settings
from threat_response.stages.control import Confirm, Control, Incidents, Ours, Result
from threat_response.vendors.akamai_client_lists import api

if TYPE_CHECKING:
    from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook

#: An action, but for what is only known later: outcome, detail, proof.
PartialAction = Callable[..., Action]


class AkamaiClientListsBlockOperator(Control):
    """
    Put attackers' addresses on a client list and activate it. See :class:`Control`.

    ``blocked`` means that the network enforces a version of the list that holds the address. Whether a security
    policy refers to the list is not seen from here (README). An item that is not ours is left as it is.
    """

    vendor = api.VENDOR
    verb = Verb.DENY
    types = frozenset({ObservableType.IPV4, ObservableType.IPV6})

    def wants(self, indicator: Indicator) -> bool:
        # A WAF sees who calls our APIs. An address that our clients call never comes by there.
        return super().wants(indicator) and Role.ATTACKER in indicator.roles

    def preview(
        self, hook: AkamaiClientListsHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        changes = api.changes_for(hook.read_list(), indicators, incidents, settings.now())
        prolonged = {entry["value"] for entry in changes.update}
        actions = []
        for indicator in indicators:
            item = changes.held.get(indicator.observable)
            if indicator.observable in changes.no_room:
                would = f"would not fit: the list holds at most {api.MAXIMUM_ITEMS} items"
            elif item is None:
                would = f"would be appended to {hook.list_id} and activated in {hook.network}"
            elif item.value in prolonged:
                would = f"is in {hook.list_id} already and would be prolonged"
            else:
                would = f"is in {hook.list_id} already"
            actions.append(self.action(indicator, Outcome.PLANNED, would))
        return Result(actions)

    def ensure(
        self, hook: AkamaiClientListsHook, indicators: Sequence[Indicator], incidents: Incidents, ours: Ours
    ) -> Result:
        client_list = hook.read_list()
        changes = api.changes_for(client_list, indicators, incidents, settings.now())
        refused: dict[str, str] = {}
        stopped: VendorError | None = None
        if changes.append or changes.update:
            refused, stopped = hook.write_items(append=changes.append, update=changes.update)
            client_list = hook.read_list()
        state = hook.state(client_list)
        done = Result(error=stopped)
        holdings = api.Holdings(client_list.items or ())
        waiting: list[PartialAction] = []
        written = {entry["value"] for entry in (*changes.append, *changes.update)} - set(refused)
        for indicator in indicators:
            item, is_ours = holdings.holding(ipaddress.ip_address(indicator.observable.value), settings.now())
            if item is None:
                full = indicator.observable in changes.no_room
                done.actions.append(self._missing(indicator, full, refused, stopped))
                continue
            action_of = partial(
                self.action,
                indicator,
                changed=bool(written & {item.value, indicator.observable.value}),
                expires_at=item.expirationDate,
            )
            if not is_ours:
                done.actions.append(_someone_elses(action_of, item, state))
            # A refusal alone is no failure: an overlapping run may have written the very item meanwhile.
            elif problem := _too_short(indicator, item, refused.get(item.value) or stopped):
                done.actions.append(action_of(Outcome.FAILED, problem, changed=False))
            elif state.enforces_item(item):
                done.actions.append(action_of(Outcome.BLOCKED, _in_force(state), proof=_proof(state, state.active)))
            else:
                waiting.append(action_of)
        if waiting:
            self._activate(hook, state, waiting, done)
        return done

    def lift(self, hook: AkamaiClientListsHook, actions: Sequence[Action]) -> Result:
        client_list = hook.read_list()
        holdings = api.Holdings(client_list.items or ())
        done = Result()
        #: Items that are not in the list, each with whether this call removed it.
        absent: list[tuple[Action, bool]] = []
        doomed: dict[str, Action] = {}
        for action in actions:
            item = holdings.exactly(_address(action)) if self._takes(action) else None
            if item is None:
                absent.append((action, False))
            elif why := api.kept_because(item, action):
                done.actions.append(self.lifted(action, Outcome.NOT_OURS, why))
            else:
                doomed[item.value] = action
        refused: dict[str, str] = {}
        if doomed:
            refused, done.error = hook.delete_items(list(doomed))
            client_list = hook.read_list()
        still_there = {item.value for item in client_list.items or ()}
        for value, action in doomed.items():
            if value in still_there:
                why = refused.get(value) or str(done.error or "removed, but in the list when it was read back")
                done.actions.append(self.lifted(action, Outcome.FAILED, f"not removed: {why}"))
            else:
                absent.append((action, True))
        if absent:
            self._until_enforced(hook, client_list, absent, done)
        return done

    def _takes(self, action: Action) -> bool:
        return action.observable.type in self.types

    def _until_enforced(
        self,
        hook: AkamaiClientListsHook,
        client_list: api.ClientList,
        absent: Sequence[tuple[Action, bool]],
        done: Result,
    ) -> None:
        """Have the network take over a list from which items were removed, now or by an earlier try."""
        state = hook.state(client_list)
        if not (state.enforces(state.latest) or (state.active is None and state.pending is None)):
            waiting: list[PartialAction] = [partial(self.lifted, action, changed=now) for action, now in absent]
            self._activate(hook, state, waiting, done)
            return
        holdings = api.Holdings(client_list.items or ())
        for action, removed_now in absent:
            detail = f"not in {state.list_id}, as {state.network} enforces it"
            if self._takes(action) and (other := holdings.holding(_address(action), settings.now())[0]):
                detail += f"; the address is still held by the item {other.value}, which is not ours"
            outcome = Outcome.LIFTED if removed_now else Outcome.GONE
            done.actions.append(self.lifted(action, outcome, detail, changed=removed_now))

    def _missing(
        self, indicator: Indicator, no_room: bool, refused: dict[str, str], stopped: VendorError | None
    ) -> Action:
        if no_room:
            why = f"the list is full: it holds at most {api.MAXIMUM_ITEMS} items"
        elif reason := refused.get(indicator.observable.value):
            why = f"refused: {reason}"
        else:
            why = str(stopped) if stopped else "written, but not in the list when it was read back"
        return self.action(indicator, Outcome.FAILED, why, expires_at=None)

    def _activate(
        self, hook: AkamaiClientListsHook, state: api.State, waiting: list[PartialAction], done: Result
    ) -> None:
        """Have the network take over the list, once, and say of each waiting item where it stands."""
        wanted = state.latest
        outcome, detail = Outcome.PENDING, ""
        try:
            if done.error is not None:
                # Activating half of it now would only make the other half wait for that activation.
                raise done.error
            if state.pending is None:
                if activation := hook.activate(f"Threat response: {len(waiting)} addresses"):
                    state = state.after(activation)
                else:
                    state = hook.state()
            if state.pending is None or state.pending < wanted:
                # Waiting here would hold a slot. Airflow tries again, and by then the older one is through.
                done.error = Unavailable(self.vendor, "activate", "an activation is pending; ours must follow it")
            detail = f"the list is at version {wanted}, {state.network} is {state.status}"
            detail += f" ({done.error.reason})" if done.error else ""
        except VendorError as error:
            done.error, outcome = error, Outcome.FAILED
            state = replace(state, activation_id=None)
            detail = f"written to the list, but not known to be activated: {error}"
        done.actions += [action_of(outcome, detail, proof=_proof(state, wanted)) for action_of in waiting]


class AkamaiClientListsActiveSensor(Confirm):
    """Wait until the network enforces the version that holds our items, or no longer does. See :class:`Confirm`."""

    vendor = api.VENDOR

    def confirm(self, hook: AkamaiClientListsHook, actions: Sequence[Action]) -> list[Action]:
        state = hook.state()
        return [self._confirm(action, state) for action in actions]

    @staticmethod
    def _confirm(action: Action, state: api.State) -> Action:
        version = action.proof.get("version")
        if isinstance(version, int) and state.enforces(version):
            return action.model_copy(
                update={
                    "outcome": Outcome.LIFTED if action.verb is Verb.LIFT else Outcome.BLOCKED,
                    "detail": _in_force(state),
                    "proof": {**action.proof, "active_version": state.active},
                }
            )
        if state.status == "FAILED":
            why = f"the activation of version {version} failed; the next run requests another"
        elif state.pending is None:
            why = f"{state.network} is {state.status} with version {state.active}, and nothing is pending"
        else:
            why = f"{state.network} is taking over version {state.pending}, and version {version} is wanted"
        return action.model_copy(update={"detail": why})


def _address(action: Action) -> api.IPAddress:
    return ipaddress.ip_address(action.observable.value)


def _in_force(state: api.State) -> str:
    return f"{state.network} enforces version {state.active} of the list"


def _too_short(indicator: Indicator, item: api.Item, why: object) -> str | None:
    if item.expirationDate is None or item.expirationDate >= api.ends_at(indicator):
        return None
    return f"could not be prolonged: {why}" if why else "was prolonged, but reads back with the old end"


def _someone_elses(action_of: PartialAction, item: api.Item, state: api.State) -> Action:
    whose = f"held by the item {item.value}, which is not ours and was left alone"
    proof = _proof(state, state.active if state.enforces_item(item) else state.latest)
    if not item.in_force_at(settings.now()):
        return action_of(Outcome.EXPIRED, f"{whose}; it has ended, and stands in the way of ours", proof=proof)
    if state.enforces_item(item):
        return action_of(Outcome.BLOCKED, f"{_in_force(state)}; {whose}", proof=proof)
    return action_of(Outcome.PENDING, f"{whose}; {state.network} does not enforce it yet ({state.status})", proof=proof)


def _proof(state: api.State, version: int | None) -> dict[str, str | int | None]:
    return {
        "list": state.list_id,
        "version": version,
        "network": state.network,
        "activation_id": state.activation_id,
    }


#: What the registry takes.
BLOCK = AkamaiClientListsBlockOperator
CONFIRM = AkamaiClientListsActiveSensor
