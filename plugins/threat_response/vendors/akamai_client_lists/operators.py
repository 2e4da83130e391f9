"""Akamai Client Lists in the workflow: the WAF's control, and the sensor that waits for the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from include.soar.model import Action, Indicator, ObservableType, Outcome, Role, Verb
from include.soar.vendor.errors import Unavailable, VendorError
from threat_response.runtime import settings
from threat_response.stages.control import Confirm, Control, Incidents, Ours, Result
from threat_response.vendors.akamai_client_lists import api

if TYPE_CHECKING:
    from threat_response.vendors.akamai_client_lists.hook import AkamaiClientListsHook

#: The status of a refusal that passes.
CONFLICT = 409

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
        written = {entry["value"] for entry in (*changes.append, *changes.update)} - set(refused)
        seen = _Seen(hook, client_list, written)
        done = Result(error=stopped)
        waiting: list[PartialAction] = []
        for indicator in indicators:
            item, is_ours = seen.holdings.holding(_address(indicator), settings.now())
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
                done.actions.append(_someone_elses(action_of, item, seen))
            # A refusal alone is no failure: an overlapping run may have written the very item meanwhile.
            elif problem := _too_short(indicator, item, refused.get(item.value) or stopped):
                done.actions.append(action_of(Outcome.FAILED, problem, changed=False))
            elif known := _known(action_of, item, seen):
                done.actions.append(known)
            else:
                waiting.append(action_of)
        if waiting:
            self._activate(hook, seen.state, waiting, done)
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
        """
        Have the network take over a list from which items were removed, now or by an earlier try. A list that is ahead
        of the network by other people's changes only is left to them: what the network holds is looked up.
        """
        state = hook.state(client_list)
        there: list[api.Holdings] = []
        unknown = state.failed and state.active is None
        if state.status not in api.WITHDRAWN and not state.enforces(state.latest):
            there = [hook.snapshot(version) for version in {state.active, state.pending} - {None}]
        holdings = api.Holdings(client_list.items or ())
        waiting: list[PartialAction] = []
        for action, removed_now in absent:
            mine = self._takes(action)
            if mine and (unknown or any(version.exactly(_address(action)) for version in there)):
                waiting.append(partial(self.lifted, action, changed=removed_now))
                continue
            detail = f"not in {state.list_id}, nor where {state.network} enforces it"
            if mine and (other := holdings.holding(_address(action), settings.now())[0]):
                detail += f"; the address is still held by the item {other.value}, which is not ours"
            outcome = Outcome.LIFTED if removed_now else Outcome.GONE
            done.actions.append(self.lifted(action, outcome, detail, changed=removed_now))
        if waiting:
            self._activate(hook, state, waiting, done)

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
            done.error = error
            # A conflict passes, and the task is tried again.
            outcome = Outcome.PENDING if error.status == CONFLICT else Outcome.FAILED
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
        if state.failed and not _precedes(state, action):
            # Nothing is on its way any more: to wait would only hide it.
            why = f"the activation of version {version} failed; the block task, run again, requests another"
            ends = action.expires_at if action.verb is Verb.LIFT else None
            return action.model_copy(update={"outcome": Outcome.FAILED, "detail": why, "expires_at": ends})
        if state.pending is None:
            why = f"{state.network} is {state.status} with version {state.active}, and nothing is pending"
        else:
            why = f"{state.network} is taking over version {state.pending}, and version {version} is wanted"
        return action.model_copy(update={"detail": why})


@dataclass
class _Seen:
    """
    The list and its network as read back.

    :param written: the values that this try has written
    """

    hook: AkamaiClientListsHook
    client_list: api.ClientList
    written: Collection[str]

    @cached_property
    def state(self) -> api.State:
        return self.hook.state(self.client_list)

    @cached_property
    def holdings(self) -> api.Holdings:
        return api.Holdings(self.client_list.items or ())

    @cached_property
    def enforced(self) -> api.Holdings:
        return self.hook.snapshot(self.state.active)

    def enforces(self, item: api.Item) -> bool:
        if item.value in self.written:
            # Its status may still be that of before the change.
            return self.state.enforces(self.state.latest)
        known = self.state.enforces_item(item)
        return self.enforced.has(item) if known is None else known

    def takes_over(self, item: api.Item) -> bool:
        """Whether the network is about to enforce it, with no need of another activation."""
        if item.value in self.written:
            return self.state.pending is not None and self.state.pending >= self.state.latest
        return self.state.takes_over(item)


def _address(wanted: Action | Indicator) -> api.IPAddress:
    return ipaddress.ip_address(wanted.observable.value)


def _known(action_of: PartialAction, item: api.Item, seen: _Seen) -> Action | None:
    """The action of an item of ours that is in force or about to be; None: an activation must bring it."""
    state = seen.state
    if seen.enforces(item):
        return action_of(Outcome.BLOCKED, _in_force(state), proof=_proof(state, state.active))
    if seen.takes_over(item):
        detail = f"{state.network} is taking over version {state.pending} of the list"
        return action_of(Outcome.PENDING, detail, proof=_proof(state, state.pending))
    return None


def _in_force(state: api.State) -> str:
    return f"{state.network} enforces version {state.active} of the list"


def _too_short(indicator: Indicator, item: api.Item, why: object) -> str | None:
    if item.expirationDate is None or item.expirationDate >= api.ends_at(indicator):
        return None
    return f"could not be prolonged: {why}" if why else "was prolonged, but reads back with the old end"


def _precedes(state: api.State, action: Action) -> bool:
    """Whether the network still speaks of an activation that is older than the one requested for this action."""
    requested = action.proof.get("activation_id")
    return isinstance(requested, int) and state.activation_id is not None and state.activation_id < requested


def _someone_elses(action_of: PartialAction, item: api.Item, seen: _Seen) -> Action:
    state, enforced = seen.state, seen.enforces(item)
    if isinstance(item, api.UnreadableItem):
        return action_of(Outcome.FAILED, f"the item {item.value} was left alone: {item.problem}")
    whose = f"held by the item {item.value}, which is not ours and was left alone"
    proof = _proof(state, state.active if enforced else state.latest)
    if not item.in_force_at(settings.now()):
        return action_of(Outcome.EXPIRED, f"{whose}; it has ended, and stands in the way of ours", proof=proof)
    if enforced:
        return action_of(Outcome.BLOCKED, f"{_in_force(state)}; {whose}", proof=proof)
    outcome = Outcome.FAILED if state.failed else Outcome.PENDING
    return action_of(outcome, f"{whose}; {state.network} does not enforce it yet ({state.status})", proof=proof)


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
